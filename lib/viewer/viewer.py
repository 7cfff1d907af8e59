"""Prints an explanation as one custom element, `<cam-viewer>`: a clip, its evidence, its ledger.

Everything the element needs travels inside the HTML: the frames as one WebP contact sheet, the
maps of every class as 16-bit integers, the truth as bits, the script itself. No request leaves the
page. Where scripts do not run, the contact sheet and its caption stay. A new frame, class or mode
is told by an event that bubbles, `cam-viewer:change`; viewer.js says what is in it.

An explanation has the fields of `lib.explain.Explanation`, which refuses what does not fit. Here
frames need not be square, maps may have fewer steps than there are frames, and alone and
geometry_note may be missing.
"""

import base64
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image

SCRIPT, STYLE = (Path(__file__).with_suffix(suffix) for suffix in (".js", ".css"))
WIDGET = Path(__file__).with_name("widget.js")
SIZE, QUALITY = 288, 82  # of frames, in pixels; of their WebP: as JPEG's 85, in half the bytes
PAGE = Path(__file__).with_name("page.html")
MODES = ("original", "overlay", "heatmap", "beside")
PRINTED = ("probabilities", "logits", "bias", "times", "cells", "method", "layer")  # as they are
COLOURS = matplotlib.colormaps["inferno"]
BLUE_AND_ORANGE = ("#0a3fe0", "#3f78ff", "#8fb0ff", "white", "#ffba73", "#ff8a14", "#e05500")
BOTH = LinearSegmentedColormap.from_list("both", BLUE_AND_ORANGE)  # against and for
MASK_SIZE = 64  # the truth outline is kept at most this wide and high


def html(explanation, **shown) -> str:
    """The viewer of one explanation, as HTML that stands alone; `shown` as for `element`."""
    return element(explanation, **shown) + script()


def page(title: str, body: str) -> str:
    """A page of HTML that takes nothing from elsewhere; `title` is text, `body` is HTML."""
    return PAGE.read_text(encoding="utf-8").format(title=escape(title), body=body)


def script(source: Path = SCRIPT) -> str:
    """What makes every `element` of a page a viewer; once is enough, more do no harm."""
    return f"<script>{_code(source)}</script>"


def module() -> str:
    """The viewer as an ES module: `_esm` of an anywidget, for JupyterLab, Colab, VS Code, marimo.
    Its traits: `html`, what `html` gives, and `shown`, a dict (both of traitlets, `sync=True`),
    which becomes the frame, classIndex and mode that the reader has chosen."""
    return _code(SCRIPT) + _code(WIDGET)


