"""Where a cell of a map looks, and how far: its receptive field, measured from the network.

Half-pixel resizing assumes that cell *i* of *n* sits at ``(i + 0.5) / n`` of the frame. Strides and
padding decide otherwise: the cells of ResNet-50's last layer are centred on pixels 0, 32, 64, ...,
half a cell higher and further left. So the network is asked, with every path from the input to a
cell counted alike (Luo et al. 2016, arXiv 1701.04128, count paths the same way):

- every convolution and max pool becomes a mean over its window, norms become the identity;
- one pass takes a constant frame and one ramp per axis. Divided by the constant's answer, a ramp's
  answer at a cell is the centroid of that cell's paths;
- zero padding is replaced by continuing the ramp, so that border cells are not pulled inwards.

The padding a network really applies at this input size is what is measured, TensorFlow's uneven
one included. The mean gives the taps of a convolution equal weight, or, with taps="learned", the
energy its trained weights have there (the sum of their squares over channels), since a gradient of
random signs spreads like that. For symmetric padding and kernels both agree. Where padding is
uneven, training leans the kernels against it: see `test_learned_taps_predict_where_gradients_lie`.

How far a cell looks follows from the same paths, one axis at a time: the gradient of one cell in
the middle of a long input says how many paths begin at each of its pixels. Where that is above 0 is
the cell's field; as most paths begin near its middle, so is the part of it that holds most of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lib.explain.footprint import CORE, HALF, Footprint
from lib.model.networks import evaluation_mode

TINY = 1e-12  # keeps gates linear and clamps (ReLU6) out of reach
REACH = 100.0  # a ramp climbs by 1 / REACH over the frame, so it stays positive far outside of it
TAPS = ("equal", "learned")
FRAMES, SIDE = 1, 64  # the extents that are not being measured, kept small
LENGTHS = (32, 128), (2048,), (2048,)  # inputs that fields are measured on: t, y, x
SHORT = (1, 8)  # the other two extents then, the second where the first is refused
REFUSALS = (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, LookupError)

_measured: weakref.WeakKeyDictionary[nn.Module, dict] = weakref.WeakKeyDictionary()


def cells(
    network: nn.Module,
    layer: str,
    size: int | tuple[int, int],
    grid: tuple[int, int] | None = None,
    frames: int = 16,
    taps: str = "equal",
) -> tuple[np.ndarray, np.ndarray]:
    """Centres ``(y (h,), x (w,))`` of a layer's cells, as fractions of the frame.

    `size` is the input's height and width in pixels. A fraction ``f`` is pixel ``f * size - 0.5``,
    counting pixels from 0. A centre may lie outside 0..1 where padding is uneven. Each network,
    layer and size is measured once, with taps="learned" again once the weights have changed.
    `frames` is used only by networks that refuse a single frame.

    Where nothing even can be measured (attention, transposed convolutions, scripted modules) the
    cells of `grid` = (h, w) are spread evenly over the frame: centres at half cells,
    ``(i + 0.5) / n``. Raises ValueError if that is needed and `grid` is not given.
    """
    _check_taps(taps)
    height, width = (size, size) if isinstance(size, int) else size
    grid = grid or (None, None)
    for count in (FRAMES, frames):
        _, y, x = _centres(network, layer, (count, height, width), taps)
        if _even(y, grid[0]) and _even(x, grid[1]):
            return y, x
    if None in grid:
        raise ValueError(f"cells of {layer!r} cannot be measured; pass grid=(h, w) to spread them")
    return _half_cells(grid[0]), _half_cells(grid[1])


def steps(network: nn.Module, layer: str, frames: int, count: int | None = None) -> np.ndarray:
    """Centres (t,) of a layer's time steps, as fractions of a clip of `frames` frames.

    Measured like `cells`; `count` is the number of steps, for the same half-step rule.
    """
    t, _, _ = _centres(network, layer, (frames, SIDE, SIDE), "equal")
    if _even(t, count):
        return t
    if count is None:
        raise ValueError(f"steps of {layer!r} cannot be measured; pass count= to spread them")
    return _half_cells(count)


def footprint(
    network: nn.Module, layer: str, shape: tuple[int, int, int], taps: str = "learned"
) -> Footprint | None:
    """What a cell of a layer sees of an input of `shape` (T, H, W), or None where nothing can say.

    It is a cell's in the middle of an input large enough, so that it does not depend on `shape`,
    which is noted only. A tap whose weights are all 0 lets nothing through, with taps="learned":
    the temporal ones of `lib.inflate` start so. Each network and layer is measured once, again
    when the weights have changed.
    """
    _check_taps(taps)

    def measure() -> list[tuple] | None:
        axes = []
        for axis in range(3):
            paths = _paths(network, layer, axis, taps)
            if paths is None:
                return None
            axes.append(_extents(*paths))
        return axes

    axes = _once(network, (layer, "footprint", taps), measure)
    return axes and Footprint(tuple(shape), *zip(*axes, strict=True))


# --- one pass -------------------------------------------------------------------------------------


def _centres(network: nn.Module, layer: str, shape: tuple[int, int, int], taps: str) -> list:
    """Centres along time, height and width at a layer, as fractions of `shape`, or three None."""
    return _once(
        network, (layer, shape, taps), lambda: _centroids(_answer(network, layer, shape, taps))
    )


def _once(network: nn.Module, key: tuple[str, object, str], measure: Callable):
    """What was measured under `key`, whose last entry is the taps: learned ones may change."""
    known = _measured.setdefault(network, {})
    version = sum(p._version for p in network.parameters()) if key[-1] == "learned" else 0
    if known.get(key, (None, None))[0] != version:
        known[key] = version, measure()
    return known[key][1]


def _check_taps(taps: str) -> None:
    if taps not in TAPS:
        raise ValueError(f"taps={taps!r}: choose one of {', '.join(TAPS)}")


def _answer(
    network: nn.Module, layer: str, shape: tuple[int, int, int], taps: str
) -> Tensor | None:
    """The layer's answer (4, C, t, h, w) to a constant and three ramps, or None if it has none."""
    with torch.inference_mode():
        probe = torch.ones(4, 3, *shape, dtype=torch.float64, device=_device(network))
        for axis, n in enumerate(shape):
            ramp = (torch.arange(n, dtype=torch.float64, device=probe.device) + 0.5) / n / REACH
            probe[1 + axis].transpose(1 + axis, -1).add_(ramp)  # (3, T, H, W), axis last
        return _run(network, layer, probe, taps)


