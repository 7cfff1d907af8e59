"""Where a cell of a map looks, and how far: its receptive field, measured from the network.

Resizing assumes that cell i of n is centred on (i + 0.5) / n of the frame. Strides and padding
decide otherwise: ResNet-50's last cells are centred on pixels 0, 32, 64, ... So `PathCount`
counts the paths from an input to two neighbouring cells in its middle, far from its borders. Their
centroids give the stride and the first centre; how they spread is how far a cell looks. This input
is longer than the real one by a multiple of the stride, so that "SAME" pads both alike.
"""

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lib.model.networks import evaluation_mode

LONGER = (48, 144), (1440, 2880), (1440, 2880)  # more frames, rows, columns than the real input
TINY = 1e-12  # the value of the input: gates stay linear, and ReLU6 is not reached
UNKNOWN = np.nan, np.nan, *[(np.nan, np.nan)] * 3  # of an axis, as `_axis`

Pair = tuple[float, float]
Energies = dict[str, Tensor]
_measured: weakref.WeakKeyDictionary[nn.Module, dict] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, repr=False)
class ReceptiveField:
    """What one cell sees of an input of `shape`: along time in frames, height and width in pixels.

    `half`, `core` and `field` are distances (before, after) from the cell's centre to the edges of
    the shortest run of frames or pixels where half of its paths begin, 90% of them, and all, along
    each axis alone: of a box, two sides of 90% hold about 80%. The input's border may cut them off;
    they are infinite where all is reached, and NaN along an axis that could not be measured.
    """

    shape: tuple[int, ...]  # T, H, W of the input
    stride: tuple[float, ...]  # from one cell to the next
    first: tuple[float, ...]  # the centre of cell 0; 0.5 is the middle of the first frame or pixel
    half: tuple[Pair, ...]
    core: tuple[Pair, ...]
    field: tuple[Pair, ...]

    @property
    def size(self) -> tuple[float, ...]:
        """Extent of all that can reach a cell (t, y, x): the theoretical receptive field."""
        return tuple(round(before + after, 6) for before, after in self.field)

    def centres(self, axis: int, cells: int) -> np.ndarray:
        """Centres of cells as fractions of an axis. A fraction f is pixel f * size - 0.5, counting
        pixels from 0; it may lie outside 0..1 where padding is uneven. Where the axis could not be
        measured, the cells are spread evenly, centred on (i + 0.5) / cells."""
        first, stride, whole = self.first[axis], self.stride[axis], self.shape[axis]
        if np.isnan(first):
            first, stride, whole = 0.5, 1, cells
        return (first + stride * np.arange(cells)) / whole

    def __repr__(self) -> str:
        extents = np.array([self.field, self.half, self.core]).sum(2).round(6)
        told = []
        for unit, axes in ("frames", slice(1)), ("pixels", slice(1, 3)):
            cut = np.minimum(extents, self.shape)[:, axes]
            seen, half, core = ("x".join(f"{n:g}" for n in sides) for sides in cut)
            whole = "x".join(map(str, self.shape[axes]))
            parts = [f"{s} within {w}" for s, w in (("half", half), ("90%", core)) if w != seen]
            note = f" ({'each way ' * ('x' in whole)}{', '.join(parts)})" if parts else ""
            told.append(f"{f'all {whole}' if seen == whole else f'{seen} of {whole}'} {unit}{note}")
        return f"a cell sees {' and '.join(told)}"


def tap_energies(network: nn.Module) -> Energies:
    """What the paths depend on beside the network's form: of each kernel, the sum of its squared
    weights over the channels. Kept, they can be used after the weights have changed."""
    return {
        name: torch.linalg.vector_norm(x.detach().float(), dim=(0, 1)).square()
        for name, x in chain(network.named_parameters(), network.named_buffers())
        if x.is_floating_point() and x.ndim > 2 and x.shape[2:].numel() > 1
    }


