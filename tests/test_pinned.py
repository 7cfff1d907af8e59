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
    ("train", 3, 0): ("bb81c55f6d146371", {3: 4.1282, 38: 0.4283, 14: -0.2779}, -81.4309, 243.4335),
    ("validation", 17, 4): (
        "0d6d2b9c32c53516",
        {17: 5.0698, 23: 0.5962, 20: -0.4538},
        -83.2138,
        270.5859,
    ),
    ("test", 1, 5): ("c6b9917518455393", {1: 4.2135, 14: 0.1467, 23: 0.0116}, -103.0344, 377.3374),
    ("test", 22, 12): (
        "41b888a419579d95",
        {22: 5.0414, 26: 0.9215, 3: -0.2262},
        -66.6149,
        196.9054,
    ),
    ("test", 38, 7): (
        "9e106260a6a1f863",
        {38: 5.5497, 30: -0.4444, 7: -1.0375},
        -90.8125,
        313.9162,
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
