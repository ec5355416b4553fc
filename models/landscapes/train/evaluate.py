"""Measures an exported model: does it draw what the prompt says, how far are its pictures from real renders,
what does its autoencoder lose.

    python3 evaluate.py classifier --run DIR --minutes 12         trains DIR/classifier.pt
    python3 evaluate.py model --run DIR --model ../ [--steps 8 --guidance 3 | --few-step] [--large]
                                                                  [--out evaluation.json]

The classifier reads seven attributes off latents; its accuracy on held-out renders is the ceiling of the
model's. Prompts name every attribute of 512 held-out scenes (absence of a sun or a subject cannot be named).
The Fréchet distance is between the classifier's 256 features of 512 samples and of 512 other held-out
renders; two such sets of real renders give the floor. Pictures of the large variant are halved before they are read.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from arithmetic import autocast
from captioned import Captioned
from dataset import LARGE, NATIVE, picture_shards, to_tensor
from latents import LinearLatents
from networks import LATENT_CHANNELS
from pipeline import FEW_STEP, FEW_STEPS, GUIDANCE, LARGE_VARIANT, Pipeline
from scenes import ATTRIBUTES, labels, mirrored

SAMPLES = 512


class Classifier(nn.Module):
    FEATURES = 256

    def __init__(self):
        super().__init__()

        def conv(channels_in, channels, stride=1):
            return [nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False),
                    nn.BatchNorm2d(channels), nn.ReLU()]

        self.features = nn.Sequential(
            *conv(LATENT_CHANNELS, 64), *conv(64, 64), *conv(64, 128, 2), *conv(128, 128), *conv(128, 160, 2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(160 * 16, self.FEATURES), nn.ReLU(), nn.Dropout(0.2))
        self.heads = nn.ModuleList([nn.Linear(self.FEATURES, len(values)) for values in ATTRIBUTES.values()])

    def forward(self, latents):
        """latents [n, 12, 16, 16] -> features [n, 256], logits of each attribute"""
        features = self.features(latents)
        return features, [head(features) for head in self.heads]

    @torch.no_grad()
    def read(self, latents):
        """-> features [n, 256], predicted values [n, 7]"""
        outputs = [self(part) for part in latents.split(64)]
        return (torch.cat([features for features, _ in outputs]),
                torch.cat([torch.stack([logits.argmax(1) for logits in heads], 1) for _, heads in outputs]))


def label_table(data):
    """[2, pictures, attributes]; the second half mirrored"""
    return torch.tensor([[labels(scene) for scene in data.scenes],
                         [labels(mirrored(scene)) for scene in data.scenes]])


def latents_of(data, indices, mirrors):
    latents, *_ = data.batch(indices, mirrors, np.random.default_rng(0), 1.0)
    return latents


def accuracy(predicted, truth):
    return {name: round((predicted[:, i] == truth[:, i]).float().mean().item(), 3)
            for i, name in enumerate(ATTRIBUTES)}


def train_classifier(run, minutes, device, batch=128, rate=1.5e-3, noise=0.1):
    path = Path(run) / "classifier.pt"
    if path.exists():
        print(f"{path} is there already")
        return
    torch.manual_seed(0)
    rng = np.random.default_rng(3)
    data, held_out = Captioned(run, "train"), Captioned(run, "valid")
    truth = label_table(data)
    classifier = Classifier().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=rate, weight_decay=0.02)
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (1 - share)
        indices, mirrors = rng.integers(0, len(data.scenes), batch), rng.integers(0, 2, batch)
        x = latents_of(data, indices, mirrors).to(device)
        x = (x + noise * rng.random() * torch.randn_like(x)).contiguous(memory_format=torch.channels_last)
        with autocast(device):
            _, heads = classifier(x)
        target = truth[mirrors, indices].to(device)
        loss = sum(F.cross_entropy(logits.float(), target[:, i]) for i, logits in enumerate(heads))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0:
            print(step, f"{share * minutes:.1f} min loss {loss.item():.3f}", flush=True)
    classifier.eval().cpu()
    torch.save(classifier.state_dict(), path)
    count = len(held_out.scenes)
    _, predicted = classifier.read(latents_of(held_out, range(count), [0] * count))
    print("held-out renders:", accuracy(predicted, label_table(held_out)[0]))


TERRAIN_WORDS = {"sea": "the sea", "mountains": "mountains", "snowy": "snowy mountains", "desert": "desert dunes",
                 "hills": "green hills", "forest": "a pine forest", "city": "a city skyline",
                 "lake": "a mountain lake"}
SUBJECT_WORDS = {"sailboat": "a sailboat", "lighthouse": "a lighthouse", "cabin": "a cabin", "tree": "a lone tree",
                 "pines": "pine trees", "cactus": "a cactus", "palm": "palm trees", "windmill": "a windmill",
                 "balloon": "a hot air balloon", "birds": "birds", "pyramids": "pyramids"}
BODY_WORDS = {"sun": "the sun", "fullmoon": "a full moon", "crescent": "a crescent moon"}
PLACE_WORDS = {"left": "on the left", "center": "in the center", "right": "on the right"}
WEATHER_WORDS = {"clear": "a clear sky", "clouds": "clouds", "fog": "fog", "rain": "rain", "stars": "stars",
                 "aurora": "northern lights"}


def full_prompt(scene):
    """Names all that the classifier reads."""
    body = f"{BODY_WORDS[scene['body']]} {PLACE_WORDS[scene['place']]}" if scene["body"] != "none" else None
    details = [body, SUBJECT_WORDS.get(scene["subject"]), WEATHER_WORDS[scene["weather"]],
               f"{scene['palette']} sky"]
    details = [detail for detail in details if detail]
    return f"{TERRAIN_WORDS[scene['terrain']]} at {scene['time']} with {' and '.join(details[:2])}" + \
        "".join(f", {detail}" for detail in details[2:])


def frechet_distance(a, b):
    """Between the Gaussians fitted to two sets of features; tr √(AB) from the symmetric √A B √A."""
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return (((a.mean(0) - b.mean(0)) ** 2).sum() + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def round_trip(pipeline, run, count, size):
    """Mean over pictures of the PSNR of decode(encode(picture)), in dB."""
    psnr = []
    pictures = np.load(picture_shards(run, "valid", size)[0], mmap_mode="r")[:count]
    for part in np.array_split(pictures, max(1, count // 32)):
        x = to_tensor(part).to(pipeline.device)
        with torch.no_grad():
            y = pipeline.autoencoder.decoder(pipeline.autoencoder.encoder(x)).clamp(-1, 1)
        psnr += (-10 * torch.log10((((x - y) / 2) ** 2).mean((1, 2, 3)))).tolist()
    return round(float(np.mean(psnr)), 2)


def halved(pipeline, latents, linear):
    """Latents of the pictures at half their size."""
    pictures = [F.avg_pool2d(to_tensor(pipeline.decode(part)), 2) for part in latents.split(32)]
    return torch.cat([linear.encode(part) for part in pictures]) * linear.scaling_factor


def evaluate(run, model, steps, guidance, seed, device, few_step=False, large=False, samples=SAMPLES):
    held_out = Captioned(run, "valid")
    classifier = Classifier()
    classifier.load_state_dict(torch.load(Path(run) / "classifier.pt"))
    classifier.eval()
    truth = label_table(held_out)[0]
    count = min(samples, len(held_out.scenes) // 2)
    total = len(held_out.scenes)
    prompts = [full_prompt(scene) for scene in held_out.scenes[:count]]
    real_features, real_values = classifier.read(latents_of(held_out, range(total), [0] * total))
    if few_step:
        steps, guidance = FEW_STEPS, 1.0
    pipeline = Pipeline(model, bf16=True, device=device, variants=[FEW_STEP] * few_step + [LARGE_VARIANT] * large)
    start = time.monotonic()
    latents = pipeline.latents(prompts, steps, guidance, seed)
    seconds = (time.monotonic() - start) / count
    features, values = classifier.read(halved(pipeline, latents, LinearLatents.load(run)) if large else latents)
    reference = real_features[-count:]
    return {
        "samples": count, "few_step": few_step, "large": large, "steps": steps, "guidance": guidance, "seed": seed,
        "accuracy": accuracy(values, truth[:count]),
        "ceiling": accuracy(real_values, truth),
        "frechet": round(frechet_distance(features, reference), 2),
        "frechet_real_halves": round(frechet_distance(real_features[:count], reference), 2),
        "round_trip_db": round_trip(pipeline, run, min(256, total), LARGE if large else NATIVE),
        "seconds_a_picture": round(seconds, 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["classifier", "model"])
    parser.add_argument("--run", required=True, help="folder of the training run: held-out pictures, classifier")
    parser.add_argument("--minutes", type=float, default=12, help="classifier: budget")
    parser.add_argument("--model", help="model: folder in diffusers layout")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--few-step", action="store_true", help=f"model: its few-step variant, {FEW_STEPS} steps")
    parser.add_argument("--large", action="store_true", help=f"model: its variant for {LARGE}×{LARGE}")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="model: pictures drawn")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", help="model: also write the numbers here, as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "classifier":
        train_classifier(arguments.run, arguments.minutes, arguments.device)
    else:
        numbers = evaluate(arguments.run, arguments.model, arguments.steps, arguments.guidance, arguments.seed,
                           arguments.device, arguments.few_step, arguments.large, arguments.samples)
        print(json.dumps(numbers, indent=1))
        if arguments.out:
            Path(arguments.out).write_text(json.dumps(numbers, indent=1) + "\n")
