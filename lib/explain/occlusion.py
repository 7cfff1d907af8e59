"""Cover a part of the clip and see what the logits lose (Zeiler and Fergus 2014, arXiv 1311.2901).

Slower than any gradient, and free of its assumptions: the measure for the other maps.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from lib.explain.ask import asked, mixes
from lib.explain.explanation import ExplainError
from lib.explain.maps import OneByOne
from lib.explain.receptive_field import ReceptiveField
from lib.model.networks import evaluation_mode


def occlusion(
    network: nn.Module,
    inputs: Tensor,
    window: tuple[int, int, int],
    stride: tuple[int, int, int],
    progress: OneByOne = iter,
) -> tuple[Tensor, Tensor]:
    """What every logit loses with each part of one clip, (K, t, h, w), and its logits (K,).

    inputs: one clip (1, 3, T, H, W). window, stride: of the box of zeros, the middle grey of a
    normalised input, in frames and pixels; along an axis ``(size - window) // stride + 1`` of them.
    Above 0: what was covered spoke for the class. `progress` yields the steps, as tqdm does.
    """
    window, stride = (tuple(map(int, sides)) for sides in (window, stride))  # not of 8 bits
    sizes, batch = inputs.shape[2:], 1 if mixes(network, inputs) else at_once(inputs.device)
    if any(not 1 <= w <= size or s < 1 for w, s, size in zip(window, stride, sizes)):
        most = f"give 1 or more, a window of at most {tuple(sizes)}"
        raise ExplainError(f"window {window} and stride {stride}: {most}")
    starts = [range(0, size - w + 1, s) for size, w, s in zip(sizes, window, stride)]
    corners, losses = list(product(*starts)), []
    logits = asked(network, inputs)  # (1, K)
    for first in progress(range(0, len(corners), batch)):
        some = corners[first : first + batch]
        covered = inputs.repeat(len(some), 1, 1, 1, 1)
        for clip, corner in zip(covered, some):
            clip[(slice(None), *(slice(c, c + w) for c, w in zip(corner, window)))] = 0
        with evaluation_mode(network), torch.inference_mode():  # each time: it may remember clips
            losses.append((logits - network(covered)).float())
    return torch.cat(losses).T.unflatten(1, list(map(len, starts))), logits[0].float()


def at_once(device: torch.device) -> int:
    """How many clips to show a network at once: few on a CPU, where each of many costs more."""
    return 2 if device.type == "cpu" else 32


def box(shape: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> ReceptiveField:
    """Where the boxes of an input of `shape` (T, H, W) lie, and what each covers."""
    sides = tuple((w / 2, w / 2) for w in window)
    return ReceptiveField(tuple(shape), tuple(stride), tuple(w / 2 for w in window), *[sides] * 3)
