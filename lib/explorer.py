"""The live explorer: choose a clip, method, layer, classes and frames; the viewer follows.

Where no kernel runs, as on a page of the built book, the viewer stands alone.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import traitlets
from torch import nn

from lib.data.something import SomethingSomething
from lib.data.streams import VIDEO_SUFFIXES
from lib.data.video import Clip, VideoError, read_clip, square
from lib.explain.ask import most_probable, names_of, network_inputs
from lib.explain.clip import METHODS, explain, sampling
from lib.explain.explanation import FPS, ExplainError, Explanation, nearest
from lib.explain.maps import GRADIENT_METHODS, layers_and_logits
from lib.viewer.viewer import distinct, html

CHOICES = ("clip", "method", "layer", "classes", "frames")
MOST_FRAMES = 256
MANY = 50  # classes, above which gradient methods show the most probable ones alone
DRAWN_SEED = 5  # of the clips drawn where none are given; those of the training have another


class Explorer(widgets.VBox):
    """Menus, and the viewer of what they choose.

    clips: a `SomethingSomething`, a path, or a list of paths, `Clip`s and arrays (T, H, W, 3)
        uint8; each is read when it is chosen. A path names a video, or a folder or zip of JPEGs.
        None: one drawn clip of each class.
    size: pixels a side of the square frames.
    options: what is chosen first, as the traits below; and more arguments of `explain`.

    Traits to set, observe and link: `clip`, its number or name in the menu; `method`; `layer`, None
    for the network's own, or the last one; `classes`, names or indices, none for all, or for the
    most probable ones of many where each is a backward pass; `frames`, from the middle of the clip.
    What is not given is the network's own: `default_method`, `frames`, and `fps` of videos.
    Read-only: `explanation`; `error`, why there is no new one, or ""; `busy`. Where clips or
    classes have equal names, numbers tell them apart: "name (2)".

    Setting a trait computes before it returns, several ``with explorer.hold_trait_notifications()``
    once. Interrupting the kernel stops the work. TraitError for what the menus do not offer,
    ExplainError for an object that is no clip.
    """

    clip = traitlets.Any(None, allow_none=True)
    method = traitlets.Enum(METHODS, "cam")
    layer = traitlets.Unicode(None, allow_none=True)
    classes = traitlets.Tuple()
    frames = traitlets.Int(16, min=1, max=MOST_FRAMES)
    explanation = traitlets.Instance(Explanation, allow_none=True, read_only=True)
    error = traitlets.Unicode("", read_only=True)
    busy = traitlets.Bool(False, read_only=True)

    def __init__(self, network: nn.Module, clips: Any = None, size: int = 256, **options: Any):
        count, method = sampling(network)[0], getattr(network, "default_method", "cam")
        first = {"method": method, "frames": count}
        first |= {name: options.pop(name) for name in CHOICES if name in options}
        self._network = network
        self._options = {"size": size, "progress": self._progress} | options
        self._fps = getattr(network, "fps", None)
        self._sources = list(sources(clips, size, self._fps))
        self._read = lru_cache(maxsize=1)(lambda read, frames: read(frames))  # only the last
        black = np.zeros((first["frames"], size, size, 3), np.uint8)
        inputs = network_inputs(network, black, options.get("preprocess"))
        reshape = options.get("reshape") or getattr(network, "reshape", None)
        self._layers, logits = layers_and_logits(network, inputs, reshape)
        self._names = distinct(names_of(network, options.get("class_names"), logits.shape[1]))
        self._tried: tuple | None = None  # the choices that were tried last
        self._lock = threading.RLock()  # JupyterLab may bring each choice in a thread of its own
        super().__init__(**{"clip": 0 if self._sources else None} | first)
        self._build()
        self.observe(self._explain, CHOICES)
        self._explain()

    def __repr__(self) -> str:
        return f"Explorer({len(self._sources)} clips, {self.explanation!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live widget, and for where no kernel runs the viewer as it is now."""
        nothing = f"<p>{escape(self.error or 'no clip is chosen')}</p>"
        static = html(self.explanation) if self.explanation else nothing
        shown = {"text/plain": repr(self), "text/html": static}
        return super()._repr_mimebundle_(**kwargs) | shown

    @property
    def _clips(self) -> dict[str, int]:
        """The clips' numbers by their names in the menu."""
        names = distinct([name for name, _ in self._sources])
        return {name: number for number, name in enumerate(names)}

    @traitlets.validate("clip", "layer", "classes")
    def _known(self, proposal) -> int | str | tuple[str, ...] | None:
        """What is chosen, by name or number; TraitError where the menu does not offer it."""
        kind, chosen = proposal.trait.name, proposal.value
        names = list({"clip": self._clips, "layer": self._layers, "classes": self._names}[kind])
        offered = dict(enumerate(names)) | {name: name for name in names}
        for name in chosen if kind == "classes" else [chosen] * (chosen is not None):
            if name not in offered:
                near = nearest(str(name), names)
                raise traitlets.TraitError(f"{kind}: no {name!r}, there are {len(names)}{near}")
        if kind == "classes":
            return tuple(offered[name] for name in chosen)
        return chosen if kind == "layer" else self._clips.get(offered.get(chosen))

    def _explain(self, _change=None) -> None:
        """Explain what is chosen, unless that was tried last: of several notices, the first."""
        with self._lock:
            chosen = tuple(getattr(self, name) for name in CHOICES)
            if self.clip is None or chosen == self._tried:
                return
            self._tried = chosen
            explanation = self._attempt(self._explained, *chosen)
            if explanation is not None:
                # As a cell shows it: scripts run in an output, not in `widgets.HTML`.
                data = {"text/html": html(explanation), "text/plain": repr(explanation)}
                shown = {"output_type": "display_data", "data": data, "metadata": {}}
                self._view.outputs = (shown,)
                self.set_trait("explanation", explanation)

    def _explained(self, number: int, method: str, layer, classes, frames: int) -> Explanation:
        clip = self._read(self._sources[number][1], frames)
        indices = [self._names.index(name) for name in classes] or None
        if indices is None and method in GRADIENT_METHODS and len(self._names) > MANY:
            shown = square(clip.frames, min(self._options["size"], *clip.frames.shape[1:3]))
            inputs = network_inputs(self._network, shown, self._options.get("preprocess"))
            indices = most_probable(self._network, inputs)
        layer = None if method == "occlusion" else layer
        return explain(self._network, clip, indices, layer, method, **self._options)

    def _attempt(self, work: Callable, *given: Any) -> Any:
        """What `work` gives, busy until then; None where it goes wrong, which `error` says."""
        error, result = "", None
        self.set_trait("busy", True)
        try:
            result = work(*given)
        except KeyboardInterrupt:
            error = "Stopped. Choose again to go on."
        except (ValueError, RuntimeError, OSError) as refusal:  # of the file, network or layer
            error = str(refusal) or type(refusal).__name__
        finally:
            self.set_trait("busy", False)
        self.set_trait("error", error)
        return result

    def _progress(self, steps: Sequence) -> Iterator:
        """The steps, one by one, shown in the bar."""
        self._bar.value, self._bar.max = 0, len(steps)
        self._bar.layout.visibility = "visible"
        for step in steps:
            yield step
            self._bar.value += 1

    def _uploaded(self, change) -> None:
        for file in change.new:
            name = Path(file["name"]).name
            read = partial(self._read_upload, name, bytes(file["content"]))
            with self._lock:
                if self._attempt(self._read, read, self.frames) is not None:
                    self._sources.append((name, read))
                    with self.hold_trait_notifications():  # a new list chooses its first
                        self._menus["clip"].options = self._clips.items()
                        self.clip = len(self._sources) - 1
        self._upload.value = ()  # nothing is kept twice, and the same name may come again

    def _read_upload(self, name: str, content: bytes, frames: int) -> Clip:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            try:
                return read_clip(path, frames, self._fps or FPS, size=self._options["size"])
            except VideoError as error:
                raise VideoError(str(error).replace(str(path), name)) from error

    def _build(self) -> None:
        layers = [(f"{name} ({h}×{w})", name) for name, (_, h, w) in self._layers.items()]
        own = "the default" if hasattr(self._network, "default_layer") else "the last"
        several = "Several with Shift or Ctrl; none chosen is all"
        self._menus = {
            "clip": widgets.Dropdown(options=self._clips.items()),
            "method": widgets.Dropdown(options=METHODS),
            "layer": widgets.Dropdown(options=[(own, ""), *layers]),
            "frames": widgets.BoundedIntText(min=1, max=MOST_FRAMES),
            "classes": widgets.SelectMultiple(options=self._names, rows=5, tooltip=several),
        }
        none_as_text = (lambda name: name or "", lambda text: text or None)
        for name, menu in self._menus.items():
            menu.description, menu.style.description_width = name, "4rem"
            menu.layout.width = "22rem"
            transform = none_as_text if name == "layer" else None
            traitlets.link((self, name), (menu, "value"), transform)
        no_layer = self._menus["layer"], "disabled"
        traitlets.dlink((self, "method"), no_layer, lambda method: method == "occlusion")
        accept = ",".join(VIDEO_SUFFIXES)
        self._upload = widgets.FileUpload(accept=accept, description="a video of your own")
        self._upload.layout.width = "22rem"
        self._upload.observe(self._uploaded, "value")
        self._bar = widgets.IntProgress(layout={"visibility": "hidden", "width": "22rem"})
        self._status = widgets.HTML(layout={"min_height": "2rem"})  # what is below stays in place
        self._view = widgets.Output()
        self.observe(self._show_status, ("busy", "error"))
        *left, classes = self._menus.values()
        columns = widgets.VBox(left), widgets.VBox([classes, self._upload, self._bar])
        row = widgets.Box(columns, layout={"flex_flow": "row wrap"})
        self.children = [row, self._status, self._view]

    def _show_status(self, _change) -> None:
        text = "at work ..." if self.busy else self.error
        self._status.value = f'<span role="status">{escape(text)}</span>'
        self._bar.layout.visibility = "hidden"


