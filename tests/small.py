"""A 3D network small enough to follow, an explanation without one, and ways to tell that a network
was left alone."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from lib.explain import __main__ as command
from lib.explain.maps import watching

NAMES = ["Opening [something]", "Closing [something]", "Tearing [something]"]


class Small(nn.Module):
    """Two convolutions, average pooling, a linear head; trained on nothing."""

    def __init__(self, stride=(1, 2, 2), inplace=True, hidden=0, classes=NAMES):
        super().__init__()
        self.conv1 = nn.Conv3d(3, 6, 3, padding=1, stride=(1, 2, 2))
        self.bn1 = nn.BatchNorm3d(6)
        self.relu1 = nn.ReLU(inplace=inplace)
        self.conv2 = nn.Conv3d(6, 8, 3, padding=1, stride=stride)
        self.bn2 = nn.BatchNorm3d(8)
        self.relu2 = nn.ReLU(inplace=inplace)
        self.drop = nn.Dropout(0.5)
        self.hidden = nn.Linear(8, 8) if hidden else None
        self.classifier = nn.Linear(8, len(classes))
        self.classes = list(classes)

    @staticmethod
    def preprocess(frames):
        x = torch.from_numpy(np.ascontiguousarray(frames)).float() / 127.5 - 1
        return x.movedim(-1, 0).unsqueeze(0)  # (1, 3, T, H, W)

    def features(self, x):
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)))

    def forward(self, x):
        x = self.drop(self.features(x).mean((2, 3, 4)))
        return self.classifier(x if self.hidden is None else self.hidden(x).relu())


def state(network):
    return (
        [m.training for m in network.modules()],
        [p.requires_grad for p in network.parameters()],
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()),
        [p.grad for p in network.parameters()],
        {k: v.clone() for k, v in network.state_dict().items()},
    )


def same(a, b):
    return a[:4] == b[:4] and all(torch.equal(a[4][k], b[4][k]) for k in a[4])


FRAMES, CELLS, SIZE = 6, 4, 64  # of the next one


def explanation(seed: int = 0, steps: int = FRAMES, **changes) -> SimpleNamespace:
    """What the viewer reads of an `Explanation`: 3 classes, random maps, a planted square."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(3, steps, CELLS, CELLS)).astype(np.float32)
    bias = np.array([0.25, -0.5, 0.125], np.float32)
    mask = np.zeros((FRAMES, SIZE, SIZE), bool)
    mask[:, 16:48, 16:48] = True
    centres = (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS
    fields = {
        "frames": rng.integers(0, 256, (FRAMES, 4, 4, 3), np.uint8).repeat(16, 1).repeat(16, 2),
        "times": np.arange(FRAMES) / 20,
        "classes": ["Closing [something]", "Opening [something]", "Tearing [something]"],
        "maps": maps,
        "mapped": [0, 1, 2],
        "cells": (centres, centres),
        "bias": bias,
        "label": 1,
        "mask": mask,
        "method": "cam",
        "layer": "bn2",
        "footprint": None,
    } | changes
    if "logits" not in fields:
        fields["logits"] = fields["maps"].sum(axis=(1, 2, 3)) + bias
    powers = np.exp(fields["logits"] - fields["logits"].max())
    return SimpleNamespace(**fields, probabilities=powers / powers.sum())


def ended(*arguments) -> int:
    """The exit status of `python -m lib.explain`."""
    try:
        return command.main(*arguments)
    except SystemExit as end:
        return end.code


def seen_by(*arguments, **options):
    """What `watching` shows, after its block."""
    with watching(*arguments, **options) as seen:
        return seen