def measure(
    network: nn.Module,
    layer: str,
    shape: Sequence[int],
    grid: Sequence[int],
    reshape: Callable[[Tensor], Tensor] | None = None,
    energies: Energies | None = None,
) -> ReceptiveField:
    """The receptive field of a layer's cells; NaN along an axis where it cannot be measured, as
    with attention or transposed convolutions. What was measured is remembered.

    shape: T, H, W of the input. grid: t, h, w of the layer. reshape: makes (1, C, t, h, w) of what
    the layer gives. energies: `tap_energies` when it was explained; None are those of now.
    """
    energies = tap_energies(network) if energies is None else energies
    key = b"".join(energy.cpu().numpy().tobytes() for energy in energies.values())
    key = (layer, *shape, *grid, reshape, repr(network), key)  # as strides may change, too
    known = _measured.setdefault(network, {})
    if key not in known:
        paths = partial(_paths, network, layer, reshape, PathCount(network, energies))
        axes = [_along(axis, paths, tuple(shape), grid[axis]) or UNKNOWN for axis in range(3)]
        known[key] = ReceptiveField(tuple(shape), *zip(*axes))
    return known[key]


def _along(axis: int, paths: Callable, shape: tuple, cells: int) -> tuple | None:
    """What a layer with `cells` cells sees along an axis; the other axes are as short as the
    network allows. A network that takes a single size is given that."""
    sizes = (1, 1, 1), (8, 8, 8), (shape[0], 8, 8), (shape[0], 32, 32)
    found = None
    for others, more in [*product(sizes, LONGER[axis]), (sizes[2], 0), (shape, 0)]:
        size = [shape[i] + more if i == axis else n for i, n in enumerate(others)]
        try:
            shares, count = paths(axis, size)
        except Attention:
            return None
        if count > 1:
            found = _axis(shares, count, shape[axis], more, cells)
            if not found or np.isfinite(found[-1][0]) or more != LONGER[axis][0]:
                break  # what reaches everything is tried on a longer input
    return found


