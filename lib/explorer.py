"""The live explorer: choose a clip, method, layer, classes and frames; the viewer follows.

In a notebook with a kernel `explore` shows menus above the viewer. Where no kernel runs, as on a
page of the built book, the same cell shows the viewer alone.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import ipywidgets as widgets
import numpy as np
import traitlets
from torch import nn

from lib import miniature
from lib.data.something import Item, SomethingSomething
from lib.data.video import Clip, VideoError, read_clip, read_frames
from lib.explain.clip import METHODS, explain, network_inputs
from lib.explain.explanation import FPS, ExplainError, Explanation, class_index, nearest
from lib.explain.maps import layers_and_logits
from lib.viewer.viewer import html

CHOICES = ("clip", "method", "layer", "classes", "frames")
SUFFIXES = (".webm", ".mp4", ".gif", ".mov", ".avi", ".mkv", ".m4v")
MOST_FRAMES = 256
DRAWN_SEED = 5  # of the clips drawn where none are given; those of the training have another

T = TypeVar("T")


class Sight(NamedTuple):
    """What is explained, and what is known of it."""

    clip: Clip
    label: str | None = None  # name of the true class
    mask: np.ndarray | None = None  # (T, H, W) bool, where something really moves


@dataclass(frozen=True, eq=False)
class Source:
    """An entry of the menu of clips; `read` takes a number of frames."""

    name: str
    read: Callable[[int], Sight]


class Explorer(widgets.VBox):
    """Menus, and the viewer of what they choose.

    network: as for `lib.explain.explain`.
    clips: what the first menu offers: a `SomethingSomething`, a folder of videos, a path, or a list
        of paths, `Item`s, `Clip`s, drawn clips and arrays (T, H, W, 3) uint8. None: one drawn clip
        of each class. Nothing is read before it is chosen.
    clip, method, layer, classes, frames: what is chosen first; see the traits.
    fps: frames a second sampled of a video. size: pixels a side of the square frames.
    options: more arguments of `explain`, such as `window`, `weights` or `preprocess`.

    Traits, to set, observe and link:

    clip: its number in the menu; its name may be set. None where there are no clips.
    method: one of `lib.explain.METHODS`.
    layer: a module's name; None is the last that can be explained. "occlusion" has none.
    classes: names of the classes mapped; indices may be set. Empty: all of them.
    frames: how many, from the middle of the clip.
    explanation: the `Explanation` of all that; read-only, None before the first.
    error: why there is no new one, or ""; read-only. The explanation before it stays.
    busy: whether the network is at work; read-only.

    Setting a trait computes before it returns; to set several and compute once, set them ``with
    explorer.hold_trait_notifications():``. Interrupting the kernel stops what its main thread
    works at. Setting what the menus do not offer raises TraitError.

    Raises ExplainError, VideoError or TraitError where there would be nothing to choose from, or
    where what is chosen first is not offered.
    """

    clip = traitlets.Any(None, allow_none=True)
    method = traitlets.Enum(METHODS, "cam")
    layer = traitlets.Unicode(None, allow_none=True)
    classes = traitlets.Tuple()
    frames = traitlets.Int(16, min=1, max=MOST_FRAMES)
    explanation = traitlets.Instance(Explanation, allow_none=True, read_only=True)
    error = traitlets.Unicode("", read_only=True)
    busy = traitlets.Bool(False, read_only=True)

    def __init__(
        self,
        network: nn.Module,
        clips: Any = None,
        *,
        clip: int | str | None = 0,
        method: str = "cam",
        layer: str | None = None,
        classes: Sequence[int | str] = (),
        frames: int = 16,
        fps: float = FPS,
        size: int = 256,
        **options: Any,
    ):
        self._network, self._options = network, {"size": size} | options
        self._offer = partial(sources, fps=fps, size=size)
        self._sources = list(self._offer(clips))
        self._layers, self._names = _menus_of(network, frames, size, options)
        self._seen: tuple[Source, int, Sight] | None = None  # the last that was read
        self._done: tuple | None = None  # the choices that were tried last
        self._html = ""
        self._lock = threading.RLock()  # JupyterLab may bring each choice in a thread of its own
        super().__init__()
        with self.hold_trait_notifications():
            self.clip = clip if self._sources else None
            self.method, self.layer, self.classes, self.frames = method, layer, classes, frames
        self._build()
        self.observe(self._explain, CHOICES)
        self._explain()

    def add(self, clip: Any) -> None:
        """Offer more, of what `clips` may be, and choose it; a bad file goes to `error`."""
        for source in self._offer(clip if isinstance(clip, str | Path) else [clip]):
            self._add(source)

    def __repr__(self) -> str:
        return f"Explorer({len(self._sources)} clips, {self.explanation!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live widget, and for where no kernel runs the viewer as it is now."""
        bundle = super()._repr_mimebundle_(**kwargs)
        static = self._html or f"<p>{escape(self.error or 'no clip is chosen')}</p>"
        return bundle | {"text/plain": repr(self), "text/html": static}

    # --- what may be chosen ---

    @traitlets.validate("clip")
    def _known_clip(self, proposal) -> int | None:
        names, clip = [source.name for source in self._sources], proposal.value
        try:
            return None if clip is None else class_index(names, clip)
        except (ExplainError, TypeError) as error:
            known = f"there are {len(names)}, by number or name"
            raise traitlets.TraitError(
                f"no clip {clip!r}{nearest(str(clip), names) or f'; {known}'}"
            ) from error

    @traitlets.validate("layer")
    def _known_layer(self, proposal) -> str | None:
        layer = proposal.value
        if layer is not None and layer not in self._layers:
            near = nearest(layer, self._layers)
            raise traitlets.TraitError(f"no layer {layer!r} that can be explained{near}")
        return layer

    @traitlets.validate("classes")
    def _known_classes(self, proposal) -> tuple[str, ...]:
        try:
            return tuple(self._names[class_index(self._names, cls)] for cls in proposal.value)
        except (ExplainError, TypeError) as error:
            raise traitlets.TraitError(str(error)) from error

    # --- the work ---

    def _explain(self, _change=None) -> None:
        """Explain what is chosen, unless that was tried last: of several notices, the first."""
        with self._lock:
            chosen = tuple(getattr(self, name) for name in CHOICES)
            if self.clip is None or chosen == self._done:
                return
            self._done = chosen
            found = self._attempt(partial(self._explanation, *chosen))
            if found is not None:
                explanation, self._html = found
                self._view.outputs = (_output(explanation, self._html),)
                self.set_trait("explanation", explanation)

    def _explanation(
        self, number: int, method: str, layer: str | None, classes: tuple[str, ...], frames: int
    ) -> tuple[Explanation, str]:
        clip, label, mask = self._sight(self._sources[number], frames)
        explanation = explain(
            self._network,
            clip,
            classes or None,
            None if method == "occlusion" else layer,
            method,
            label=label if label in self._names else None,
            mask=mask,
            progress=self._watched,
            **self._options,
        )
        return explanation, html(explanation)

    def _sight(self, source: Source, frames: int) -> Sight:
        """What the source gives; another method or layer does not read it again."""
        if self._seen is None or self._seen[:2] != (source, frames):
            self._seen = source, frames, source.read(frames)
        return self._seen[2]

    def _attempt(self, work: Callable[[], T]) -> T | None:
        """The result, or None with the reason in `error`."""
        result, error = None, ""
        self.set_trait("busy", True)
        try:
            result = work()
        except KeyboardInterrupt:
            error = "Stopped. Choose again to go on."
        except (ValueError, RuntimeError, OSError) as refusal:  # of the file, network or layer
            error = str(refusal) or type(refusal).__name__
        finally:
            self.set_trait("busy", False)
        self.set_trait("error", error)
        return result

    def _watched(self, steps: Sequence[T]) -> Iterator[T]:
        """The steps, one by one, in the progress bar."""
        self._bar.value, self._bar.max = 0, len(steps)
        self._bar.layout.visibility = "visible"
        for step in steps:
            yield step
            self._bar.value += 1

    def _add(self, source: Source) -> None:
        with self._lock:
            if self._attempt(partial(self._sight, source, self.frames)) is None:
                return
            self._sources.append(source)
            self._choice.unlink()  # or the new list would choose its first
            self._clip_menu.options = self._clip_options()
            self._choice.link()
            self.clip = len(self._sources) - 1

    def _uploaded(self, change) -> None:
        for file in change.new:
            name = Path(file["name"]).name
            self._add(Source(name, partial(self._read_upload, name, bytes(file["content"]))))
        self._upload.value = ()  # nothing is kept twice, and the same name may come again

    def _read_upload(self, name: str, content: bytes, frames: int) -> Sight:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            (source,) = self._offer([path])
            try:
                return source.read(frames)
            except VideoError as error:
                raise VideoError(str(error).replace(str(path), name)) from error

    # --- the widgets ---

    def _build(self) -> None:
        style, wide = {"description_width": "4rem"}, {"width": "22rem"}
        menu = partial(widgets.Dropdown, style=style, layout=wide)
        self._clip_menu = menu(description="clip", options=self._clip_options())
        method = menu(description="method", options=METHODS)
        layer = menu(description="layer", options=[("the last", ""), *_labelled(self._layers)])
        classes = widgets.SelectMultiple(
            description="classes", options=self._names, rows=5, style=style, layout=wide,
            tooltip="Several with Shift or Ctrl; none chosen is all",
        )  # fmt: skip
        frames = widgets.BoundedIntText(
            description="frames", min=1, max=MOST_FRAMES, style=style, layout={"width": "9rem"}
        )
        self._upload = widgets.FileUpload(
            accept=",".join(SUFFIXES),
            description="a video of your own",
            layout={"width": "12.5rem"},
        )
        self._bar = widgets.IntProgress(layout={"visibility": "hidden", "width": "22rem"})
        self._status = widgets.HTML(layout={"min_height": "2rem"})  # what is below stays in place
        self._view = widgets.Output()

        self._choice = traitlets.link((self, "clip"), (self._clip_menu, "value"))
        traitlets.link((self, "method"), (method, "value"))
        none_as_text = (lambda name: name or "", lambda text: text or None)
        traitlets.link((self, "layer"), (layer, "value"), transform=none_as_text)
        traitlets.link((self, "classes"), (classes, "value"))
        traitlets.link((self, "frames"), (frames, "value"))
        traitlets.dlink((self, "method"), (layer, "disabled"), lambda name: name == "occlusion")
        self._upload.observe(self._uploaded, "value")
        self.observe(self._show_status, ("busy", "error"))

        row = {"flex_flow": "row wrap", "align_items": "flex-start"}
        own = widgets.Box([frames, self._upload], layout={"width": "22.5rem"})
        left = widgets.VBox([self._clip_menu, method, layer, own])
        right = widgets.VBox([classes, self._bar])
        self.children = [widgets.Box([left, right], layout=row), self._status, self._view]

    def _clip_options(self) -> list[tuple[str, int]]:
        return [(source.name, number) for number, source in enumerate(self._sources)]

    def _show_status(self, _change) -> None:
        text = "at work ..." if self.busy else self.error
        self._status.value = f'<span role="status">{escape(text)}</span>'
        self._bar.layout.visibility = "hidden"


