"""Prints an `Explanation` as one custom element, `<cam-viewer>`: a clip, its evidence, its ledger.

Everything the element needs travels inside the HTML: the frames as one WebP contact sheet, the
maps of every class as 16-bit integers, the truth as bits, the colours as 256 RGB triples, the
script itself. No request leaves the page. Where scripts do not run, the contact sheet and its
caption stay.
"""

from __future__ import annotations

import base64
import io
import json
import math
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from lib.explain.explanation import Explanation
    from lib.explain.footprint import Footprint

SCRIPT, STYLE = (Path(__file__).with_suffix(suffix) for suffix in (".js", ".css"))
MODES = ("original", "overlay", "heatmap", "beside")
SCALES = ("class", "all")
EXTENTS = ("half", "core", "field")  # of a footprint
MASK_SIZE = 64  # the truth outline is kept at most this wide and high
QUALITY = 82  # of the contact sheet; as good as JPEG at 85 in half the bytes


def html(explanation: Explanation, **shown) -> str:
    """The viewer of one explanation, as HTML that stands alone; `shown` as for `element`."""
    return element(explanation, **shown) + script()


def script() -> str:
    """What makes every `element` of a page a viewer; once is enough, more do no harm."""
    code = SCRIPT.read_text(encoding="utf-8")
    return f"<script>{code.replace(STYLE.name, STYLE.read_text(encoding='utf-8'), 1)}</script>"


def element(
    explanation: Explanation,
    *,
    selected: int | str | None = None,
    versus: int | str | None = None,
    frame: int | None = None,
    mode: str = "overlay",
    opacity: float = 0.65,
    threshold: float = 0,
    scale: str = "class",
    size: int = 288,
    colours: str = "inferno",
    tile: bool = False,
) -> str:
    """One viewer, without the script that makes it live.

    selected: class shown first, by index or name; None is the most probable one that has a map.
    versus: class whose evidence is taken away from it (why A and not B?); None takes nothing.
    frame: frame shown first; None is the one with the most evidence for that class.
    mode: "original", "overlay" (evidence is colour and opacity), "heatmap" (colour alone) or
        "beside", original and overlay side by side as in the article.
    opacity: of the overlay where the evidence is greatest, 0 to 1.
    threshold: evidence below this fraction of the greatest is not shown, 0 to 1.
    scale: colours run from 0 to the largest evidence over the whole clip, of the selected "class"
        or of "all" classes; never of a frame, which would light up idle frames.
    size: longest side in pixels at which frames are kept; smaller frames stay as they are.
    colours: name of a matplotlib colour map.
    tile: shown small and moving until it is opened.

    Raises ValueError, naming the field, when the explanation's arrays do not fit together, and for
    an argument that is none of the above.
    """
    _check(explanation)
    _one_of("mode", mode, MODES)
    _one_of("scale", scale, SCALES)
    _one_of("colours", colours, matplotlib.colormaps)
    for name, value in ("opacity", opacity), ("threshold", threshold):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}: give a number from 0 to 1")
    steps, frames = explanation.maps.shape[1], len(explanation.frames)
    class_index = _class_index(explanation, selected)
    other = None if versus is None else _class_index(explanation, versus)
    ledger = explanation.maps.sum(axis=(2, 3), dtype=np.float64)  # (M, T)
    if frame is None:
        bars = ledger[explanation.mapped.index(class_index)]
        if other is not None:
            bars = bars - ledger[explanation.mapped.index(other)]
        peak = int(bars.argmax())
        frame = int((peak + 0.5) * frames / steps)
    if not 0 <= frame < frames:
        raise ValueError(f"frame is {frame}: the clip has frames 0 to {frames - 1}")

    columns = math.ceil(math.sqrt(frames))
    tiles = _tiles(explanation.frames, size)  # (T, H, W, 3)
    height, width = tiles.shape[1:3]
    data = {
        "classes": list(explanation.classes),
        "probabilities": _numbers(explanation.probabilities),
        "logits": _numbers(explanation.logits),
        "bias": None if explanation.bias is None else _numbers(explanation.bias),
        "label": None if explanation.label is None else int(explanation.label),
        "method": explanation.method,
        "layer": explanation.layer,
        "times": _numbers(explanation.times),
        "sheet": {"frames": frames, "columns": columns, "width": width, "height": height},
        "mapped": [int(k) for k in explanation.mapped],
        "maps": _maps(explanation.maps),
        "cells": {axis: _numbers(c) for axis, c in zip("yx", explanation.cells, strict=True)},
        "footprint": explanation.footprint and _footprint(explanation.footprint),
        "ledger": [_numbers(row) for row in ledger],
        "mask": None if explanation.mask is None else _mask(explanation.mask),
        "colours": _base64(_palette(colours).tobytes()),
    }
    # "<" never appears raw, so no class name can close the script element.
    payload = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    less = "" if other is None else f' versus-index="{other}"'
    least = f' threshold="{threshold:g}"' if threshold else ""
    return (
        f'<cam-viewer class-index="{class_index}"{less} frame="{frame}" mode="{mode}" '
        f'opacity="{opacity:g}"{least} scale="{scale}"{" tile playing" if tile else ""}>'
        f'<img src="data:image/webp;base64,{_base64(_contact_sheet(tiles, columns))}" '
        f'width="{columns * width}" height="{math.ceil(frames / columns) * height}" '
        f'style="max-width:100%;height:auto" '
        f'alt="The {frames} frames of the clip in order of time, {columns} in a row">'
        f"<p>{escape(caption(explanation))}</p>"
        f'<script type="application/json">{payload}</script></cam-viewer>'
    )


