#!/bin/sh
# Every training stage on a tiny size, from nothing to an exported, distilled and measured model; then again
# with the exported model as the start.
# Without PyTorch, numpy and Pillow it says SKIPPED and succeeds: they are not needed to run Daguerre.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if ! "$python" -c 'import torch, numpy, PIL' 2>/dev/null; then
    echo "SKIPPED: $python has no torch, numpy or PIL"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
"$python" "$here/run_all.py" --run "$work/run" --out "$work/model" --smoke
"$python" "$here/run_all.py" --run "$work/again" --out "$work/model" --init "$work/model" --smoke
for file in model_index.json scheduler/scheduler_config.json text_encoder/model.safetensors tokenizer/merges.txt \
    unet/diffusion_pytorch_model.safetensors vae/diffusion_pytorch_model.safetensors latent_rgb.json words.json \
    few-step/pytorch_lora_weights.safetensors large/pytorch_lora_weights.safetensors evaluation.json \
    evaluation-few-step.json evaluation-large.json contact-sheet.jpg contact-sheet-few-step.jpg contact-sheet-large.jpg; do
    test -s "$work/model/$file" || { echo "FAILED: $file was not written"; exit 1; }
done
echo "PASSED"
