"""Label templates of Something-Something: its sets of classes, reversals and mirror images."""

import re

# The 40-class subset of Goyal et al. (2017), arXiv 1706.04261, in the order of its class indices.
CLASSES_40 = [
    "Approaching [something] with your camera",
    "Closing [something]",
    "Dropping [something]",
    "Folding [something]",
    "Holding [something]",
    "Holding [something] next to [something]",
    "Moving [something] away from [something]",
    "Moving [something] away from the camera",
    "Moving [something] closer to [something]",
    "Moving [something] down",
    "Moving [something] from left to right",
    "Moving [something] from right to left",
    "Moving [something] towards the camera",
    "Moving away from [something] with your camera",
    "Opening [something]",
    "Picking [something] up",
    "Plugging [something] into [something]",
    "Poking [something]",
    "Pouring [something]",
    "Pretending to pick [something] up",
    "Pretending to put [something] next to [something]",
    "Pretending to put [something] on a surface",
    "Pretending to take [something] from [somewhere]",
    "Pushing [something] so that it slightly moves",
    "Pushing [something] with [something]",
    "Putting [something]",
    "Putting [something] into [something]",
    "Showing [something] (almost no hand)",
    "Showing a photo of [something] to the camera",
    "Showing that [something] is empty",
    "Stacking [number of] [something]",
    "Tearing [something]",
    "Throwing [something] against [something]",
    "Turning [something] upside down",
    "Turning the camera downwards while filming [something]",
    "Turning the camera left while filming [something]",
    "Turning the camera right while filming [something]",
    "Turning the camera upwards while filming [something]",
    "Uncovering [something]",
    "Unfolding [something]",
]

#: Those of them that gather several of the 174 templates, and which (published with the subset).
GATHERED = {
    "Dropping [something]": [
        "Throwing [something]",
        "Throwing [something] in the air and letting it fall",
        "Throwing [something] onto a surface",
        "[Something] falling like a feather or paper",
        "[Something] falling like a rock",
    ],
    "Holding [something]": [
        "Holding [something]",
        "Holding [something] in front of [something]",
    ],
    "Moving [something] from left to right": [
        "Pulling [something] from left to right",
        "Pushing [something] from left to right",
    ],
    "Moving [something] from right to left": [
        "Pulling [something] from right to left",
        "Pushing [something] from right to left",
    ],
    "Picking [something] up": [
        "Lifting [something] up completely without letting it drop down",
        "Lifting [something] with [something] on it",
        "Moving [something] up",
        "Picking [something] up",
        "Taking [one of many similar things on the table]",
        "Taking [something] from [somewhere]",
        "Taking [something] out of [something]",
    ],
    "Poking [something]": [
        "Poking [something] so lightly that it doesn't or almost doesn't move",
        "Poking [something] so that it falls over",
        "Poking a stack of [something] so the stack collapses",
        "Poking a stack of [something] without the stack collapsing",
    ],
    "Pouring [something]": [
        "Pouring [something] into [something]",
        "Pouring [something] into [something] until it overflows",
        "Pouring [something] onto [something]",
        "Pouring [something] out of [something]",
        "Trying to pour [something] into [something], but missing so it spills next to it",
    ],
    "Putting [something]": [
        "Putting [something similar to other things that are already on the table]",
        "Putting [something] and [something] on the table",
        "Putting [something] behind [something]",
        "Putting [something] next to [something]",
        "Putting [something] on a flat surface without letting it roll",
        "Putting [something] on a surface",
        "Putting [something] onto [something]",
        "Putting [something] that can't roll onto a slanted surface, so it stays where it is",
        "Putting [something], [something] and [something] on the table",
    ],
    "Showing [something] (almost no hand)": [
        "Showing [something] behind [something]",
        "Showing [something] next to [something]",
        "Showing [something] on top of [something]",
    ],
    "Tearing [something]": [
        "Tearing [something] into two pieces",
        "Tearing [something] just a little bit",
    ],
}

CLASSES_10 = list(GATHERED)
CLASS_SETS = ("174", "40", "10")

_PAIRS = [
    ("Approaching [something] with your camera", "Moving away from [something] with your camera"),
    ("Closing [something]", "Opening [something]"),
    ("Folding [something]", "Unfolding [something]"),
    ("Moving [something] away from [something]", "Moving [something] closer to [something]"),
    ("Moving [something] away from the camera", "Moving [something] towards the camera"),
    ("Moving [something] from left to right", "Moving [something] from right to left"),
    ("Picking [something] up", "Putting [something]"),
    (
        "Turning the camera downwards while filming [something]",
        "Turning the camera upwards while filming [something]",
    ),
    (
        "Turning the camera left while filming [something]",
        "Turning the camera right while filming [something]",
    ),
]

#: What a clip of a class shows when it is played backwards, for the classes that have such a twin.
REVERSED = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}


def mirror_label(label: str) -> str:
    """What a clip of a class shows in a mirror: the same, with left and right exchanged.

    >>> mirror_label("Turning the camera left while filming [something]")
    'Turning the camera right while filming [something]'
    """
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


def fill_template(template: str, placeholders: list[str]) -> str:
    """The caption of a clip: its template with the objects put in, in order, lower case.

    >>> fill_template("Moving [something] closer to [something]", ["banana", "red apple"])
    'moving banana closer to red apple'
    """
    for placeholder in placeholders:
        start, end = template.index("["), template.index("]")
        template = template[:start] + placeholder + template[end + 1 :]
    return template[0].lower() + template[1:]


mirrored, fill = mirror_label, fill_template  # until all have moved
