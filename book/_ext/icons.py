"""A Sphinx extension: of the theme's icons a page loads those that the book shows.

The theme brings every icon of Font Awesome twice: drawn by a script of half a megabyte, and as a
font, which its style sheet knows how to use. The script is emptied, and the font cut down.
"""

import re
from pathlib import Path

from fontTools import subset
from sphinx.application import Sphinx

FONT = "vendor/fontawesome/webfonts/fa-solid-900"
RULE = re.compile(r"([^{}]*){([^{}]*)}")
CODE = re.compile(r'"\\([0-9a-f]{4})"|"([\ue000-\uf8ff])"')  # written as a number or as it is


def shown(site: Path) -> set[int]:
    """Code points of the icons that pages, scripts and style sheets name."""
    sources = [*site.rglob("*.html"), *site.glob("_static/scripts/*theme*.js")]
    names = {name for file in sources for name in re.findall(r"fa-[\w-]+", file.read_text("utf-8"))}
    codes = set()
    for file in site.glob("_static/**/*.css"):
        for selector, body in RULE.findall(file.read_text("utf-8")):
            icons = set(re.findall(r"\.(fa-[\w-]+)", selector))
            if not icons or icons & names:
                found = CODE.findall(body)
                codes.update(int(code, 16) if code else ord(letter) for code, letter in found)
    return codes


def keep_shown(app: Sphinx, failure: Exception | None) -> None:
    if failure or app.builder.name != "html":
        return
    site = Path(app.outdir)
    (site / "_static/scripts/fontawesome.js").write_text("// The icons come from a font.\n")
    codes = shown(site)
    options = subset.Options(flavor="woff2", hinting=False)
    font = subset.load_font(site / "_static" / f"{FONT}.ttf", options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=codes)
    cutter.subset(font)
    subset.save_font(font, site / "_static" / f"{FONT}.woff2", options)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", keep_shown)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