def _check(explanation: Explanation) -> None:
    """Raises ValueError naming the first field that does not fit the others."""
    frames, maps, classes = explanation.frames, explanation.maps, len(explanation.classes)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}: give uint8 (T, H, W, 3)")
    if maps.ndim != 4 or not maps.size or not np.isfinite(maps).all():
        raise ValueError(f"maps are {maps.dtype} {maps.shape}: give finite numbers (M, T, h, w)")
    mapped = list(explanation.mapped)
    if len(mapped) != len(maps) or not all(0 <= k < classes for k in mapped):
        raise ValueError(f"mapped is {mapped}: name one of {classes} classes for each of the maps")
    for name, length in ("probabilities", classes), ("logits", classes), ("times", len(frames)):
        if len(getattr(explanation, name)) != length:
            raise ValueError(f"{name} has {len(getattr(explanation, name))} entries, not {length}")
    if explanation.bias is not None and len(explanation.bias) != classes:
        raise ValueError(f"bias has {len(explanation.bias)} entries, not {classes}")
    for centres, length in zip(explanation.cells, maps.shape[2:], strict=True):
        if len(centres) != length or (np.diff(centres) <= 0).any():
            raise ValueError(f"cells are {centres}: give {length} growing fractions of the frame")
    if explanation.label is not None and not 0 <= explanation.label < classes:
        raise ValueError(f"label is {explanation.label}: give a class index below {classes}")
    if explanation.mask is not None and explanation.mask.shape != frames.shape[:3]:
        raise ValueError(f"mask is {explanation.mask.shape}: give {frames.shape[:3]} as the frames")


def _one_of(name: str, value: str, known) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}: choose one of {', '.join(known)}")


def _ranking(explanation: Explanation) -> list[int]:
    """Class indices, most probable first; ties keep the order of the classes."""
    return np.argsort(-np.asarray(explanation.probabilities), kind="stable").tolist()


