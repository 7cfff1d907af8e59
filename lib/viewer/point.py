"""Point first: the reader says where and when the action is, before any heat is shown.

Prints `<cam-point>`, clips whose truth is known. The reader's answer and the peaks of maps get
the same marks; then the clip opens into the viewer. Without scripts the contact sheets stay.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lib.viewer.gallery import TILE, Gallery
from lib.viewer.viewer import element, script

SCRIPT = Path(__file__).with_suffix(".js")


def point(
    explanations: Sequence,
    actions: Sequence[tuple[float, float]],
    maps: Mapping[str, Sequence[np.ndarray]],
) -> Gallery:
    """Explanations with a mask; the start and end of each action in seconds; and, under the name of
    each rival of the reader, a map (T, H, W) of every clip, on the pixels of its mask.

    Raises ValueError naming what does not fit.
    """
    for name, found in {"actions": actions, **maps}.items():
        if len(found) != len(explanations) or not explanations:
            raise ValueError(f"{name}: {len(found)} for {len(explanations)} clips: one to each")
    clips = []
    for clip, (explanation, (start, end), *heats) in enumerate(
        zip(explanations, actions, *maps.values())
    ):
        mask, times = explanation.mask, explanation.times
        acting = np.flatnonzero((times >= start) & (times <= end))
        if mask is None or not mask.any() or not acting.size:
            raise ValueError(f"clip {clip}: a mask, and an action that is seen, are needed")
        for name, heat in zip(maps, heats):
            if heat.shape != mask.shape or not np.isfinite(heat).all():
                raise ValueError(f"{name}, clip {clip}: {heat.shape}, not finite {mask.shape}")
        clips.append({"acting": [int(acting[0]), int(acting[-1])], "peaks": [*map(peak, heats)]})
    data = json.dumps({"rivals": list(maps), "clips": clips}).replace("<", "\\u003c")
    viewers = "".join(element(explanation, size=TILE, quality=60) for explanation in explanations)
    asked = f'<cam-point><script type="application/json">{data}</script>{viewers}</cam-point>'
    return Gallery(len(clips), asked + script(SCRIPT) + script())


def peak(heat: np.ndarray) -> tuple[int, float, float]:
    """Frame, and y and x as shares of it, of the greatest value of a map (T, H, W); of several
    equal ones, that which is nearest to the middle of them."""
    greatest = np.argwhere(heat == heat.max())
    t, *place = greatest[((greatest - greatest.mean(0)) ** 2).sum(1).argmin()]
    return int(t), *(round((p + 0.5) / n, 4) for p, n in zip(place, heat.shape[1:]))
