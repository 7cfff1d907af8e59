"""Is the map right? Marks on the truth of a drawn clip, and controls that a method has to beat.

A map is `heat` (T, H, W), signed, on the pixels of the clip; a mask (T, H, W) says what moves.
"""

import numpy as np

from lib.data.video import Clip
from lib.explain.overlay import on_pixels

YARDSTICK = "frame differences"  # the control that a method has to beat
CELLS = 16  # along each side, of the controls that are about as coarse as a network's map


def pointing(heat: np.ndarray, mask: np.ndarray) -> float:
    """The pointing game (Zhang et al. 2018, arXiv 1608.00507): does the greatest value lie in the
    mask? Of several equal ones, the share that does. No tolerance around the mask."""
    _check(heat, mask)
    return float(mask[heat == heat.max()].mean())


def relevance_mass(heat: np.ndarray, mask: np.ndarray) -> float:
    """Share of the positive evidence that lies in the mask (Arras et al. 2022, arXiv 2003.07258);
    a map without any has its mass spread evenly."""
    _check(heat, mask)
    positive = heat.clip(0)
    return float(positive[mask].sum() / positive.sum()) if positive.any() else float(mask.mean())


def relevance_rank(heat: np.ndarray, mask: np.ndarray) -> float:
    """Of the K greatest values, K the size of the mask, the share in it; equals in proportion."""
    _check(heat, mask)
    count = int(mask.sum())
    last = np.partition(heat, heat.size - count, axis=None)[heat.size - count]
    above, level = heat > last, heat == last
    return float((mask[above].sum() + (count - above.sum()) * mask[level].mean()) / count)


def marks(heat: np.ndarray, truth) -> dict[str, float]:
    """All marks of one map that the `truth` of a drawn clip allows: none in space where the camera
    moves (all of the frame is truth then), none in time where the action lasts the whole clip."""
    start, end = truth.action
    acting = (truth.times >= start) & (truth.times <= end)  # (T,)
    found, mask = {}, truth.mask
    if not truth.camera_moves and mask.any():
        found |= dict(pointing=pointing(heat, mask), mass=relevance_mass(heat, mask))
        found |= dict(rank=relevance_rank(heat, mask))
    if acting.any() and not acting.all():
        found["time"] = pointing(heat.sum((1, 2)), acting)
    return found


def controls(clip: Clip, seed: int = 0) -> dict[str, np.ndarray]:
    """Maps made without a network: what a method has to beat, and the best that it could be.

    A blob in the middle; how much each pixel changes from frame to frame; one value everywhere;
    random values on 16x16 cells; and the truth, as 16x16 cells can show it.
    """
    from scipy.ndimage import gaussian_filter

    frames = clip.frames.astype(np.float32)
    t, height, width = frames.shape[:3]
    if clip.mask is None or height % CELLS or width % CELLS:
        raise ValueError(f"{clip!r}: need a mask, and sides that are multiples of {CELLS}")
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (height, width)), indexing="ij")
    change = np.abs(np.diff(frames, axis=0)).mean(3)  # (T - 1, H, W)
    change = (np.concatenate([change[:1], change]) + np.concatenate([change, change[-1:]])) / 2
    cells = ((np.arange(CELLS) + 0.5) / CELLS,) * 2
    moving = clip.mask.reshape(t, CELLS, height // CELLS, CELLS, -1).mean((2, 4))  # (T, 16, 16)
    noise = np.random.default_rng(seed).random((t, CELLS, CELLS))
    return {
        "centre blob": np.tile(np.exp(-2 * (x**2 + y**2)), (t, 1, 1)),
        YARDSTICK: gaussian_filter(change, (0, height / 64, width / 64)),
        "constant": np.ones((t, height, width)),
        "random": on_pixels(noise, cells, (height, width)),
        "oracle": on_pixels(moving, cells, (height, width)),
    }


def _check(heat: np.ndarray, mask: np.ndarray) -> None:
    if heat.shape != mask.shape or not mask.any() or not np.isfinite(heat).all():
        about = f"map {heat.shape}, mask {mask.shape} with {mask.sum()} pixels"
        raise ValueError(f"{about}: need the same shape, finite values, a mask that is not empty")
