"""Many short clips at once, as one custom element, `<clip-gallery>`: they play while on screen.

The clips travel inside the HTML as WebM. Where scripts do not run each has the browser's controls.
"""

import base64
import tempfile
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from lib.video import write_video

SCRIPT = Path(__file__).with_suffix(".js")


@dataclass(frozen=True)
class Gallery:
    """What a notebook shows for `gallery`."""

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
    script = SCRIPT.read_text(encoding="utf-8")
    return Gallery(captions, f"<clip-gallery>{figures}</clip-gallery><script>{script}</script>")


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
