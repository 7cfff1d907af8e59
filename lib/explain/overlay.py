"""Evidence drawn over the frames. An explanation is whatever has the fields of `Explanation`."""

import numpy as np


def overlay(
    explanation,
    cls: int | str | None = None,
    opacity: float = 0.65,
    versus: int | str | None = None,
) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 with the evidence for a class drawn over them.

    Only what speaks for the class is drawn, on one scale for the whole clip: the clip's largest
    value is the last colour of inferno at `opacity`, 0 leaves the frame as it is. Values stand at
    the cells' centres, bilinear in between. `cls` None is the most probable class that has a map;
    `versus` as in `Explanation.map`.
    """
    from matplotlib import colormaps

    if versus is not None:
        cls, versus = explanation.pair(cls, versus)
    elif cls is None:
        cls = max(explanation.mapped, key=lambda k: explanation.logits[k])
    heat = shown(explanation, cls, versus)  # (T, H, W)
    colours = colormaps["inferno"](heat)[..., :3] * 255  # (T, H, W, 3)
    mixed = explanation.frames + opacity * heat[..., None] * (colours - explanation.frames)
    return mixed.round().astype(np.uint8)


def shown(explanation, cls: int | str, versus: int | str | None = None) -> np.ndarray:
    """What a picture shows of a map: its positive part on the pixels (T, H, W), where 1 is the
    greatest cell of the clip."""
    evidence = explanation.map(cls, versus).clip(min=0)
    evidence = evidence / (evidence.max() or 1)
    return on_pixels(evidence, explanation.cells, explanation.frames.shape[1:3])


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
