"""The one object that everything after the network speaks of: a clip with its evidence."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch

from lib.data.video import VideoError
from lib.data.write import write_video
from lib.explain import npz
from lib.explain.overlay import overlay
from lib.explain.receptive_field import ReceptiveField
from lib.files import write_text

FPS = 4.0  # of a clip given as an array
OUTPUTS = (".html", ".gif", ".mp4", ".webm", ".npz")
KINDS = {"uint8": np.uint8, "floats": np.floating, "bool": np.bool_}
Class = int | str  # its index or its name


class ExplainError(ValueError):
    """What cannot be explained as asked, and what to ask instead."""


class Later:
    """A field that may be given as a function of nothing, which is worked out on first reading."""

    def __init__(self, default=None):
        self.default = default

    def __set_name__(self, owner, name: str):
        self.name = name

    def __get__(self, instance, owner):
        if instance is None:
            return self.default  # for the dataclass
        value = instance.__dict__[self.name]
        if callable(value):
            value = instance.__dict__[self.name] = value()
        return value

    def __set__(self, instance, value):
        instance.__dict__[self.name] = value


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Maps of the evidence for some classes on every frame of a clip.

    A map is signed: what speaks against a class is below 0. Where `bias` is given the parts add up:
    ``map(k).sum() + bias[k]`` is the logit of class k. The last three fields are measured when one
    is first read; the network is kept until then. Raises ExplainError for what does not fit.
    """

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB, square
    times: np.ndarray  # (T,) seconds
    classes: list[str]  # K names
    logits: np.ndarray  # (K,) float32
    bias: np.ndarray | None  # (K,) float32; None where the maps do not add up to the logits
    maps: np.ndarray  # (M, T, h, w) float32, signed
    mapped: list[int]  # class index of each map
    method: str
    layer: str
    label: int | None = None  # index of the true class
    mask: np.ndarray | None = None  # (T, H, W) bool, where something really moves
    alone: np.ndarray | None = None  # as the maps, of each frame alone; see `explain(motion=)`
    cells: tuple[np.ndarray, np.ndarray] = Later()  # y (h,), x (w,): centres, shares of the frame
    footprint: ReceptiveField | None = Later()  # what one cell sees; None if it is not known
    geometry_note: str = Later("")  # what could not be measured, and what to know of the picture

    def __post_init__(self):
        note, indices = vars(self)["geometry_note"], (*self.mapped, self.label or 0)
        texts = *self.classes, self.method, self.layer, "" if callable(note) else note
        sound = (type(x) is str and x == x.encode(errors="ignore").decode() for x in texts)
        if not all(sound) or "\0" in "".join(texts) or isinstance(self.classes, str):
            raise ExplainError("classes, method, layer, note: texts are needed, valid in Unicode")
        t, side = (*np.shape(self.frames), 0, 0)[:2]
        k, cells = len(self.classes), (*np.shape(self.maps), 0, 0)[2:4]
        for name, kind, *shape in (
            ("frames", "uint8", t, side, side, 3),
            ("times", "floats", t),
            ("maps", "floats", len(self.mapped), t, *cells),
            ("logits", "floats", k),
            ("bias", "floats", k),
            ("mask", "bool", t, side, side),
            ("alone", "floats", *np.shape(self.maps)),
        ):
            x, needed = getattr(self, name), tuple(shape)
            if x is None and name in ("bias", "mask", "alone"):
                continue
            array = isinstance(x, np.ndarray) and np.issubdtype(x.dtype, KINDS[kind])
            if not array or x.shape != needed or not x.size:
                given = f"{name} of shape {np.shape(x)} {getattr(x, 'dtype', type(x).__name__)}"
                raise ExplainError(f"{given}: an array {needed} of {kind} is needed")
        whole = all(type(i) is int for i in indices) and isinstance(self.mapped, list)
        if not whole or not {*indices} <= {*range(k)}:
            raise ExplainError("mapped, a list, and label: whole numbers, indices of classes")
        if not callable(centres := vars(self)["cells"]):  # else they are measured later
            fit = [*map(np.shape, centres or ())] == [(n,) for n in cells]
            if not fit or not all((np.diff([-1, *x, 2]) > 0).all() for x in centres):
                raise ExplainError(f"cells: twice growing numbers are needed, {cells} of them")
        finite = np.isfinite(self.maps).all(axis=(1, 2, 3))
        others = [x for x in (self.logits, self.times, self.bias, self.alone) if x is not None]
        if not (all(np.isfinite(x).all() for x in others) and finite.all()):
            wrong = [self.classes[k] for k, good in zip(self.mapped, finite) if not good]
            what = f"the map of {wrong[0]!r} by {self.method!r}" if wrong else "a time or logit"
            raise ExplainError(f"{what} at layer {self.layer!r} has numbers that are not finite")

    def __getstate__(self) -> dict:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits (K,)."""
        wide = np.result_type(self.logits, np.float32)  # half precision cannot add up many
        exponentials = np.exp(self.logits - self.logits.max(), dtype=wide)
        return exponentials / exponentials.sum()

    def top(self, k: int = 2) -> list[tuple[str, float]]:
        """The `k` most probable classes, each with its probability."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]

    def map(self, cls: Class, versus: Class | None = None) -> np.ndarray:
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

    def ledger(self, cls: Class, versus: Class | None = None) -> np.ndarray:
        """What each frame adds to the logit of one class (T,), or to its lead over another: the
        sums of the signed map. ExplainError where the network turns the clip round."""
        _ = self.cells  # measured now
        return self.map(cls, versus).sum(axis=(1, 2), dtype=np.float64)

    def pair(self, cls: Class | None = None, versus: Class | None = None) -> tuple[int, int]:
        """Indices of two classes to compare; where not given, the most probable that have maps."""
        two = [None if c is None else class_index(self.classes, c) for c in (cls, versus)]
        ranked = sorted(self.mapped, key=lambda k: -self.logits[k])
        for i in (0, 1):
            if two[i] is None:
                two[i] = next((k for k in ranked if k not in two), None)
        if None in two:
            raise ExplainError("two maps are needed to compare; name two in classes= of explain()")
        if two[0] == two[1]:
            name = self.classes[two[0]]
            raise ExplainError(f"{name!r} is compared with itself: name two different classes")
        return tuple(two)

    def why(self, cls: Class | None = None, versus: Class | None = None) -> str:
        """Why A and not B, in numbers: A's lead, and the frames that gave it the most and least.

        By default, why the most probable class and not the second.
        """
        a, b = self.pair(cls, versus)
        bars, lead = self.ledger(a, b), float(self.logits[a] - self.logits[b])
        most, least = (
            f"{self.times[t]:.2f} s ({bars[t]:+.2f})" for t in (bars.argmax(), bars.argmin())
        )
        offset = "" if self.bias is None else f", bias {self.bias[a] - self.bias[b]:+.2f}"
        verdict = f"{self.classes[a]} {'leads' if lead >= 0 else 'trails'} {self.classes[b]}"
        return f"{verdict} by {abs(lead):.2f}: most at {most}, least at {least}{offset}"

    def summary(self) -> str:
        """The true class and the two most probable, one a line, with probabilities."""
        rows = [] if self.label is None else [("true", self.classes[self.label], "")]
        ranked = zip(("1st", "2nd"), self.top(2))
        rows += [(rank, name, f"{p:.2f}".removeprefix("0")) for rank, (name, p) in ranked]
        width = max(len(name) for _, name, _ in rows)
        return "\n".join(f"{rank:<4}  {name:<{width}}  {p}".rstrip() for rank, name, p in rows)

    def save(self, path: str | Path, cls: Class | None = None, versus: Class | None = None) -> None:
        """Write a page with the viewer (.html), original and overlay side by side (.gif, .mp4,
        .webm), or all the numbers, for `load` (.npz). `cls` is the class shown (first), None the
        most probable one that has a map; `versus` as in `map`. VideoError for another suffix."""
        path, suffix = Path(path), Path(path).suffix.lower()
        check_suffix(path)
        if suffix == ".npz":
            try:
                npz.write(path, self.__getstate__())
            except ValueError as error:
                raise ExplainError(f"{path}: {error}") from error
        elif suffix == ".html":
            from lib.viewer.viewer import page  # with matplotlib, which is slow to load

            if versus is not None:
                cls, versus = self.pair(cls, versus)
            most = max(self.mapped, key=lambda k: self.logits[k])
            selected = most if cls is None else class_index(self.classes, cls)
            viewer, title = self._repr_html_(selected=selected, versus=versus), self.top(1)[0][0]
            if self.classes[selected] != title:
                title = f"Evidence for {self.classes[selected]}; the network says {title}"
            write_text(path, page(title, viewer))
        else:
            pair = np.concatenate([self.frames, overlay(self, cls, versus=versus)], axis=2)
            gaps = np.diff(self.times)
            rate = 1 / float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else FPS
            write_video(path, pair, rate)  # (T, H, 2W, 3)

    @classmethod
    def of(cls, frames, maps, classes, logits, mapped=None, method="given") -> "Explanation":
        """Heat maps made elsewhere, as by captum or pytorch-grad-cam, or of attention.

        frames: (T, S, S, 3) uint8. maps: (T, h, w) or (M, T, h, w), array or tensor; the cells are
        spread evenly over the frame. classes, logits: names and numbers of all K classes. mapped:
        class of each map, by index or name; None is all in order, or the most probable for one map.
        """
        frames = np.asarray(frames)
        if frames.ndim != 4 or frames.dtype != np.uint8:
            raise ExplainError(f"frames {frames.shape} {frames.dtype}: need (T, S, S, 3) uint8")
        maps, logits = (torch.as_tensor(x).detach().float().cpu().numpy() for x in (maps, logits))
        maps = maps[None] if maps.ndim == 3 else maps  # (M, T, h, w)
        if maps.ndim != 4:
            raise ExplainError(f"maps {tuple(maps.shape)}: need (T, h, w) or (M, T, h, w)")
        if mapped is None:
            mapped = [logits.argmax()] if len(maps) == 1 else range(len(classes))
        classes, mapped = list(classes), [mapped] if np.ndim(mapped) == 0 else mapped
        mapped, t = [class_index(classes, k) for k in mapped], len(frames)
        cells = tuple((np.arange(n, dtype=np.float32) + 0.5) / n for n in maps.shape[2:])
        note = "maps that were made elsewhere: their cells are spread evenly"
        about = dict(method=method, layer=method, cells=cells, geometry_note=note, bias=None)
        times = np.arange(t) / FPS
        return cls(frames, times, classes, logits, maps=maps, mapped=mapped, **about)

    @classmethod
    def load(cls, path: str | Path) -> "Explanation":
        """An explanation that was saved as .npz. Raises ExplainError for a file that is none."""
        try:
            return cls(**npz.read(path))
        except Exception as error:  # a damaged zip raises many kinds
            raise ExplainError(f"{path}: not a saved explanation ({error})") from error

    def __repr__(self) -> str:
        (name, p), (t, height, width) = self.top(1)[0], self.frames.shape[:3]
        shape = "x".join(map(str, self.maps.shape[1:]))
        return (
            f"Explanation({name!r} {p:.2f}, {t} frames of {height}x{width}, "
            f"{len(self.mapped)} maps of {shape} by {self.method!r} at {self.layer!r})"
        )

    def _repr_html_(self, **shown) -> str:
        from lib.viewer.viewer import html  # with matplotlib, which is slow to load

        return html(self, **shown)


def check_suffix(path: str | Path) -> None:
    """VideoError for a file that an explanation is not written to."""
    if Path(path).suffix.lower() not in OUTPUTS:
        raise VideoError(f"{path}: cannot be written; use {', '.join(OUTPUTS)}")


def class_index(classes: Sequence[str], cls: Class) -> int:
    """Index of a class given by name or index; ExplainError names the nearest ones."""
    if isinstance(cls, str):
        if cls not in classes:
            raise ExplainError(f"no class {cls!r}{nearest(cls, classes)}")
        if (count := list(classes).count(cls)) > 1:
            raise ExplainError(f"class {cls!r}: {count} classes have this name, give an index")
        return list(classes).index(cls)
    try:
        index = operator.index(cls)  # of numpy and torch, too
    except TypeError:
        index = None
    if index is None or "bool" in str(getattr(cls, "dtype", type(cls))):
        raise ExplainError(f"class {cls!r}: give a name, or a whole number as index")
    if not 0 <= index < len(classes):
        raise ExplainError(f"no class {index}: there are {len(classes)}, counted from 0")
    return index


def nearest(name: str, known: Iterable[str]) -> str:
    """What was perhaps meant, as the end of an error."""
    near = get_close_matches(name, [k for k in known if k], n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