def element(
    explanation,
    *,
    selected: int | str | None = None,
    versus: int | str | None = None,
    frame: int | None = None,
    mode: str = "overlay",
    size: int = SIZE,
    quality: int = QUALITY,
    tile: bool = False,
    name: str = "",
) -> str:
    """One viewer, without the script that makes it live.

    selected: class shown first, by index or name; None is the most probable one that has a map.
    versus: class whose evidence is taken away from it (why A and not B?); None takes nothing.
    frame: frame shown first; None is the one with the most evidence for that class.
    mode: "original", "overlay", "heatmap" (colour alone) or "beside", original and overlay.
    size: longest side in pixels at which frames are kept; quality: of their WebP, 0 to 100.
    tile: shown small and moving until it is opened, with the truth's outline if there is a truth.
    name: of the clip, which stands first in the caption.

    Raises ValueError naming the attribute or the argument that does not fit.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}: choose one of {', '.join(MODES)}")
    frames, class_index = len(explanation.frames), _class_index(explanation, selected)
    other = None if versus is None else _class_index(explanation, versus, "versus")
    if frame is None:
        sums = _ledger(explanation.maps)
        ledger = dict(zip(explanation.mapped, sums)) | {None: 0}
        peak = int((ledger[class_index] - ledger[other]).argmax())
        frame = int((peak + 0.5) * frames / sums.shape[1])
    if not 0 <= frame < frames:
        raise ValueError(f"frame is {frame}: the clip has frames 0 to {frames - 1}")

    layout, picture = contact_sheet(explanation.frames, size, quality)
    payload = data(explanation, name=name, sheet=layout)
    payload = payload.replace("<", "\\u003c")  # so no class name can close the script element
    told = f"{name} · " * bool(name) + caption(explanation)
    state = f'class-index="{class_index}" frame="{frame}" mode="{mode}"'
    state += ("" if other is None else f' versus-index="{other}"') + " tile playing" * tile
    state += " truth" * (tile and explanation.mask is not None)
    return (
        f"<cam-viewer {state}>{picture}<p>{escape(told)}</p>"
        f'<script type="application/json">{payload}</script></cam-viewer>'
    )


def data(explanation, **more) -> str:
    """What viewer.js reads of an explanation, as JSON; all but its frames, which are a picture."""
    alone = getattr(explanation, "alone", None)
    read = {name: getattr(explanation, name) for name in PRINTED} | {
        "classes": distinct(explanation.classes),
        "label": None if explanation.label is None else int(explanation.label),
        "note": getattr(explanation, "geometry_note", ""),
        "mapped": [int(k) for k in explanation.mapped],
        "maps": _maps(explanation.maps),
        "alone": None if alone is None else _maps(alone) | {"ledger": _ledger(alone)},
        "footprint": explanation.footprint and _footprint(explanation.footprint),
        "ledger": _ledger(explanation.maps),
        "mask": None if explanation.mask is None else _mask(explanation.mask),
        "colours": b"".join(
            c(np.arange(256), bytes=True)[:, :3].tobytes() for c in (COLOURS, BOTH)
        ),
    }
    return json.dumps(read | more, separators=(",", ":"), allow_nan=False, default=_plain)


def caption(explanation) -> str:
    """true: Tearing [something] · 1st: Tearing [something] .99 · 2nd: Stacking ... .00"""
    names, probabilities = distinct(explanation.classes), explanation.probabilities
    parts = [] if explanation.label is None else [f"true: {names[explanation.label]}"]
    ranking = sorted(range(len(names)), key=lambda k: -probabilities[k])
    for rank, k in zip(("1st", "2nd"), ranking):
        parts.append(f"{rank}: {names[k]} {f'{probabilities[k]:.2f}'.removeprefix('0')}")
    note = getattr(explanation, "geometry_note", "")
    return " · ".join([*parts, note] if note else parts)


def distinct(names: Sequence[str]) -> list[str]:
    """The names, those that stand more than once with numbers: a, b, a -> a (1), b, a (2)."""
    count, seen, told = Counter(names), Counter(), []
    for name in names:
        seen[name] += 1
        told.append(f"{name} ({seen[name]})" if count[name] > 1 else name)
    return told if len(set(told)) == len(told) else distinct(told)


def _code(source: Path) -> str:
    code = source.read_text(encoding="utf-8")
    return code.replace(STYLE.name, STYLE.read_text(encoding="utf-8"), 1)


def _class_index(explanation, chosen: int | str | None, argument: str = "selected") -> int:
    """Index of a class, by index or name as `distinct` has it; None is the most probable one that
    has a map. ValueError, which names the `argument`, for a class without a map."""
    if chosen is None:
        return int(max(explanation.mapped, key=lambda k: explanation.probabilities[k]))
    names = distinct(explanation.classes)
    index = names.index(chosen) if chosen in names else chosen
    if index not in explanation.mapped:
        known = ", ".join(names[k] for k in explanation.mapped)
        raise ValueError(f"{argument} is {chosen!r}, which has no map; these have: {known}")
    return int(index)


def contact_sheet(
    frames: np.ndarray, size: int = SIZE, quality: int = QUALITY, clip: str = ""
) -> tuple[dict, str]:
    """All frames (T, H, W, 3) uint8 of a clip, each at most `size` pixels wide and high, in one
    picture: how it is laid out, and the picture as an HTML tag, with the clip's name if it has
    one."""
    shrink = min(1.0, size / max(frames.shape[1:3]))
    height, width = (max(1, round(side * shrink)) for side in frames.shape[1:3])
    columns = math.ceil(math.sqrt(len(frames)))
    sheet = Image.new("RGB", (columns * width, math.ceil(len(frames) / columns) * height), "grey")
    for number, frame in enumerate(frames):
        row, column = divmod(number, columns)
        picture = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(picture, (column * width, row * height))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=quality)
    layout = {"frames": len(frames), "columns": columns, "width": width, "height": height}
    named = f'data-clip="{escape(clip)}" ' if clip else ""
    return layout, (
        f'<img {named}src="data:image/webp;base64,{_plain(file.getvalue())}" width="{sheet.width}" '
        f'height="{sheet.height}" style="max-width:100%;height:auto" '
        f'alt="The {len(frames)} frames of the clip in order of time, {columns} in a row">'
    )


def _ledger(maps: np.ndarray) -> np.ndarray:
    """Sums (M, t) of maps (M, t, h, w)."""
    return maps.sum(axis=(2, 3), dtype=np.float64)


def _maps(maps: np.ndarray) -> dict:
    """Signed maps (M, t, h, w) as int16, each class with its own scale: value = integer * scale."""
    scales = np.abs(maps).max(axis=(1, 2, 3)).astype(np.float64) / 32767  # (M,)
    integers = np.rint(maps / np.where(scales > 0, scales, 1)[:, None, None, None])
    return {"shape": maps.shape, "scales": scales, "values": integers.astype("<i2").tobytes()}


def _footprint(footprint) -> dict:
    """Distances from a cell's centre as fractions of the clip, cut off at all of it."""
    whole = np.array(footprint.shape)[:, None]
    parts = {name: getattr(footprint, name) / whole for name in ("half", "core", "field")}
    return {name: np.minimum(part, 1) for name, part in parts.items()} | {"text": repr(footprint)}


def _mask(mask: np.ndarray) -> dict:
    """The truth (T, H, W) as bits at most MASK_SIZE wide: on where half of a square is covered."""
    height, width = (min(side, MASK_SIZE) for side in mask.shape[1:])
    pictures = [Image.fromarray(m.astype(np.uint8) * 255) for m in mask]
    covered = [picture.resize((width, height), Image.Resampling.BOX) for picture in pictures]
    bits = np.packbits(np.stack(covered) >= 128).tobytes()
    return {"shape": (len(mask), height, width), "bits": bits}


def _plain(value: np.ndarray | bytes) -> list | str:
    """What stands in JSON for an array, with seven figures, enough for float32; and for bytes."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return np.reshape([float(f"{number:.7g}") for number in value.flat], value.shape).tolist()