def _run(network: nn.Module, layer: str, probe: Tensor, taps: str) -> Tensor | None:
    """The layer's answer, paths counted alike, to a probe (N, 3, T, H, W); of its last run."""
    answers: list = []

    def remember(_module, _args, output):
        answers[:] = [output.clone() if isinstance(output, Tensor) else None]

    with evaluation_mode(network) as handles:
        handles.append(network.get_submodule(layer).register_forward_hook(remember))
        try:
            with _PathCount(taps):
                network(probe * TINY)
        except REFUSALS:
            pass  # below the layer there is no answer, above it none is needed
    return answers[0] if answers else None


def _device(network: nn.Module) -> torch.device:
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def _centroids(answer: Tensor | None) -> list:
    if not isinstance(answer, Tensor) or answer.ndim != 5:
        return [None] * 3
    mass, *moments = answer.mean(1)  # each (t, h, w)
    return [
        (((moment / mass - 1) * REACH).transpose(axis, -1).flatten(0, -2).mean(0)).cpu().numpy()
        for axis, moment in enumerate(moments)
    ]


def _even(centres: np.ndarray | None, count: int | None) -> bool:
    """True if the centres rise in equal steps, `count` of them where that is known."""
    if centres is None or not np.isfinite(centres).all() or count not in (None, len(centres)):
        return False
    gaps = np.diff(centres)
    return not len(gaps) or (gaps.min() > 1e-6 and np.ptp(gaps) < 1e-6)