explore = Explorer  # explore(network, clips): what a network sees, live


def sources(
    clips: Any, size: int, fps: float | None = None
) -> Iterator[tuple[str, Callable[[int], Clip]]]:
    """What the menu offers for `clips`, by name, and what reads so many frames of it, `fps` of them
    a second: None is that of a dataset, or else 4."""
    rate = fps or FPS
    if clips is None:
        from lib import miniature

        def drawn(index: int, frames: int) -> Clip:
            start = max(0.0, (miniature.SECONDS - frames / rate) / 2)
            times = start + np.arange(frames) / rate
            return miniature.draw("test", index, DRAWN_SEED, times, size)

        for index, name in enumerate(miniature.CLASSES):
            yield f"drawn: {name}", partial(drawn, index)
    elif isinstance(clips, SomethingSomething):
        for index, item in enumerate(clips.items):
            yield f"{item.caption} ({item.id})", partial(_annotated, clips, index, fps)
    else:
        for number, clip in enumerate([clips] if isinstance(clips, str | Path) else clips):
            if isinstance(clip, np.ndarray):
                clip = Clip(clip, np.arange(len(clip)) / rate)
            if isinstance(clip, Clip):
                known = clip.label or f"{len(clip)} frames"
                yield f"{number}: {known}", partial(_middle, clip)
            elif isinstance(clip, str | Path):
                yield Path(clip).name, partial(read_clip, clip, fps=rate, size=size)
            else:
                raise ExplainError(f"{type(clip).__name__} is no clip: give a path, Clip or frames")


def _annotated(dataset: SomethingSomething, index: int, fps: float | None, frames: int) -> Clip:
    """A video of a dataset, with the truth if it is a drawn one."""
    clip = dataset.clip(index, frames=frames, fps=fps or dataset.fps, size=None)
    if (dataset.root / "miniature.json").is_file():
        from lib import miniature

        truth = miniature.read_truth(dataset.root, dataset.items[index].id)
        clip.mask = truth.at(clip.times).mask
    return clip


def _middle(clip: Clip, frames: int) -> Clip:
    """The middle `frames` frames, or all where there are fewer."""
    start = max(0, (len(clip) - frames) // 2)
    kept = slice(start, start + frames)
    mask = None if clip.mask is None else clip.mask[kept]
    return Clip(clip.frames[kept], clip.times[kept], clip.label, mask, clip.note)
