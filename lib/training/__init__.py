"""The training loop, its settings and its files."""

from lib.training.batches import InMemory, remember
from lib.training.loop import train
from lib.training.settings import RECIPES, Settings
