"""Evidence drawn over the frames. An explanation is whatever has the fields of `Explanation`."""

import numpy as np


def overlay(
    explanation,
    cls: int | str | None = None,
    opacity: float = 0.45,
    versus: int | str | None = None,
) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 with the evidence for a class drawn over them, as in the viewer.

    One scale for the whole clip and all classes: the largest value of a cell of the most probable
    class that has a map (or of two that are compared), and what is larger, is the last colour of
    inferno at `opacity`; 0 leaves the frame as it is. Lines are at 1/4, 1/2 and 3/4. Values stand
    at the cells' centres, bilinear in between. `cls` None is that most probable class; `versus` as
    in `Explanation.map`. What speaks against the class is not drawn.
    """
    from lib.viewer.viewer import COLOURS  # with matplotlib, which is slow to load

    if versus is not None:
        cls, versus = explanation.pair(cls, versus)
    first = max(explanation.mapped, key=lambda k: explanation.logits[k])
    cls = first if cls is None else cls
    drawn = explanation.map(cls, versus)
    scaled = [explanation.map(first), explanation.maps] if versus is None else [drawn]
    evidence = drawn / next((maps.max() for maps in scaled if maps.max() > 0), 1)
    size = explanation.frames.shape[1:3]
    heat = on_pixels(evidence.clip(0, 1), explanation.cells, size)  # (T, H, W)
    line = lines(heat)
    colours = COLOURS(np.minimum(1, heat + line / 4))[..., :3] * 255  # a line as the next quarter
    covered = np.minimum(1, opacity * np.maximum(heat, 2 * line))[..., None]
    return (explanation.frames + covered * (colours - explanation.frames)).round().astype(np.uint8)


def lines(heat: np.ndarray) -> np.ndarray:
    """How much of a line where heat (T, H, W) is 1/4, 1/2 or 3/4 lies on each pixel: 0 to 1."""
    if min(heat.shape[1:]) < 2:
        return np.zeros_like(heat)
    apart = abs(heat - (4 * heat).round().clip(1, 3) / 4)
    slope = np.hypot(*np.gradient(heat, axis=(1, 2)))
    level = slope <= 1e-6  # no lines on level ground
    breadth = max(1, max(heat.shape[1:]) / 256)  # half of it; the viewer's on its 384 pixels
    return np.where(level, 0, breadth - apart / np.where(level, 1, slope)).clip(0, 1)


def on_pixels(
    maps: np.ndarray, cells: tuple[np.ndarray, np.ndarray], size: tuple[int, int]
) -> np.ndarray:
    """Maps (..., h, w) on the pixels of a frame (..., H, W): bilinear between the cells' centres,
    constant beyond the outermost."""
    rows, columns = (interpolation(centres, n) for centres, n in zip(cells, size))
    return rows @ maps @ columns.T


def interpolation(centres: np.ndarray, n: int) -> np.ndarray:
    """(n, len(centres)): value at each of n pixels from values at the centres; beyond the outermost
    centres, theirs."""
    pixels = (np.arange(n) + 0.5) / n
    return np.stack([np.interp(pixels, centres, unit) for unit in np.eye(len(centres))], axis=1)
