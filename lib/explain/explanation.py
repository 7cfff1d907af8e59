"""The one object that everything after the network speaks of: a clip with its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from html import escape
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from lib.data.video import write_video
from lib.explain.footprint import Footprint
from lib.files import write_text, write_whole

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
    footprint: Footprint | None = None  # what one cell sees; None where it cannot be measured

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

    def map(self, cls: int | str, versus: int | str | None = None) -> np.ndarray:
        """Signed map (T, h, w) of one class, by name or index.

        With `versus`, less the map of that class: what speaks for the one and not the other. Where
        maps add up to logits, it adds up to their difference.
        """
        if versus is not None:
            return self.map(cls) - self.map(versus)
        index = class_index(self.classes, cls)
        if index not in self.mapped:
            name = self.classes[index]
            raise ExplainError(f"{name!r} has no map here; name it in classes= of explain()")
        return self.maps[self.mapped.index(index)]

    def ledger(self, cls: int | str, versus: int | str | None = None) -> np.ndarray:
        """What each frame adds to the logit of one class (T,), or to its lead over another: the
        sums of the signed map."""
        return self.map(cls, versus).sum(axis=(1, 2), dtype=np.float64)

    def pair(self, cls=None, versus=None) -> tuple[int, int]:
        """Indices of two classes to compare; where not given, the most probable that have maps."""
        ranked = sorted(self.mapped, key=lambda k: -self.logits[k])
        first = None if cls is None else class_index(self.classes, cls)
        second = None if versus is None else class_index(self.classes, versus)
        if first is None:
            first = next((k for k in ranked if k != second), None)
        if second is None:
            second = next((k for k in ranked if k != first), None)
        if first is None or second is None:
            raise ExplainError("two maps are needed to compare; name two in classes= of explain()")
        return first, second

    def why(self, cls: int | str | None = None, versus: int | str | None = None) -> str:
        """Why A and not B, in numbers: A's lead, and the frames that gave it the most and least.

        By default, why the most probable class and not the second.
        """
        a, b = self.pair(cls, versus)
        bars, lead = self.ledger(a, b), float(self.logits[a] - self.logits[b])
        most, least = int(bars.argmax()), int(bars.argmin())
        offset = "" if self.bias is None else f", bias {self.bias[a] - self.bias[b]:+.2f}"
        verb = "leads" if lead >= 0 else "trails"
        return (
            f"{self.classes[a]} {verb} {self.classes[b]} by {abs(lead):.2f}: "
            f"most at {self.times[most]:.2f} s ({bars[most]:+.2f}), "
            f"least at {self.times[least]:.2f} s ({bars[least]:+.2f}){offset}"
        )

    def summary(self) -> str:
        """The true class and the two most probable, one a line, with probabilities."""
        rows = [] if self.label is None else [("true", self.classes[self.label], "")]
        places = zip(("1st", "2nd"), self.top(2), strict=False)
        rows += [(place, name, f"{p:.2f}".removeprefix("0")) for place, (name, p) in places]
        width = max(len(name) for _, name, _ in rows)
        return "\n".join(f"{place:<4}  {name:<{width}}  {p}".rstrip() for place, name, p in rows)

    def save(
        self, path: str | Path, cls: int | str | None = None, versus: int | str | None = None
    ) -> None:
        """Write a page with the viewer (.html), original and overlay side by side (.gif, .mp4,
        .webm), or all the numbers, for `load` (.npz). `cls` is the class shown (first), None the
        most probable one that has a map; `versus` as in `map`.

        Raises VideoError where a file of this name cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".html":
            return write_page(path, self, cls, versus)
        if path.suffix.lower() == ".npz":
            return write_numbers(path, self)
        pair = np.concatenate([self.frames, overlay(self, cls, versus=versus)], axis=2)
        gaps = np.diff(self.times)
        rate = 1 / float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else FPS
        write_video(path, pair, rate)  # (T, H, 2W, 3)

    def __repr__(self) -> str:
        (name, p), (t, height, width) = self.top(1)[0], self.frames.shape[:3]
        shape = "x".join(map(str, self.maps.shape[1:]))
        return (
            f"Explanation({name!r} {p:.2f}, {t} frames of {height}x{width}, "
            f"{len(self.mapped)} maps of {shape} by {self.method!r} at {self.layer!r})"
        )

    def _repr_html_(self) -> str:
        from lib.viewer.viewer import (
            html,  # the viewer reads explanations; only this shortcut looks ahead
        )

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


def load(path: str | Path) -> Explanation:
    """An explanation that was saved as .npz.

    Raises ExplainError for a file that is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        values = dict.fromkeys((f.name for f in fields(Explanation)), None)
        values["cells"] = found.pop("y"), found.pop("x")
        values |= {name: array if array.ndim else array.item() for name, array in found.items()}
        for name in ("classes", "mapped"):
            values[name] = found[name].tolist()
        if "footprint" in found:
            values["footprint"] = Footprint.of(found["footprint"])
        return Explanation(**values)
    except (OSError, ValueError, LookupError, TypeError, BadZipFile) as error:
        raise ExplainError(f"{path}: no saved explanation ({error})") from error


def overlay(
    explanation: Explanation,
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


def shown(explanation: Explanation, cls: int | str, versus: int | str | None = None) -> np.ndarray:
    """What a picture shows of a map: its positive part on the pixels (T, H, W), where 1 is the
    greatest cell of the clip."""
    evidence = explanation.map(cls, versus).clip(min=0)
    evidence = evidence / (evidence.max() or 1)
    return on_pixels(evidence, explanation.cells, explanation.frames.shape[1:3])


def on_pixels(
    maps: np.ndarray, cells: tuple[np.ndarray, np.ndarray], size: tuple[int, int]
) -> np.ndarray:
    """Maps (..., h, w) on the pixels of a frame (..., H, W): bilinear between the cells' centres,
    held beyond the outermost."""
    rows, columns = (interpolation(centres, n) for centres, n in zip(cells, size))
    return rows @ maps @ columns.T


def interpolation(centres: np.ndarray, n: int) -> np.ndarray:
    """(n, len(centres)): value at each of n pixels from values at the centres, held at the ends."""
    pixels = (np.arange(n) + 0.5) / n
    return np.stack([np.interp(pixels, centres, unit) for unit in np.eye(len(centres))], axis=1)


def nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, [k for k in known if k], n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def write_page(
    path: Path, explanation: Explanation, cls: int | str | None, versus: int | str | None
) -> None:
    """A page that stands alone: the viewer, and nothing from another host."""
    from lib.viewer.viewer import html

    title = escape(explanation.top(1)[0][0])
    selected = None if cls is None else class_index(explanation.classes, cls)
    if versus is not None:
        selected, versus = explanation.pair(cls, versus)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n"
        "<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;"
        "padding:0 1rem}</style>\n"
        f"</head>\n<body>\n<h1>{title}</h1>\n"
        f"{html(explanation, selected=selected, versus=versus)}\n</body>\n</html>\n"
    )
    write_text(path, page)


def write_numbers(path: Path, explanation: Explanation) -> None:
    """Every field that is not None, as arrays."""
    values = {f.name: getattr(explanation, f.name) for f in fields(explanation)}
    values["y"], values["x"] = values.pop("cells")
    values["footprint"] = explanation.footprint and explanation.footprint.numbers
    arrays = {name: np.asarray(value) for name, value in values.items() if value is not None}
    write_whole(path, lambda whole: np.savez_compressed(whole, **arrays))
