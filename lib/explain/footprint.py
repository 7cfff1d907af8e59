"""What one cell of a map sees of a clip, in numbers; `lib.geometry` measures it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HALF, CORE = 0.5, 0.9  # shares of a cell's paths, along each axis alone


@dataclass(frozen=True, repr=False)
class Footprint:
    """What one cell sees of an input of `shape`: along time in frames, height and width in pixels.

    `half`, `core` and `field` are distances (before, after) from the cell's centre, as `cells` and
    `steps` give it, to the edges of the shortest run of whole frames or pixels where half of its
    paths begin, 90% of them, and all. They are of each axis alone: of a box, two sides of 90% hold
    about 80%. They are the network's and may be larger than the input, whose border cuts them off.
    Infinite: a global operation reaches everything, or the cell looks farther than can be measured.
    """

    shape: tuple[int, ...]  # T, H, W of the input
    stride: tuple[float, ...]  # from one cell to the next
    half: tuple[tuple[float, float], ...]
    core: tuple[tuple[float, float], ...]
    field: tuple[tuple[float, float], ...]

    @property
    def size(self) -> tuple[float, ...]:
        """Extent of all that can reach a cell (t, y, x): the theoretical receptive field."""
        return _widths(self.field)

    @property
    def effective(self) -> tuple[float, ...]:
        """Extent that holds 90% of a cell's paths (t, y, x): the effective receptive field."""
        return _widths(self.core)

    @property
    def numbers(self) -> np.ndarray:
        """All of it (3, 8), a row an axis: shape, stride, and half, core, field in pairs."""
        columns = [[n, s] for n, s in zip(self.shape, self.stride, strict=True)]
        return np.hstack([columns, self.half, self.core, self.field])

    @classmethod
    def of(cls, numbers: np.ndarray) -> Footprint:
        """From `numbers`."""
        pairs = (tuple(map(tuple, numbers[:, i : i + 2].tolist())) for i in (2, 4, 6))
        return cls(tuple(map(int, numbers[:, 0])), tuple(numbers[:, 1].tolist()), *pairs)

    def __repr__(self) -> str:
        frames, pixels = slice(1), slice(1, 3)
        return (
            f"a cell sees {self._seen(frames)} frames{self._within(frames)} "
            f"and {self._seen(pixels)} pixels{self._within(pixels)}"
        )

    def _seen(self, axes: slice) -> str:
        seen, whole = _cut(self.size, self.shape, axes)
        return f"all {whole}" if seen == whole else f"{seen} of {whole}"

    def _within(self, axes: slice) -> str:
        """Where half of it and 90% lie, if that is less than it all."""
        seen, _ = _cut(self.size, self.shape, axes)
        shares = {"half": _widths(self.half), "90%": self.effective}
        cut = {share: _cut(widths, self.shape, axes)[0] for share, widths in shares.items()}
        parts = [f"{share} within {width}" for share, width in cut.items() if width != seen]
        each = "each way " if len(self.shape[axes]) > 1 else ""
        return f" ({each}{', '.join(parts)})" if parts else ""


def _cut(widths: Sequence[float], shape: Sequence[int], axes: slice) -> tuple[str, str]:
    """Widths along some axes, cut off at the whole, and the whole, such as 76x76 and 128x128."""
    cut = [min(width, n) for width, n in zip(widths[axes], shape[axes], strict=True)]
    return "x".join(f"{n:g}" for n in cut), "x".join(map(str, shape[axes]))


def _widths(extent: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    return tuple(round(before + after, 6) for before, after in extent)
