"""Many short clips at once, which play while they are on screen.

`gallery` shows clips, `cases` explanations, each of which opens into the viewer. All travels inside
the HTML. Where scripts do not run, clips have the browser's controls and explanations are contact
sheets.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from lib.data.video import write_video
from lib.explain.explanation import Explanation
from lib.viewer.viewer import caption, element, script

SCRIPT = Path(__file__).with_suffix(".js")


@dataclass(frozen=True)
class Gallery:
    """What a notebook shows for `gallery` and `cases`."""

    captions: list[str]
    html: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"Gallery({len(self.captions)} clips)"


def gallery(clips: list[np.ndarray], captions: list[str], fps: float) -> Gallery:
    """Clips (T, H, W, 3) uint8, shown at `fps`, each with its caption.

    Raises:
        ValueError: when there are not as many captions as clips, or none.
    """
    if len(clips) != len(captions) or not clips:
        raise ValueError(f"{len(clips)} clips and {len(captions)} captions: give one to each")
    figures = "".join(_figure(clip, caption, fps) for clip, caption in zip(clips, captions))
    code = SCRIPT.read_text(encoding="utf-8")
    return Gallery(captions, f"<clip-gallery>{figures}</clip-gallery><script>{code}</script>")


def cases(groups: Mapping[str, Sequence[Explanation]], size: int = 160) -> Gallery:
    """Explanations under the names of their groups: moving tiles that open into the viewer.

    size: longest side in pixels at which frames are kept.
    """
    parts = []
    for name, explanations in groups.items():
        parts.append(f"<p>{escape(name)}</p>")
        parts += [element(explanation, size=size, tile=True) for explanation in explanations]
    captions = [caption(e) for explanations in groups.values() for e in explanations]
    return Gallery(captions, f"<cam-wall>{''.join(parts)}</cam-wall>{script()}")


def _figure(frames: np.ndarray, caption: str, fps: float) -> str:
    height, width = frames.shape[1:3]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.webm"
        write_video(path, frames, fps)
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><video src="data:video/webm;base64,{data}" width="{width}" height="{height}" '
        f'aria-label="{escape(caption)}" muted loop playsinline controls></video>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
