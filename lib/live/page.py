"""Prints `<cam-live>`: the network runs in the page, beside clips to try it on. See live.js."""

from collections.abc import Mapping
from html import escape

from lib.data.video import Clip
from lib.viewer import script
from lib.viewer.gallery import Gallery
from lib.viewer.viewer import contact_sheet

FOLDER = "../_static/live/"  # of the site, as seen from its pages
ELSEWHERE = "The network runs on the page of the built book, in a browser with scripts."


def live(clips: Mapping[str, Clip], inside: str = "", folder: str = FOLDER) -> Gallery:
    """The network in a page, with clips by name to ask it about; `inside` is more HTML in it, such
    as a `<cam-stage>`. Each clip has as many square frames as the network wants."""
    parts = [f'<cam-live src="{escape(folder)}"><noscript>{ELSEWHERE}</noscript>']
    parts += [contact_sheet(clip.frames, clip=name)[1] for name, clip in clips.items()]
    names = ["live.js", "stage.js"] if "cam-stage" in inside else ["live.js"]
    own = "".join(f'<script defer src="{escape(folder)}{name}"></script>' for name in names)
    return Gallery(len(clips), f"{''.join(parts)}{inside}</cam-live>{script()}{own}")
