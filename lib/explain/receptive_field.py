"""Where a cell of a map looks, and how far: its receptive field, measured from the network.

Resizing assumes that cell i of n is centred on (i + 0.5) / n of the frame. Strides and padding
decide otherwise: the cells of ResNet-50's last layer are centred on pixels 0, 32, 64, ..., half a
cell higher and further left. So the network is asked, by counting the paths from its input to a
cell: see `PathCount`.

The gradient of a cell says how many paths begin at each pixel. It is taken of two neighbouring
cells in the middle of a longer input, far from its borders. Their centroids give the stride and
where the first cell lies; how the paths spread is how far a cell looks. The input is longer by a
multiple of the stride, so that it is padded as the real one is: TensorFlow's "SAME" pads by what is
left over.
"""

import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lib.explain.paths import PathCount, tap_energies, tensors
from lib.model.networks import evaluation_mode

LONGER = (48, 144), (1152, 2304), (1152, 2304)  # more frames, rows, columns than the real input
TINY = 1e-12  # the value of the input: gates stay linear, and ReLU6 is not reached

Pair = tuple[float, float]
_measured: weakref.WeakKeyDictionary[nn.Module, dict] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, repr=False)
class ReceptiveField:
    """What one cell sees of an input of `shape`: along time in frames, height and width in pixels.

    `half`, `core` and `field` are distances (before, after) from the cell's centre to the edges of
    the shortest run of frames or pixels where half of its paths begin, 90% of them, and all, along
    each axis alone: of a box, two sides of 90% hold about 80%. They may be larger than the input,
    whose border cuts them off; infinite where all is reached, or more than can be measured.
    """

    shape: tuple[int, ...]  # T, H, W of the input
    stride: tuple[float, ...]  # from one cell to the next
    half: tuple[Pair, ...]
    core: tuple[Pair, ...]
    field: tuple[Pair, ...]

    @property
    def size(self) -> tuple[float, ...]:
        """Extent of all that can reach a cell (t, y, x): the theoretical receptive field."""
        return tuple(round(before + after, 6) for before, after in self.field)

    @property
    def effective(self) -> tuple[float, ...]:
        """Extent that holds 90% of a cell's paths (t, y, x): the effective receptive field."""
        return tuple(round(before + after, 6) for before, after in self.core)

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


class Axis(NamedTuple):
    """A receptive field along one axis."""

    shape: int  # frames or pixels of the input
    stride: float
    first: float  # the centre of cell 0; 0.5 is the middle of the first frame or pixel
    half: Pair
    core: Pair
    field: Pair


def cell_centres(network: nn.Module, layer: str, shape, grid) -> tuple[np.ndarray, ...]:
    """Centres (t,), (y,), (x,) of a layer's cells, as `centres`; arguments as of `measure`."""
    return tuple(map(centres, measure(network, layer, shape, grid), grid))


def receptive_field(axes: Sequence[Axis | None]) -> ReceptiveField | None:
    """What a cell sees along the axes of `measure`, or None where one of them is not known."""
    if None in axes:
        return None
    shape, stride, _, *extents = zip(*axes)
    return ReceptiveField(shape, stride, *extents)


def centres(axis: Axis | None, cells: int) -> np.ndarray:
    """Centres of cells as fractions of an axis. A fraction f is pixel f * size - 0.5, counting
    pixels from 0; it may lie outside 0..1 where padding is uneven. Where the axis could not be
    measured, the cells are spread evenly, centred on (i + 0.5) / cells."""
    first, stride, whole = (axis.first, axis.stride, axis.shape) if axis else (0.5, 1, cells)
    return (first + stride * np.arange(cells)) / whole


def measure(
    network: nn.Module,
    layer: str,
    shape: Sequence[int],
    grid: Sequence[int],
    reshape: Callable[[Tensor], Tensor] | None = None,
    energies: dict[str, Tensor] | None = None,
) -> list[Axis | None]:
    """A layer's receptive field along time, height and width; None where it cannot be measured, as
    with attention or transposed convolutions. What was measured is remembered.

    shape: T, H, W of the input. grid: t, h, w of the layer. reshape: makes (1, C, t, h, w) of what
    the layer gives. energies: `tap_energies` when it was explained; None are those of now.
    """
    energies = tap_energies(network) if energies is None else energies
    weights = _bytes(energies)
    known, key = _measured.setdefault(network, {}), (layer, *shape, *grid, reshape, weights)
    if key not in known:
        mode = PathCount(network, energies, weights != _bytes(tap_energies(network)))
        paths = partial(_paths, network, layer, reshape, mode)
        known[key] = [_along(axis, paths, tuple(shape), grid[axis]) for axis in range(3)]
    return known[key]