def explore(network: nn.Module, clips: Any = None, **choices: Any) -> Explorer:
    """What a network sees, live: menus above the viewer. See `Explorer` for the arguments."""
    return Explorer(network, clips, **choices)


def _menus_of(
    network: nn.Module, frames: int, size: int, options: dict[str, Any]
) -> tuple[dict[str, tuple[int, int, int]], list[str]]:
    """The layers that can be explained, each with its size (T, h, w), and the classes' names."""
    black = np.zeros((frames, size, size, 3), np.uint8)
    inputs = network_inputs(network, black, options.get("preprocess"))
    layers, logits = layers_and_logits(network, inputs, options.get("reshape"))
    if not layers:
        raise ExplainError("no layer gives (N, C, T, h, w) with more than one cell; pass reshape=")
    names = options.get("class_names") or getattr(network, "classes", None)
    return layers, list(names or map("class {}".format, range(logits.shape[1])))


def _labelled(layers: dict[str, tuple[int, int, int]]) -> list[tuple[str, str]]:
    return [(f"{name} ({height}×{width})", name) for name, (_, height, width) in layers.items()]


def _output(explanation: Explanation, text: str) -> dict[str, Any]:
    """What `widgets.Output` shows as a cell does: scripts run there, not in `widgets.HTML`."""
    data = {"text/html": text, "text/plain": repr(explanation)}
    return {"output_type": "display_data", "data": data, "metadata": {}}


