"""The museum of bugs: what class activation code has done wrong, each behind a switch of its own.

Nothing else in the package uses this module, and every switch is off by default: then `historic`
is `explain`, and the picture is `overlay`'s. For study only.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from lib.explain.clip import explain
from lib.explain.explanation import Explanation, shown

SWITCHES = ("ones", "frame_scaling", "corners", "softmax", "batch_statistics")


def historic(
    network: nn.Module,
    clip,
    cls: int | str,
    *,
    ones: bool = False,
    frame_scaling: bool = False,
    corners: bool = False,
    softmax: bool = False,
    batch_statistics: bool = False,
    **options,
) -> Explanation:
    """Grad-CAM of one class at the last layer, with the chosen mistakes; `options` as of `explain`.

    ones: the weighted sum starts from one and not from zero. Evidence is far below one in every
        cell, so the ReLU that follows never cuts; the least value is then taken away. What speaks
        against the class is shown as weak evidence for it.
    frame_scaling: what is positive in each frame is divided by that frame's greatest value.
    corners: the outermost cells are drawn on the edges of the frame.
    softmax: the gradient is the probability's, not the logit's.
    batch_statistics: batch norms stay in training mode, and normalise by the clip at hand.

    Where the maps no longer add up to the logits, `bias` is None.
    """
    if batch_statistics:
        network = by_batch_statistics(network)
    result = explain(network, clip, cls, method="gradcam", **options)
    maps = result.maps
    if softmax:
        slope = softmax_maps(network, clip, cls, **options)
        maps = slope.maps
    if ones:
        maps = (maps + 1).clip(0)
        maps = maps - maps.min()
    if frame_scaling:
        maps = maps.clip(0)
        peaks = maps.max(axis=(2, 3), keepdims=True)  # (M, T, 1, 1)
        maps = maps / np.where(peaks > 0, peaks, 1)
    places = result.cells
    if corners:
        places = tuple(np.linspace(0, 1, len(centres), dtype=np.float32) for centres in places)
    bias = None if ones or frame_scaling or softmax else result.bias
    return replace(result, maps=maps, cells=places, bias=bias)


def softmax_maps(network: nn.Module, clip, cls: int | str, **options) -> Explanation:
    """Grad-CAM of a class's probability."""
    names = getattr(network, "classes", None)
    preprocess = getattr(network, "preprocess", None)
    known = dict(class_names=names, preprocess=preprocess) | options
    return explain(Probabilities(network), clip, cls, method="gradcam", **known)


class Probabilities(nn.Module):
    """A network that gives probabilities where it gave logits."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).softmax(1)


def by_batch_statistics(network: nn.Module) -> nn.Module:
    """A copy whose batch norms normalise by the batch at hand, as in training mode."""
    other = deepcopy(network)
    for module in other.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean = module.running_var = None
    return other


def jet(explanation: Explanation, cls: int | str, opacity: float = 0.5) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 as they were long drawn: the rainbow laid over all of the frame,
    blue where there is nothing."""
    from matplotlib import colormaps

    colours = colormaps["jet"](shown(explanation, cls))[..., :3] * 255  # (T, H, W, 3)
    return (explanation.frames * (1 - opacity) + colours * opacity).round().astype(np.uint8)
