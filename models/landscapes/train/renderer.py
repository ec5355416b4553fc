"""Draws a scene as a picture.

    python3 renderer.py --out renders.jpg --size 128 --count 48 --seed 0      a contact sheet

The same scene and seed give the same picture; another seed gives another picture of the same scene.
"""
import argparse

import numpy as np

from scenery.canvas import Canvas
from scenery.sky import draw_sky, fog_bank, rain
from scenery.subjects import draw_subject
from scenery.terrain import draw_terrain
from scenes import random_scene


def render(scene, rng, size):
    """-> picture, uint8 [size, size, 3], and the scene as drawn: without a sun or moon that came to stand
    behind the terrain."""
    canvas = Canvas(scene, rng, size)
    draw_sky(canvas)
    draw_terrain(canvas)
    if canvas.body != "none" and not canvas.body_visible():
        scene = dict(scene, body="none")
    if canvas.weather == "fog":
        fog_bank(canvas)
    draw_subject(canvas)
    if canvas.weather == "rain":
        rain(canvas)
    return canvas.finish(), scene


def main(out, size, count, seed):
    from captions import caption
    from pipeline import tile, write_picture

    pictures = []
    for i in range(count):
        rng = np.random.default_rng(seed * 1000 + i)
        picture, scene = render(random_scene(rng), rng, size)
        pictures.append(picture)
        print(i, caption(scene, rng))
    write_picture(out, tile(np.stack(pictures), 8))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.out, arguments.size, arguments.count, arguments.seed)