# --- clips ----------------------------------------------------------------------------------------


def sources(clips: Any, fps: float, size: int) -> Iterator[Source]:
    """Entries for what `Explorer` takes as clips; nothing is read yet.

    Raises VideoError for a folder without videos, ExplainError for what is no clip.
    """
    if clips is None:
        for index, name in enumerate(miniature.CLASSES):
            yield Source(f"drawn: {name}", partial(_draw, index, fps, size))
        return
    if isinstance(clips, str | Path):
        clips = _paths(Path(clips))
    elif isinstance(clips, SomethingSomething):
        clips = clips.items
    for number, clip in enumerate(clips):
        if isinstance(clip, Item):
            name = f"{clip.label or clip.template} ({clip.id})"
            yield Source(name, partial(_read_item, clip, fps))
        elif isinstance(clip, str | Path):
            yield Source(Path(clip).name, partial(_read_path, Path(clip), fps, size))
        elif isinstance(clip, miniature.Drawn):
            yield Source(f"{number}: {clip.template}", partial(_middle, _seen_drawn(clip)))
        elif isinstance(clip, Clip):
            yield Source(f"{number}: {clip!r}", partial(_middle, Sight(clip)))
        elif isinstance(clip, np.ndarray):
            timed = Clip(clip, np.arange(len(clip)) / fps)
            yield Source(f"{number}: {len(clip)} frames", partial(_middle, Sight(timed)))
        else:
            raise ExplainError(f"{type(clip).__name__} is no clip: give a path, frames or an Item")


