#!/usr/bin/env bash
# bench/gpu/run.sh [correctness|timings|tune]…: what `build.ts` made, on a machine with a GPU; answers go to $OUT.
# Sourced before it: .gpu/enter.sh (Node and Dawn). Each part has a time limit, a file of its own, and cannot stop the next.
set -u
cd "$(dirname "$0")/../.."
out=${OUT:-.gpu/out}; mkdir -p "$out"
app=.gpu/app
export BENCH_PYTHON=${BENCH_PYTHON:-python3} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
began=$SECONDS

part() { # part NAME SECONDS FILE COMMAND…: its last lines are shown too
  local name=$1 limit=$2 file=$out/$3; shift 3
  local start=$SECONDS
  { echo "== $name"; timeout -k 5 "$limit" "$@" 2>&1; echo "== $name: status $?, $((SECONDS - start)) s"; } >>"$file"
  echo "== $name: $((SECONDS - start)) s (at $((SECONDS - began)) s)"; tail -n "${SHOW:-4}" "$file" | cut -c1-200
}

environment() {
  command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.limit,temperature.gpu --format=csv
  uname -r; node --version; nproc
  echo "VK_DRIVER_FILES=${VK_DRIVER_FILES:-}"; [ -n "${VK_DRIVER_FILES:-}" ] && cat "$VK_DRIVER_FILES"
  ls /usr/share/vulkan/icd.d /etc/vulkan/icd.d /usr/local/nvidia/share/vulkan/icd.d 2>/dev/null
  "$BENCH_PYTHON" -c 'import sys, torch; print(sys.version.split()[0], torch.__version__, torch.version.cuda, torch.cuda.is_available())' &
  node $app/environment.mjs
  wait
}

conformance() { # conformance FILE SECONDS FLAGS…
  local file=$1 limit=$2; shift 2
  part "conformance $*" "$limit" "$file" node $app/conformance.mjs "$@" test/fixtures/conformance
}

for wanted in "${@:-correctness}"; do
  case $wanted in
    correctness)
      export -f environment; export app
      SHOW=40 part environment 40 environment.txt bash -c environment
      # Files beside each other: each has a device of its own, and most of the time is the compiler's.
      SHOW=60 part "kernel tests" 60 tests.txt node --test --test-force-exit --test-concurrency=8 --test-reporter=./bench/gpu/reporter.mjs $app/*.test.mjs
      # Weights and activations in f32, then in f16, by rule; then each variant where it can run.
      {
        conformance conformance-f32.txt 40 --storage f32 &
        conformance conformance-f16.txt 40 --storage f16 &
        conformance conformance-matrix.txt 40 --storage f16 --kernels matrix &
        conformance conformance-packed.txt 40 --storage f16 --activations f32 &
        wait
      }
      {
        for storage in f32 f16; do
          (for kernels in subgroup tiled winograd narrow textured joined apart; do
            SHOW=1 conformance "conformance-variants-$storage.txt" 20 --storage $storage --kernels $kernels
          done) &
        done
        wait
      }
      ;;
    timings)
      SHOW=200 part ops 60 ops.txt node $app/bench.mjs ops --device "${DEVICE:-cuda}" ${SMALL:+--small} --json "$out/ops.json"
      SHOW=60 part unet 80 unet.txt node $app/bench.mjs unet --device "${DEVICE:-cuda}" ${SMALL:+--small} --json "$out/unet.json"
      ;;
    tune)
      SHOW=150 part tune 150 tune.txt node $app/bench.mjs tune --device "${DEVICE:-cuda}" ${SMALL:+--small} --json "$out/tune.json"
      ;;
    *) echo "no part $wanted: correctness, timings, tune" >&2 ;;
  esac
done
