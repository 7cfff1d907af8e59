"""The miniature Something-Something: a drawn stand-in for a dataset nobody may redistribute."""

from lib.miniature.clip import CLASSES, SECONDS, Drawn, Fresh, Truth, draw, fill_template
from lib.miniature.dataset import identity, read_truth, write
