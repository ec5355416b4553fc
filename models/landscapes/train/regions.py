"""Where in a picture its sun or moon and its subject stand, as boxes: there the diffusion loss counts more, and
somewhat more where they could have stood but do not.

A lighthouse covers one latent position in twenty, so without this the network hears little about it; and with the
right place alone it learns to draw a sun there sooner than it learns to draw no second one elsewhere. The best
prediction at each position stays what it was, only the order of learning changes.
"""
import torch

from scenery.canvas import BODY_X, HORIZON, OPEN_HORIZON
from scenery.subjects import SUBJECT_X

WEIGHT = 3.0  # of a position in a box
VACANT_WEIGHT = 2.0  # in the same thing's boxes at the other places; 1 elsewhere
BODY_REACH = 0.12  # half the width of a body's box: its radius and what its place varies by

# subject: half the width, top, bottom
SUBJECT_BOX = {
    "sailboat": (0.15, 0.5, 0.9), "lighthouse": (0.16, 0.12, 0.72), "cabin": (0.16, 0.5, 1.0),
    "tree": (0.19, 0.4, 1.0), "pines": (0.24, 0.35, 1.0), "cactus": (0.14, 0.5, 1.0), "palm": (0.22, 0.4, 1.0),
    "windmill": (0.2, 0.4, 0.9), "balloon": (0.17, 0.08, 0.6), "birds": (0.22, 0.08, 0.48),
}
PYRAMIDS_BOX = (0.1, 0.3, 0.95, 0.72)  # they stand on both sides, whatever the scene's place


def boxes(scene, body_place, subject_place):
    """(left, top, right, bottom) in 0..1 of the body and the subject, if they stood at these places"""
    if scene["body"] != "none":
        x = BODY_X[body_place]
        if scene["time"] in ("sunset", "dawn"):
            low = HORIZON[scene["terrain"]] - (0 if scene["terrain"] in OPEN_HORIZON else 0.13)
            top, bottom = low - 0.32, low + 0.04
        else:
            top, bottom = 0.05, 0.35
        yield x - BODY_REACH, top, x + BODY_REACH, bottom
    if scene["subject"] == "pyramids":
        yield PYRAMIDS_BOX
    elif scene["subject"] != "none":
        half, top, bottom = SUBJECT_BOX[scene["subject"]]
        x = SUBJECT_X[subject_place]
        yield x - half, top, x + half, bottom


def position_weights(scenes, height, width):
    """[n, 1, height, width], of mean 1 over the batch"""
    weights = torch.ones(len(scenes), 1, height, width)

    def set_boxes(picture, weight, *places):
        for left, top, right, bottom in boxes(*places):
            rows = slice(max(0, round(top * height)), round(bottom * height))
            picture[rows, max(0, round(left * width)):round(right * width)] = weight

    for scene, (picture,) in zip(scenes, weights):
        for body_place, subject_place in zip(BODY_X, SUBJECT_X):
            set_boxes(picture, VACANT_WEIGHT, scene, body_place, subject_place)
        set_boxes(picture, WEIGHT, scene, scene["place"], scene["subject_place"])
    return weights / weights.mean()
