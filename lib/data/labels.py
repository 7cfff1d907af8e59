"""Label templates of Something-Something: its sets of classes, reversals and mirror images."""

import json
import re
from pathlib import Path

# The 40 classes of Goyal et al. (2017), arXiv 1706.04261, in their order, with the templates that
# ten of them gather (published with them), and pairs of which one is the other played backwards.
_FILE = json.loads(Path(__file__).with_name("classes.json").read_text(encoding="utf-8"))

CLASSES_40: list[str] = list(_FILE["forty"])
#: Those of the forty that gather several of the 174 templates, and which.
GATHERED: dict[str, list[str]] = {name: found for name, found in _FILE["forty"].items() if found}
CLASSES_10 = list(GATHERED)
CLASS_SETS = ("174", "40", "10")
#: What a clip of a class shows when it is played backwards, for the classes that have an opposite.
REVERSED: dict[str, str] = {a: b for pair in _FILE["opposites"] for a, b in (pair, pair[::-1])}


def mirror_label(label: str) -> str:
    """What a clip of a class shows in a mirror: its label, a class's name or a template, with the
    words left and right exchanged. A label without them stays as it is."""
    sides = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda side: sides[side[0]], label)


def class_set(name: str) -> dict[str, list[str]] | None:
    """The classes of the set "174", "40" or "10", in order, each with the templates it gathers.

    A class always takes the template of its own name as well, as the miniature dataset writes it.
    None for "174": those are all the templates of the dataset, as its labels file lists them.
    """
    if name not in CLASS_SETS:
        raise ValueError(f"{name!r} is no set of classes: choose 174, 40 or 10")
    if name == "174":
        return None
    classes = CLASSES_40 if name == "40" else CLASSES_10
    return {label: [label, *GATHERED.get(label, [])] for label in classes}
