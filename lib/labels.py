"""Label templates of Something-Something: the article's 40 classes and their reversals."""

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

#: The ten of them that gather several of the dataset's 174 templates each.
CLASSES_10 = [
    "Dropping [something]",
    "Holding [something]",
    "Moving [something] from left to right",
    "Moving [something] from right to left",
    "Picking [something] up",
    "Poking [something]",
    "Pouring [something]",
    "Putting [something]",
    "Showing [something] (almost no hand)",
    "Tearing [something]",
]

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

_SIDES = [
    ("Moving [something] from left to right", "Moving [something] from right to left"),
    (
        "Turning the camera left while filming [something]",
        "Turning the camera right while filming [something]",
    ),
]

#: What a clip of a class shows in a mirror, for the classes that do not stay what they are.
MIRRORED = {a: b for pair in _SIDES for a, b in (pair, pair[::-1])}


def fill(template: str, placeholders: list[str]) -> str:
    """The caption of a clip: its template with the objects put in, in order, lower case.

    >>> fill("Moving [something] closer to [something]", ["banana", "red apple"])
    'moving banana closer to red apple'
    """
    for placeholder in placeholders:
        start, end = template.index("["), template.index("]")
        template = template[:start] + placeholder + template[end + 1 :]
    return template[0].lower() + template[1:]