def _half_cells(n: int) -> np.ndarray:
    return (np.arange(n) + 0.5) / n


# --- how far a cell looks ------------------------------------------------------------------------


def _paths(network: nn.Module, layer: str, axis: int, taps: str) -> tuple[float, np.ndarray] | None:
    """The stride, and the shares (L,) of the paths to a cell in the middle that begin at each of L
    places of an axis, or None. L holds the cell's field, or is the longest of `LENGTHS`."""
    found = None
    for length in LENGTHS[axis]:
        for short in SHORT:
            shape = [length if i == axis else short for i in range(3)]
            found = _gradient(network, layer, shape, axis, taps)
            if found is not None:
                break
        if found is None or not found[1][[0, -1]].any():
            break
    counted = found is not None and np.isfinite(found[1]).all() and (found[1] >= 0).all()
    return found if counted else None  # below 0 where something in between does not count paths


def _gradient(
    network: nn.Module, layer: str, shape: Sequence[int], axis: int, taps: str
) -> tuple[float, np.ndarray] | None:
    with torch.inference_mode(False), torch.enable_grad():
        probe = torch.ones(1, 3, *shape, dtype=torch.float64, device=_device(network))
        slope = 1 / shape[axis] / REACH
        places = torch.arange(shape[axis], dtype=torch.float64, device=probe.device) * slope
        probe.transpose(2 + axis, -1).add_(places)
        answer = _run(network, layer, probe.requires_grad_(), taps)
        if not isinstance(answer, Tensor) or answer.ndim != 5:
            return None
        cells = answer.transpose(2 + axis, 0).flatten(1).sum(1)  # (n,)
        middle = len(cells) // 2
        try:
            (paths,) = torch.autograd.grad(cells[middle], probe)
        except REFUSALS:
            return None
    paths = paths.transpose(2 + axis, 0).flatten(1).sum(1)  # (L,)
    climb = (cells[middle] - cells[middle - 1]).detach() if middle else torch.inf  # one cell only
    return float(climb / paths.sum() / slope), (paths / paths.sum()).cpu().numpy()


def _extents(stride: float, paths: np.ndarray) -> tuple:
    """Stride, half, core and field of shares (L,); the last three as distances from the centre."""
    centre = float(paths @ (np.arange(len(paths)) + 0.5))
    reached = np.flatnonzero(paths)
    runs = [_shortest(paths, centre, share) for share in (HALF, CORE)]
    runs += [(-np.inf, np.inf) if paths[[0, -1]].any() else (reached[0], reached[-1] + 1)]
    spans = [(centre - float(start), float(end) - centre) for start, end in runs]
    return round(stride, 6), *spans


def _shortest(shares: np.ndarray, centre: float, share: float) -> tuple[int, int]:
    """Edges of the shortest run of places that holds `share`; of equal ones, the most central."""
    before = np.concatenate([[0], shares.cumsum()])  # what lies before each edge
    ends = np.searchsorted(before, before + share - 1e-9)
    runs = [(start, int(end)) for start, end in enumerate(ends) if end < len(before)]
    return min(runs, key=lambda run: (run[1] - run[0], round(abs(sum(run) / 2 - centre), 6)))


# --- counting paths -------------------------------------------------------------------------------


class _PathCount(TorchFunctionMode):
    """Inside it, windows take means, norms do nothing, and padding continues the ramp."""

    def __init__(self, taps: str):
        super().__init__()
        self.taps = taps

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in {"conv1d", "conv2d", "conv3d"}:
            return _convolution(self.taps, *args, **kwargs)
        if name in {"max_pool1d", "max_pool2d", "max_pool3d"}:
            return _pool(*args, **kwargs)
        if name in {"avg_pool1d", "avg_pool2d", "avg_pool3d"}:
            return _average_pool(*args, **kwargs)
        if name.startswith("adaptive_max_pool"):
            average = getattr(torch.nn.functional, name.replace("max", "avg"))
            return average(*args[:2])
        if name in {"batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"}:
            return args[0]
        if name == "linear":
            weight = args[1]
            return args[0].mean(-1, keepdim=True).repeat_interleave(weight.shape[0], -1)
        if name == "pad":
            return _pad(function, *args, **kwargs)
        return function(*args, **kwargs)