def _paths(path: Path) -> list[Path]:
    """The videos and folders of JPEGs in a folder; or the path itself, if it is one of these."""
    if not path.is_dir() or (path / "00001.jpg").is_file():
        return [path]
    inside = sorted(path.iterdir())
    found = [p for p in inside if p.suffix.lower() in SUFFIXES or (p / "00001.jpg").is_file()]
    if not found:
        raise VideoError(f"{path}: no video in it; name a folder of {', '.join(SUFFIXES)}")
    return found


def _read_path(path: Path, fps: float, size: int, frames: int) -> Sight:
    read = read_frames if path.is_dir() else read_clip
    return Sight(read(path, frames=frames, fps=fps, size=size))


def _read_item(item: Item, fps: float, frames: int) -> Sight:
    """An annotated video, with the truth if it is a drawn one."""
    clip, mask = item.clip(frames=frames, fps=fps), None
    try:
        mask = miniature.read_truth(item.path.parents[1], item.id).at(clip.times).mask
    except FileNotFoundError:
        pass  # of a filmed one nobody knows it
    return Sight(clip, item.template, mask)


def _draw(index: int, fps: float, size: int, frames: int) -> Sight:
    start = max(0.0, (miniature.SECONDS - frames / fps) / 2)
    times = start + np.arange(frames) / fps
    return _seen_drawn(miniature.draw("test", index, DRAWN_SEED, times, size))


def _seen_drawn(drawn: miniature.Drawn) -> Sight:
    return Sight(Clip(drawn.frames, drawn.times), drawn.template, drawn.truth.mask)


def _middle(sight: Sight, frames: int) -> Sight:
    """The middle `frames` frames, or all where there are fewer."""
    clip, label, mask = sight
    start = max(0, (len(clip) - frames) // 2)
    kept = slice(start, start + frames)
    return Sight(
        Clip(clip.frames[kept], clip.times[kept]), label, None if mask is None else mask[kept]
    )