@contextmanager
def as_written(network: nn.Module) -> Iterator[list]:
    """`evaluation_mode`, and without compiled code, which passes over hooks and modes."""
    compiled = "torch._dynamo" in sys.modules  # what compiles has loaded it; it loads slowly
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        with evaluation_mode(network) as handles:
            yield handles


def _bytes(energies: dict[str, Tensor]) -> bytes:
    return b"".join(energy.cpu().numpy().tobytes() for energy in energies.values())


# --- one axis -------------------------------------------------------------------------------------


def _along(axis: int, measured: Callable, shape: tuple, cells: int, longer=None) -> Axis | None:
    """What a layer with `cells` cells along an axis sees; the other axes are as short as the
    network allows. A network that takes a single size is given that."""
    longer, short = longer or LONGER[axis], (shape[0], 8, 8)
    sizes = (1, 1, 1), (8, 8, 8), short, (shape[0], 32, 32)
    for others, more in [*product(sizes, longer), (short, 0), (shape, 0)]:
        size = [shape[i] + more if i == axis else n for i, n in enumerate(others)]
        paths, count = measured(axis, size)
        if not count:
            continue
        found = _axis(paths, count, shape[axis], more, cells)
        if found and more < longer[-1] and np.isinf(found.field[0]):
            continue  # try on a longer input
        rest = -more % max(1, round(found.stride)) if found else 0
        return _along(axis, measured, shape, cells, (more + rest,)) if rest else found
    return None


def _paths(network, layer, reshape, mode, axis: int, size) -> tuple[np.ndarray | None, int]:
    """The shares (2, L) of the paths to two cells in the middle of an axis that begin at each of
    its L pixels, or (1, L) to a single cell; and how many cells there are, 0 where the network
    refuses the size before it comes to the layer."""
    answers: list = []

    def remember(_module, _args, output):
        output = output.clone()  # an in-place ReLU may follow
        output = output if reshape is None else reshape(output)
        answers[:] = [output] if output.ndim == 5 and output.numel() else []

    with torch.inference_mode(False), torch.enable_grad(), as_written(network) as handles:
        with suppress(Exception):
            device = next((x.device for _, x in tensors(network)), None)
            probe = torch.full((1, 3, *size), TINY, dtype=torch.float64, device=device)
            handles.append(network.get_submodule(layer).register_forward_hook(remember))
            with suppress(Exception), mode:
                network(probe.requires_grad_().clone())
            (answer,) = answers[0]  # (C, t, h, w)
            cells = answer.transpose(1 + axis, 0).flatten(1).sum(1)
            two = cells[max(0, len(cells) // 2 - 1) : len(cells) // 2 + 1]
            paths = [torch.autograd.grad(cell, probe, retain_graph=True)[0] for cell in two]
            paths = torch.stack(paths).transpose(3 + axis, 1).flatten(2).sum(2)  # (2, L)
            return (paths / paths.sum(1, keepdim=True)).cpu().numpy(), len(cells)
    return None, 0


def _axis(paths: np.ndarray, count: int, length: int, more: int, cells: int) -> Axis | None:
    """The axis of an input of some length, from one measured on `more` with `count` cells; None if
    these do not stand in equal steps, or something in between does not count paths."""
    if count == 1:  # it sees everything, however long that is
        return Axis(length, float(length), length / 2, *[(np.inf,) * 2] * 3) if cells == 1 else None
    before, centre = paths @ (np.arange(length + more) + 0.5)
    stride, touched = centre - before, paths[:, [0, -1]].any()
    if not (np.isfinite(paths).all() and (paths >= 0).all() and stride > 1e-6):
        return None
    if more and abs((count - cells) * stride - more) >= stride:
        return None  # such as an adaptive pool, whose cells grow with the input
    if not more and (touched or abs(count * stride - length) > length / 2):
        return None  # the border is too near
    reached, run = np.flatnonzero(paths[1]), partial(_shortest, paths[1], centre)
    whole = (-np.inf, np.inf) if touched else (reached[0], reached[-1] + 1)
    spans = [(float(centre - a), float(b - centre)) for a, b in (run(0.5), run(0.9), whole)]
    return Axis(length, round(float(stride), 6), float(centre - count // 2 * stride), *spans)


def _shortest(shares: np.ndarray, centre: float, share: float) -> tuple[int, int]:
    """Edges of the shortest run of places that holds `share`; of equal ones, the most central."""
    before = np.concatenate([[0], shares.cumsum()])  # what lies before each edge
    ends = np.searchsorted(before, before + share - 1e-9)
    runs = [(start, int(end)) for start, end in enumerate(ends) if end < len(before)]
    return min(runs, key=lambda run: (run[1] - run[0], round(abs(sum(run) / 2 - centre), 6)))