def _convolution(
    taps: str, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
) -> Tensor:
    """A convolution whose weights sum to 1, the same for every channel, bias 0."""
    kernel = weight.shape[2:]
    if padding == "same":
        reach = [d * (k - 1) for k, d in zip(kernel, _each(dilation, len(kernel)), strict=True)]
        x, padding = _extend(x, [(r // 2, r - r // 2) for r in reach]), 0
    elif padding == "valid":
        padding = 0
    x = x.unflatten(1, (groups, -1)).mean(2)  # (N, groups, ...)
    energy = x.new_ones(kernel)
    if taps == "learned" and weight.any():
        energy = weight.detach().float().square().sum((0, 1)).to(x.dtype)
    x = _window(x, kernel, stride, padding, dilation, energy=energy)
    return x.repeat_interleave(weight.shape[0] // groups, 1)


def _pool(x, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return _window(x, kernel, stride or kernel, padding, dilation, ceil_mode)


def _average_pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, *_, **__) -> Tensor:
    return _window(x, kernel_size, stride or kernel_size, padding, 1, ceil_mode)


def _pad(function, x, pad: Sequence[int], mode: str = "constant", value=None) -> Tensor:
    if len(pad) > 2 * (x.ndim - 2) or min(pad) < 0:  # channels padded, or a crop
        return function(x, pad, mode, value)
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]  # F.pad counts from the last axis
    return _extend(x, pairs)


def _window(x, kernel, stride, padding=0, dilation=1, ceil_mode=False, energy=None) -> Tensor:
    """Mean over sliding windows of the axes after (N, C), weighted by `energy` (*kernel).

    Taken one axis at a time: on ramps only the centroid of the weights counts.
    """
    n = x.ndim - 2
    settings = zip(*(_each(v, n) for v in (kernel, stride, padding, dilation)), strict=True)
    for axis, (k, s, p, d) in enumerate(settings, start=2):
        reach, length = d * (k - 1) + 1, x.shape[axis]
        after = p
        if ceil_mode:  # the last window may hang over the end, if it starts before it
            count = -(-(length + 2 * p - reach) // s) + 1
            count -= (count - 1) * s >= length + p
            after = max(p, (count - 1) * s + reach - length - p)
        x = _extend(x, [(0, 0)] * (axis - 2) + [(p, after)] + [(0, 0)] * (n + 1 - axis))
        count = (x.shape[axis] - reach) // s + 1
        share = [1 / k] * k
        if energy is not None:
            others = [i for i in range(n) if i != axis - 2]
            share = energy.sum(others) if others else energy  # (k,)
            share = (share / share.sum()).tolist()
        x = sum(share[i] * _strided(x, axis, i * d, count, s) for i in range(k))
    return x


def _strided(x: Tensor, axis: int, start: int, count: int, step: int) -> Tensor:
    return x.narrow(axis, start, (count - 1) * step + 1).unfold(axis, 1, step).squeeze(-1)


def _extend(x: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Pad the last axes by (before, after), continuing the slope each axis has."""
    for axis, (before, after) in enumerate(pairs, start=x.ndim - len(pairs)):
        if before or after:
            first, last = x.narrow(axis, 0, 1), x.narrow(axis, -1, 1)
            slope = (last - first) / max(x.shape[axis] - 1, 1)
            shape = [-1 if i == axis else 1 for i in range(x.ndim)]
            left = torch.arange(-before, 0, dtype=x.dtype, device=x.device).view(shape)
            right = torch.arange(1, after + 1, dtype=x.dtype, device=x.device).view(shape)
            x = torch.cat([first + slope * left, x, last + slope * right], axis)
    return x


def _each(value: int | Sequence[int], n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value) * (n if len(value) == 1 else 1)
