"""Drawn clips and the shipped network stay what they are, bit for bit and to rounding."""

import hashlib

import numpy as np
import pytest
import torch

from lib import miniature
from lib.data import CLASSES_40
from lib.model import load

#: (split, index, seed) of a clip of 16 frames of 128 pixels: its hash, and of the logits the three
#: largest, the sum and the sum of squares.
PINNED = {
    ("train", 3, 0): ("bb81c55f6d146371", {3: 4.9327, 38: -0.3295, 1: -0.4074}, -55.5606, 129.4966),
    ("validation", 17, 4): (
        "0d6d2b9c32c53516",
        {17: 4.7801, 23: -0.182, 19: -0.2721},
        -52.3840,
        119.9954,
    ),
    ("test", 1, 5): ("c6b9917518455393", {1: 5.0592, 15: -0.4275, 18: -0.541}, -48.2364, 111.4413),
    ("test", 22, 12): (
        "41b888a419579d95",
        {22: 5.2788, 1: -0.4346, 29: -0.5172},
        -60.7371,
        153.6977,
    ),
    ("test", 38, 7): (
        "9e106260a6a1f863",
        {38: 5.2353, 28: -0.6028, 15: -0.6834},
        -44.7087,
        99.1635,
    ),
}


@pytest.fixture(scope="module")
def network():
    return load()


@pytest.mark.parametrize("which", PINNED, ids=str)
def test_clip_and_logits(which, network):
    split, index, seed = which
    digest, largest, total, squares = PINNED[which]
    drawn = miniature.draw(split, index, seed, np.arange(16) / 4, 128)
    drawn_bytes = drawn.frames.tobytes() + drawn.truth.roles.tobytes()
    assert hashlib.sha256(drawn_bytes).hexdigest()[:16] == digest
    assert drawn.label == CLASSES_40[index % 40] and drawn.mask.shape == drawn.frames.shape[:3]
    with torch.inference_mode():
        logits = network(network.preprocess(drawn.frames))[0]
    assert logits.topk(3).indices.tolist() == list(largest)
    assert logits.topk(3).values.numpy() == pytest.approx(list(largest.values()), abs=5e-4)
    assert float(logits.sum()) == pytest.approx(total, abs=5e-3)
    assert float(logits.square().sum()) == pytest.approx(squares, rel=1e-4)
