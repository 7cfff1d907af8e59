"""The form of a network, number type and memory layout, that is quickest on this processor.

Which one is quickest depends on the processor's instructions, so each is tried on a clip. One that
changes the network's answer, or its map, is refused: half precision must not cost the explanation.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from lib.explain.explanation import ExplainError
from lib.explain.maps import Seen, maps_of, watching
from lib.model import hardware

TOLERANCE = 0.02  # how far a map may be off, as a share of its peak


@dataclass(frozen=True)
class Trial:
    """A form of a network, and how it did beside float32."""

    network: nn.Module
    dtype: torch.dtype
    channels_last: bool
    seconds: float  # of one forward pass
    same_top2: bool  # the same two classes first, in the same order, for every clip
    difference: float  # the largest of the maps of these two, as a share of the map's peak

    @property
    def faithful(self) -> bool:
        return self.same_top2 and self.difference <= TOLERANCE

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name}, channels {'last' if self.channels_last else 'first'}"


def class_maps(
    network, inputs: Tensor, classes, layer=None, method="cam", reshape=None
) -> tuple[Tensor, Seen]:
    """Signed maps (N, M, T, h, w) float32 of `classes`, indices (M,) for all samples or (N, M), and
    what the forward pass showed. The others as in `explain`."""
    classes = torch.as_tensor(classes, device=inputs.device)
    classes = classes.expand(len(inputs), -1) if classes.ndim == 1 else classes  # (N, M)
    with watching(network, inputs, layer, method != "cam", reshape) as seen:
        return maps_of(seen, classes, method)[0], seen


def fastest(network: nn.Module, inputs: Tensor, **options) -> nn.Module:
    """A copy of `network` in its quickest faithful form for inputs like these (N, 3, T, H, W).

    `network` stays as it is. `options` are those of `class_maps`: a layer, a method. Give the copy
    inputs in its own dtype, as `explain` does; maps come in float32 all the same.
    """
    faithful = (trial for trial in trials(network, inputs, **options) if trial.faithful)
    return min(faithful, key=lambda trial: trial.seconds).network


def trials(network: nn.Module, inputs: Tensor, **options) -> Iterator[Trial]:
    """Every form that runs here, float32 with channels first before all others."""
    dtypes = [torch.float32, torch.bfloat16] + [torch.float16] * (inputs.device.type != "cpu")
    plain = in_form(network, torch.float32)
    top2 = _top2(_timed(plain, inputs.float())[0])
    reference, _ = class_maps(plain, inputs.float(), top2, **options)  # (N, 2, T, h, w)
    for dtype, channels_last in product(dtypes, (False, True)):
        form, x = in_form(network, dtype, channels_last), inputs.to(dtype)
        try:
            maps, _ = class_maps(form, x, top2, **options)  # which warms it up, too
            logits, seconds = _timed(form, x)
        except (RuntimeError, ExplainError):
            continue  # no such kernel here, or numbers too large for the type
        same = torch.equal(_top2(logits), top2)
        difference = (maps - reference).abs().amax((2, 3, 4)) / peak(reference)
        yield Trial(form, dtype, channels_last, seconds, same, float(difference.max()))


def in_form(network: nn.Module, dtype: torch.dtype, channels_last: bool = False) -> nn.Module:
    """A copy in evaluation mode. Activations follow the layout of the kernels they meet."""
    form = copy.deepcopy(network).to(dtype).eval()
    if channels_last:
        return hardware.channels_last(form)
    for parameter in form.parameters():
        parameter.data = parameter.data.contiguous()
    return form


def peak(maps: Tensor) -> Tensor:
    """(N, M, T, h, w) to (N, M): the strongest evidence for or against; never 0."""
    return maps.abs().amax((2, 3, 4)).clamp_min(torch.finfo(maps.dtype).tiny)


def _top2(logits: Tensor) -> Tensor:
    return logits.topk(min(2, logits.shape[1])).indices  # (N, 2)


@torch.inference_mode()
def _timed(network: nn.Module, inputs: Tensor) -> tuple[Tensor, float]:
    def now() -> float:
        if inputs.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    begun = now()
    logits = network(inputs)
    return logits, now() - begun
