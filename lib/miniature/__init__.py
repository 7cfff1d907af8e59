"""The miniature Something-Something: a drawn stand-in for a dataset nobody may redistribute."""

from lib.miniature.dataset import (
    CLASSES,
    FPS,
    SECONDS,
    SPLITS,
    Drawn,
    Fresh,
    Truth,
    draw,
    identity,
    read_truth,
    write,
)
