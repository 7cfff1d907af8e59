"""Many short clips at once, which play while they are on screen.

`gallery` shows clips, `cases` explanations, each of which opens into the viewer. Where scripts do
not run, clips have the browser's controls and explanations are contact sheets.
"""

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from lib.data.write import write_video
from lib.viewer.viewer import element, script

SCRIPT = Path(__file__).with_suffix(".js")
TILE = 160  # longest side in pixels at which the frames of a case are kept


@dataclass(frozen=True)
class Gallery:
    """What a notebook shows for `gallery` and `cases`."""

    clips: int
    html: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"Gallery({self.clips} clips)"


def gallery(clips: list[np.ndarray], captions: list[str], fps: float) -> Gallery:
    """Clips (T, H, W, 3) uint8, shown at `fps`, each with its caption.

    Raises ValueError when there are not as many captions as clips, or none.
    """
    if len(clips) != len(captions) or not clips:
        raise ValueError(f"{len(clips)} clips and {len(captions)} captions: give one to each")
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.webm"
        for frames, caption in zip(clips, map(escape, captions)):
            height, width = frames.shape[1:3]
            write_video(path, frames, fps)
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            figures.append(
                f'<figure><video src="data:video/webm;base64,{data}" width="{width}" '
                f'height="{height}" aria-label="{caption}" muted loop playsinline controls></video>'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    code = SCRIPT.read_text(encoding="utf-8")
    wall = f"<clip-gallery>{''.join(figures)}</clip-gallery><script>{code}</script>"
    return Gallery(len(clips), wall)


def cases(groups: Mapping[str, Sequence]) -> Gallery:
    """Explanations under the names of their groups: moving tiles that open into the viewer."""
    parts = []
    for name, explanations in groups.items():
        parts.append(f"<p>{escape(name)}</p>")
        parts += [element(explanation, size=TILE, tile=True) for explanation in explanations]
    wall = f"<cam-wall>{''.join(parts)}</cam-wall>{script()}"
    return Gallery(sum(map(len, groups.values())), wall)