def _class_index(explanation: Explanation, selected: int | str | None) -> int:
    if selected is None:
        return next(k for k in _ranking(explanation) if k in explanation.mapped)
    names = list(explanation.classes)
    index = names.index(selected) if selected in names else selected
    if index not in explanation.mapped:
        known = ", ".join(names[k] for k in explanation.mapped)
        raise ValueError(f"selected is {selected!r}, which has no map; these have: {known}")
    return int(index)


def caption(explanation: Explanation) -> str:
    """true: Tearing [something] · 1st: Tearing [something] .99 · 2nd: Stacking ... .00"""
    parts = [] if explanation.label is None else [f"true: {explanation.classes[explanation.label]}"]
    for place, k in zip(("1st", "2nd"), _ranking(explanation), strict=False):
        probability = f"{explanation.probabilities[k]:.2f}".removeprefix("0")
        parts.append(f"{place}: {explanation.classes[k]} {probability}")
    return " · ".join(parts)


def _tiles(frames: np.ndarray, size: int) -> np.ndarray:
    """(T, H, W, 3) uint8 shrunk, with antialiasing, until the longest side is at most `size`."""
    height, width = frames.shape[1:3]
    ratio = min(1.0, size / max(height, width))
    shape = max(1, round(width * ratio)), max(1, round(height * ratio))
    return np.stack([Image.fromarray(f).resize(shape, Image.Resampling.LANCZOS) for f in frames])


def _contact_sheet(tiles: np.ndarray, columns: int) -> bytes:
    """The tiles (T, H, W, 3) row by row in one WebP picture, the last row filled up with grey."""
    count, height, width, _ = tiles.shape
    rows = math.ceil(count / columns)
    sheet = np.full((rows * columns, height, width, 3), 128, np.uint8)
    sheet[:count] = tiles
    sheet = sheet.reshape(rows, columns, height, width, 3)
    sheet = sheet.swapaxes(1, 2)  # (rows, H, columns, W, 3)
    sheet = sheet.reshape(rows * height, columns * width, 3)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "WEBP", quality=QUALITY)
    return file.getvalue()


def _maps(maps: np.ndarray) -> dict:
    """Signed maps (M, T, h, w) as int16, each class with its own scale: value = integer * scale."""
    scales = np.abs(maps).max(axis=(1, 2, 3)).astype(np.float64) / 32767  # (M,)
    divisors = np.where(scales > 0, scales, 1)[:, None, None, None]
    return {
        "shape": list(maps.shape),
        "scales": [float(scale) for scale in scales],
        "values": _base64(np.rint(maps / divisors).astype("<i2").tobytes()),
    }


def _footprint(footprint: Footprint) -> dict:
    """Distances from a cell's centre as fractions of the clip, cut off at all of it."""
    whole = np.array(footprint.shape)[:, None]
    extents = {name: np.minimum(getattr(footprint, name) / whole, 1) for name in EXTENTS}
    return {"text": repr(footprint)} | {
        name: {axis: _numbers(pair) for axis, pair in zip("tyx", extent, strict=True)}
        for name, extent in extents.items()
    }


def _mask(mask: np.ndarray) -> dict:
    """The truth (T, H, W) as bits at most MASK_SIZE wide: on where half of a square is covered."""
    count, height, width = mask.shape
    shape = min(width, MASK_SIZE), min(height, MASK_SIZE)
    covered = [
        Image.fromarray(m.astype(np.uint8) * 255).resize(shape, Image.Resampling.BOX) for m in mask
    ]
    bits = np.stack(covered) >= 128  # (T, h, w)
    return {"shape": list(bits.shape), "bits": _base64(np.packbits(bits).tobytes())}


def _palette(name: str) -> np.ndarray:
    """The 256 colours (256, 3) uint8 of a matplotlib colour map."""
    return matplotlib.colormaps[name](np.linspace(0, 1, 256), bytes=True)[:, :3]


def _numbers(values) -> list[float]:
    """Seven significant figures: float32 as it is, in fewer characters."""
    return [float(f"{value:.7g}") for value in np.asarray(values, np.float64)]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