def _paths(network, layer, reshape, mode, axis: int, size) -> tuple[np.ndarray | None, int]:
    """The shares (2, L) of the paths to two cells in the middle of an axis that begin at each of
    its L pixels, and how many cells there are, 0 where the network refuses the size."""
    answers: list = []

    def remember(_module, _args, output):
        output = output.clone()  # an in-place ReLU may follow
        output = output if reshape is None else reshape(output)
        answers[:] = [output] if output.ndim == 5 and output.numel() else []

    with torch.inference_mode(False), torch.enable_grad(), evaluation_mode(network) as handles:
        device = next((x.device for x in network.parameters()), None)
        probe = torch.full((1, 3, *size), TINY, dtype=torch.float64, device=device)
        handles.append(network.get_submodule(layer).register_forward_hook(remember))
        try:
            with mode:
                network(probe.requires_grad_().clone())
        except Exception as error:  # what follows the layer may refuse the size
            if isinstance(error, Attention) and not answers:
                raise
        with suppress(Exception):
            (answer,) = answers[0]  # (C, t, h, w)
            cells = answer.transpose(1 + axis, 0).flatten(1).sum(1)
            two = cells[len(cells) // 2 - 1 :][:2]
            shares = [torch.autograd.grad(cell, probe, retain_graph=True)[0] for cell in two]
            shares = torch.stack(shares).transpose(3 + axis, 1).flatten(2).sum(2)  # (2, L)
            return (shares / shares.sum(1, keepdim=True)).cpu().numpy(), len(cells)
    return None, 0


def _axis(shares: np.ndarray, count: int, length: int, more: int, cells: int) -> tuple | None:
    """Stride, first centre, half, core and field along an axis of some length, from the shares of
    the paths on `more` than that, with `count` cells; None if these do not stand in equal steps, or
    something in between does not count paths."""
    before, centre = shares @ (np.arange(length + more) + 0.5)
    stride, touched = centre - before, shares[:, [0, -1]].any()
    if not (np.isfinite(shares).all() and (shares >= 0).all() and abs(stride) > 1e-6):
        return None
    if more and abs((count - cells) * abs(stride) - more) >= abs(stride):
        return None  # such as an adaptive pool, whose cells grow with the input
    if not more and (touched or abs(count * abs(stride) - length) > length / 2):
        return None  # the border is too near
    reached, run = np.flatnonzero(shares[1]), partial(_shortest, shares[1], centre)
    whole = (-np.inf, np.inf) if touched else (reached[0], reached[-1] + 1)
    spans = [(float(centre - a), float(b - centre)) for a, b in (run(0.5), run(0.9), whole)]
    return round(float(stride), 6), float(centre - count // 2 * stride), *spans


def _shortest(shares: np.ndarray, centre: float, share: float) -> tuple[int, int]:
    """Edges of the shortest run of places that holds `share`; of equal ones, the most central."""
    before = np.concatenate([[0], shares.cumsum()])  # what lies before each edge
    ends = np.searchsorted(before, before + share - 1e-9)
    runs = [(start, int(end)) for start, end in enumerate(ends) if end < len(before)]
    return min(runs, key=lambda run: (run[1] - run[0], round(abs(sum(run) / 2 - centre), 6)))


class Attention(Exception):
    """It reaches everything, from any place."""


class PathCount(TorchFunctionMode):
    """Inside it, a gradient counts paths (as Luo et al. 2016, arXiv 1701.04128): a convolution or
    pool is a weighted mean over its window, a norm the identity, and beyond a border all is as at
    it. A tap of a kernel weighs its energy, since a gradient of random signs spreads like that (see
    `test_learned_taps_predict_where_gradients_lie`); all weigh alike in a kernel that the network
    computes anew."""

    def __init__(self, network: nn.Module, energies: Energies):
        super().__init__()
        named = chain(network.named_parameters(), network.named_buffers())
        self.energies = {id(x): energies[name] for name, x in named if name in energies}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        if name in ("conv1d", "conv2d", "conv3d"):
            return self.convolution(*args, **kwargs)
        if name.startswith("max_pool"):
            return _max_pool(*args, **kwargs)
        if name.startswith("avg_pool"):
            return _average_pool(*args, **kwargs)
        if name.startswith("adaptive_max_pool"):
            return getattr(F, name.replace("max", "avg"))(*args[:2])
        if name in ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"):
            return args[0]
        if name in ("sub", "__sub__") and all(isinstance(x, Tensor) for x in args):
            return args[0] + args[1]  # a difference sees both
        if name in ("exp", "square"):  # a weight that is made of it is a gate, held open
            return torch.ones_like(args[0])
        if name == "linear":
            return args[0].mean(-1, keepdim=True).repeat_interleave(len(args[1]), -1)
        if name == "pad" and len(args[1]) <= 2 * (args[0].ndim - 2) and min(args[1]) >= 0:
            return F.pad(args[0], [*args[1], *[0] * 6][: 2 * args[0].ndim - 4], mode="replicate")
        if name in ("softmax", "scaled_dot_product_attention", "multi_head_attention_forward"):
            raise Attention
        return function(*args, **kwargs)

    def convolution(self, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        """A mean over the window, weighted by energies, the same for every channel of a group."""
        energy = self.energies.get(id(weight), torch.ones(weight.shape[2:]))
        energy = energy if energy.any() else torch.ones_like(energy)
        if padding == "same":
            reach = zip(_each(dilation, energy.ndim), energy.shape)
            pads = [(d * (k - 1) // 2, (d * (k - 1) + 1) // 2) for d, k in reach]
        else:
            pads = [(p, p) for p in _each(0 if padding == "valid" else padding, energy.ndim)]
        x = _mean(x.unflatten(1, (groups, -1)).mean(2), energy, stride, pads, dilation)
        return x.repeat_interleave(len(weight) // groups, 1)


def _max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *_, **__):
    n, strides = x.ndim - 2, stride or kernel_size
    pads = zip(_each(padding, n), _each(strides, n))  # with ceil_mode also past the end
    pads = [(p, p + ceil_mode * (step - 1)) for p, step in pads]
    return _mean(x, torch.ones(_each(kernel_size, n)), strides, pads, dilation)


def _average_pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, *_, **__) -> Tensor:
    return _max_pool(x, kernel_size, stride, padding, 1, ceil_mode)


def _mean(x: Tensor, weights: Tensor, stride, pads: list, dilation) -> Tensor:
    """A mean of x (N, C, ...) over sliding windows, weighted. pads: (before, after) of each axis,
    where all is as at the border."""
    around = [p for pair in reversed(pads) for p in pair]
    channels = F.pad(x, around, mode="replicate").flatten(0, 1).unsqueeze(1)  # (N C, 1, ...)
    slide = (F.conv1d, F.conv2d, F.conv3d)[weights.ndim - 1]
    weights = weights.to(x)[None, None]
    y = slide(channels, weights / weights.sum(), None, stride, 0, dilation)
    return y.unflatten(0, x.shape[:2]).squeeze(2)


def _each(value, n: int) -> Sequence:
    """A value for each of n axes, of one that may be for all."""
    return [value] * n if isinstance(value, int) else list(value) * (n if len(value) == 1 else 1)
