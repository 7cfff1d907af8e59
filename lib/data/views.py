"""What an epoch shows of a dataset: a random part of each clip, as a random square, half of them
mirrored. All of it follows from the seed, the epoch and the clip's index.
"""

from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from lib.data.labels import mirror_label
from lib.data.something import SomethingSomething
from lib.data.video import Crop


class View(NamedTuple):
    """How a clip is shown, and with which class."""

    at: float  # where in the video, as in `read_clip`
    crop: Crop
    class_index: int


class Views(Dataset):
    """Random views of a `SomethingSomething`, other ones in each `epoch`; items as of that dataset.

    A mirrored clip has the class of the mirrored template ("left to right" becomes "right to
    left"). Where the dataset has no such class, and without `mirror`, the clip is left as it is.
    Without a size, the frames are the square as it was cut, of another size in each view.
    """

    def __init__(self, dataset: SomethingSomething, seed=0, smallest=0.8, mirror=True, number=0):
        self.dataset, self.seed, self.smallest = dataset, seed, smallest
        self.mirror, self.number = mirror, number

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        view = self.view(i)
        return self.dataset.clip(i, at=view.at, crop=view.crop).frames, view.class_index

    def epoch(self, number: int) -> "Views":
        """The same clips, in other views."""
        return Views(self.dataset, self.seed, self.smallest, self.mirror, number)

    def view(self, i: int) -> View:
        """Drawn from (seed, epoch, i) and nothing else."""
        rng = np.random.default_rng([self.seed, self.number, i])
        at, x, y, flip, large = rng.random(5).tolist()
        item = self.dataset.items[i]
        mirror_class = self.dataset.class_of(mirror_label(item.template))
        mirrored = self.mirror and flip < 0.5 and mirror_class is not None
        crop = Crop(self.smallest + (1 - self.smallest) * large, x, y, mirrored)
        return View(at, crop, mirror_class if mirrored else item.class_index)


class Windows(Dataset):
    """Several windows of each clip, spread from its beginning to its end, for a test: item
    i * windows + j is window j of clip i, the middle square of it. One window is the middle one."""

    def __init__(self, dataset: SomethingSomething, windows: int = 1):
        if windows < 1:
            raise ValueError(f"windows={windows}: must be at least 1")
        self.dataset, self.windows = dataset, windows

    def __len__(self) -> int:
        return len(self.dataset) * self.windows

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        i, j = divmod(index, self.windows)
        at = 0.5 if self.windows == 1 else j / (self.windows - 1)
        return self.dataset.clip(i, at=at).frames, self.dataset.items[i].class_index
