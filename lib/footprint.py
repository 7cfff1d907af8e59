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
        widths = [_widths(extent) for extent in (self.half, self.core, self.field)]
        parts = [
            ", ".join(f"{w:g}" if w < whole else "all" for w in axis) + f" of {whole} {unit}"
            for *axis, whole, unit in zip(
                *widths, self.shape, ("frames", "pixels down", "pixels across"), strict=True
            )
        ]
        return f"half, 90% and all that a cell sees: {'; '.join(parts)}"


def _widths(extent: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    return tuple(round(before + after, 6) for before, after in extent)
