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
    ("train", 3, 0): ("bb81c55f6d146371", {3: 3.5961, 1: 0.6818, 39: 0.2836}, -68.5967, 175.3789),
    ("validation", 17, 4): (
        "0d6d2b9c32c53516", {17: 1.2052, 25: 0.6807, 23: 0.6456}, -33.3871, 50.0411,
    ),
    ("test", 1, 5): ("c6b9917518455393", {1: 4.0979, 3: 0.3652, 28: -0.0849}, -104.6084, 377.8805),
    ("test", 22, 12): ("41b888a419579d95", {22: 3.2785, 26: 0.3435, 4: -0.0601}, -35.5716, 60.176),
    ("test", 38, 7): (
        "9e106260a6a1f863", {38: 5.4223, 20: -0.1692, 10: -0.218}, -86.2322, 363.7322,
    ),
}  # fmt: skip


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
