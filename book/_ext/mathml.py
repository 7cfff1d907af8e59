"""A Sphinx extension that writes formulas as MathML.

Browsers draw MathML by themselves, so pages need no MathJax from another host; they do need a
mathematical font, which is cut out of the one in the package `ziamath`. A formula that would not
come out as written is a warning, hence an error in a strict build.
"""

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from docutils import nodes
from fontTools import subset
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html import HTML5Translator

logger = logging.getLogger(__name__)

MATHML = "http://www.w3.org/1998/Math/MathML"
ENVIRONMENT = re.compile(r"\\(begin|end){(?:aligned|align|gather|equation|split)\*?}")
LETTERS = (  # Latin, Greek, arrows, operators, braces, mathematical italics, bold and script
    "20-7E A0 B1 B7 D7 2C6-2DC 300-304 391-3C9 2010-2026 2032 20D7 2102 2113 211D 2115 2124 "
    "2190-2194 21A6 21D2 2200-2265 2308-230B 23DE-23DF 27E8-27E9 1D400-1D467 1D49C-1D4B5 "
    "1D7CE-1D7D7 1D6FC-1D71B"
)
LIMITS = {"∑", "∏", "max", "min", "lim", "argmax", "argmin"}  # take their limits above and below
UNDER_OVER = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}


def mathml(latex: str, display: str = "inline") -> str:
    """MathML of a formula; `display` is "inline" or "block".

    Raises ValueError where the result would not show what the formula says.
    """
    # One environment aligns everything; numbers come from Sphinx, not from inside the formula.
    latex = ENVIRONMENT.sub(r"\\\1{align*}", latex)
    if "\\\\" in latex and "\\begin" not in latex:
        latex = rf"\begin{{align*}}{latex}\end{{align*}}"
    try:
        root = ET.fromstring(convert(latex, display=display))
    except Exception as error:  # the converter has a dozen, some of them bare IndexErrors
        raise ValueError(f"no MathML for {latex!r}: {error!r}") from error
    for element in root.iter():
        name = element.tag.removeprefix(f"{{{MATHML}}}")
        text = element.text or ""
        if text.startswith("\\") and len(text) > 1:
            raise ValueError(f"no MathML for {text} in {latex!r}")
        if element.get("mathvariant", "normal") != "normal":
            raise ValueError(f"browsers ignore this bold or script in {latex!r}; use \\mathbf")
        if name in UNDER_OVER and (element[0].text in LIMITS):
            element.tag = f"{{{MATHML}}}{UNDER_OVER[name]}"
            element[0].set("movablelimits", "true")
    ET.register_namespace("", MATHML)
    return ET.tostring(root, encoding="unicode")


def write_formula(translator: HTML5Translator, node: nodes.Element, display: str) -> None:
    """Append a formula to the page, or warn and leave its source there."""
    latex = node.astext().strip()
    try:
        translator.body.append(mathml(latex, display))
    except ValueError as error:
        logger.warning(str(error), location=node)
        translator.body.append(f"<code>{translator.encode(latex)}</code>")


def visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    write_formula(translator, node, "inline")
    raise nodes.SkipNode


def visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    # A wide formula scrolls, so the keyboard must reach it.
    translator.body.append(translator.starttag(node, "div", CLASS="formula", tabindex="0"))
    write_formula(translator, node, "block")
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>")
    raise nodes.SkipNode


def write_font(app: Sphinx, error: Exception | None) -> None:
    """Cut STIX Two Math (SIL Open Font Licence) down to the letters of formulas, beside the CSS."""
    if error or app.builder.format != "html":
        return
    package = Path(importlib.util.find_spec("ziamath").origin).parent
    options = subset.Options(flavor="woff2", layout_features=["ssty", "kern"], hinting=False)
    font = subset.load_font(package / "fonts" / "STIXTwoMath-Regular.ttf", options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=subset.parse_unicodes(LETTERS.replace(" ", ",")))
    cutter.subset(font)
    subset.save_font(font, Path(app.outdir) / "_static" / "stix-two-math.woff2", options)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write_font)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
