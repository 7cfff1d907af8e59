"""The one object that everything after the network speaks of: a clip with its evidence."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from html import escape
from pathlib import Path
from uuid import uuid4

import numpy as np

from lib.video import VideoError, write_video

FPS = 4.0  # of a clip given as an array


class ExplainError(ValueError):
    """What cannot be explained as asked, and what to ask instead."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Maps of the evidence for some classes on every frame of a clip.

    A map is signed: what speaks for a class is above 0, what speaks against it below. Where `bias`
    is given the parts add up: ``map(k).sum() + bias[k]`` is the logit of class k.
    """

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB, square
    times: np.ndarray  # (T,) seconds
    classes: list[str]  # K names
    logits: np.ndarray  # (K,) float32
    bias: np.ndarray | None  # (K,) float32; None where the maps do not add up to the logits
    maps: np.ndarray  # (M, T, h, w) float32, signed
    mapped: list[int]  # class index of each map
    cells: tuple[np.ndarray, np.ndarray]  # y (h,), x (w,): centres, fractions of the frame
    method: str
    layer: str
    label: int | None = None  # index of the true class
    mask: np.ndarray | None = None  # (T, H, W) bool, where something really moves

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits (K,)."""
        exponentials = np.exp(self.logits - self.logits.max())
        return exponentials / exponentials.sum()

    def top(self, k: int = 2) -> list[tuple[str, float]]:
        """The `k` most probable classes, each with its probability."""
        probabilities = self.probabilities
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(self.classes[i], float(probabilities[i])) for i in order]

    def map(self, cls: int | str) -> np.ndarray:
        """Signed map (T, h, w) of one class, by name or index."""
        index = class_index(self.classes, cls)
        if index not in self.mapped:
            name = self.classes[index]
            raise ExplainError(f"{name!r} has no map here; name it in classes= of explain()")
        return self.maps[self.mapped.index(index)]

    def ledger(self, cls: int | str) -> np.ndarray:
        """What each frame adds to the logit of one class (T,): the sums of its signed map."""
        return self.map(cls).sum(axis=(1, 2), dtype=np.float64)

    def summary(self) -> str:
        """The true class and the two most probable, one a line, with probabilities."""
        rows = [] if self.label is None else [("true", self.classes[self.label], "")]
        places = zip(("1st", "2nd"), self.top(2), strict=False)
        rows += [(place, name, f"{p:.2f}".removeprefix("0")) for place, (name, p) in places]
        width = max(len(name) for _, name, _ in rows)
        return "\n".join(f"{place:<4}  {name:<{width}}  {p}".rstrip() for place, name, p in rows)

    def save(self, path: str | Path, cls: int | str | None = None) -> None:
        """Write a page with the viewer (.html), or original and overlay side by side (.gif, .mp4,
        .webm). `cls` is the class shown (first); None is the most probable one that has a map.

        Raises VideoError where a file of this name cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".html":
            return write_page(path, self, cls)
        pair = np.concatenate([self.frames, overlay(self, cls)], axis=2)  # (T, H, 2W, 3)
        gaps = np.diff(self.times)
        rate = 1 / float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else FPS
        write_video(path, pair, rate)

    def __repr__(self) -> str:
        (name, p), (t, height, width) = self.top(1)[0], self.frames.shape[:3]
        shape = "x".join(map(str, self.maps.shape[1:]))
        return (
            f"Explanation({name!r} {p:.2f}, {t} frames of {height}x{width}, "
            f"{len(self.mapped)} maps of {shape} by {self.method!r} at {self.layer!r})"
        )

    def _repr_html_(self) -> str:
        from lib.viewer import html  # the viewer reads explanations; only this shortcut looks ahead

        return html(self)


def class_index(classes: Sequence[str], cls: int | str) -> int:
    """Index of a class given by name or index; ExplainError names the nearest ones."""
    if isinstance(cls, str):
        if cls in classes:
            return list(classes).index(cls)
        raise ExplainError(f"no class {cls!r}{nearest(cls, classes)}")
    if not 0 <= cls < len(classes):
        raise ExplainError(f"no class {cls}: there are {len(classes)}, counted from 0")
    return int(cls)


def overlay(
    explanation: Explanation, cls: int | str | None = None, opacity: float = 0.65
) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 with the evidence for a class drawn over them.

    Only what speaks for the class is drawn, on one scale for the whole clip: the clip's largest
    value is the last colour of inferno at `opacity`, 0 leaves the frame as it is. Values stand at
    the cells' centres, bilinear in between. `cls` None is the most probable class that has a map.
    """
    from matplotlib import colormaps

    if cls is None:
        cls = max(explanation.mapped, key=lambda k: explanation.logits[k])
    evidence = explanation.map(cls).clip(min=0)
    evidence = evidence / (evidence.max() or 1)
    height, width = explanation.frames.shape[1:3]
    rows = interpolation(explanation.cells[0], height)  # (H, h)
    columns = interpolation(explanation.cells[1], width)  # (W, w)
    heat = rows @ evidence @ columns.T  # (T, H, W)
    colours = colormaps["inferno"](heat)[..., :3] * 255  # (T, H, W, 3)
    mixed = explanation.frames + opacity * heat[..., None] * (colours - explanation.frames)
    return mixed.round().astype(np.uint8)


def interpolation(centres: np.ndarray, n: int) -> np.ndarray:
    """(n, len(centres)): value at each of n pixels from values at the centres, held at the ends."""
    pixels = (np.arange(n) + 0.5) / n
    return np.stack([np.interp(pixels, centres, unit) for unit in np.eye(len(centres))], axis=1)


def nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, [k for k in known if k], n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def write_page(path: Path, explanation: Explanation, cls: int | str | None) -> None:
    """A page that stands alone: the viewer, and nothing from another host."""
    from lib.viewer import html

    title = escape(explanation.top(1)[0][0])
    selected = None if cls is None else class_index(explanation.classes, cls)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n"
        "<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;"
        "padding:0 1rem}</style>\n"
        f"</head>\n<body>\n<h1>{title}</h1>\n{html(explanation, selected=selected)}\n"
        "</body>\n</html>\n"
    )
    whole = path.with_name(f".{path.stem}-{uuid4().hex[:8]}.html")
    try:
        whole.write_text(page, encoding="utf-8")
        os.replace(whole, path)
    except OSError as error:
        raise VideoError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        whole.unlink(missing_ok=True)
