"""Cover a part of the clip and see what the logits lose (Zeiler and Fergus 2014, arXiv 1311.2901).

Slower than any gradient, and free of its assumptions: the yardstick for the other maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lib.explain.explanation import ExplainError
from lib.model.networks import evaluation_mode


def occlusion(
    network: nn.Module,
    inputs: Tensor,
    window: tuple[int, int, int],
    stride: tuple[int, int, int],
    fill: float = 0.0,
    batch: int | None = None,
    progress: bool | Callable[[Sequence], Iterable] = True,
) -> tuple[Tensor, Tensor]:
    """What every logit loses with each part of one clip, (K, t, h, w), and its logits (K,).

    inputs: one clip (1, 3, T, H, W). window, stride: of the grey box, in frames and pixels; there
    are ``(size - window) // stride + 1`` places along each axis. `fill` covers: 0 is the middle
    grey of a normalised input. Above 0: what was covered spoke for the class. `batch` is how many
    clips are seen at once; None is what suits the device. `progress` is whether to draw a bar, or a
    function that is given the sequence of steps and yields them one by one, as tqdm does.
    """
    batch = batch or at_once(inputs.device)
    sizes = inputs.shape[2:]
    if any(not 1 <= w <= size or s < 1 for w, s, size in zip(window, stride, sizes)):
        raise ExplainError(
            f"window {window} and stride {stride}: give 1 or more, a window of at most {sizes}"
        )
    starts = [range(0, size - w + 1, s) for size, w, s in zip(sizes, window, stride)]
    boxes = [
        tuple(slice(start, start + w) for start, w in zip(place, window))
        for place in product(*starts)
    ]
    if not callable(progress):
        progress = partial(tqdm, desc="occlusion", leave=False, disable=not progress)
    losses = []
    with evaluation_mode(network), torch.inference_mode():
        logits = network(inputs)  # (1, K)
        for at in progress(range(0, len(boxes), batch)):
            some = boxes[at : at + batch]
            covered = inputs.repeat(len(some), 1, 1, 1, 1)
            for clip, box in zip(covered, some):
                clip[(slice(None), *box)] = fill
            losses.append((logits - network(covered)).float())
    shape = [len(places) for places in starts]
    return torch.cat(losses).T.unflatten(1, shape), logits[0].float()


def at_once(device: torch.device) -> int:
    """How many clips to show a network at once: few on a CPU, where each of many costs more."""
    return 2 if device.type == "cpu" else 32


def centres(size: int, window: int, stride: int) -> Tensor:
    """Centres of the box's places along an axis, as fractions of it."""
    starts = torch.arange(0, size - window + 1, stride)
    return (starts + window / 2) / size
