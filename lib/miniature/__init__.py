"""The miniature Something-Something: a drawn stand-in for a dataset nobody may redistribute."""

from lib.miniature.clip import CLASSES, FPS, SECONDS, VERSION, Drawn, Fresh, Truth, draw
from lib.miniature.dataset import identity, read_truth, write
