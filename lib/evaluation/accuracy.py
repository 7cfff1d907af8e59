"""Is the network right, and does it use time? The lower stages run once for all frame orders."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lib.data.labels import REVERSED
from lib.model.hardware import device_of
from lib.model.networks import evaluation_mode, lower_and_upper

ORDERS = ("forward", "reversed", "shuffled", "still")


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """What a network said of N clips; right is a clip whose class has a logit above all others.
    ValueError for logits that are not finite, naming the clip, and for labels of no class."""

    logits: dict[str, np.ndarray]  # for each order of the frames, (N, K) float32
    labels: np.ndarray  # (N,) class indices
    classes: list[str]  # K names

    def __post_init__(self):
        if not np.isin(self.labels, range(len(self.classes))).all():
            raise ValueError(f"labels must be class indices from 0 to {len(self.classes) - 1}")
        for order, logits in self.logits.items():
            if len(wrong := np.flatnonzero(~np.isfinite(logits).all(1))):
                clip = f"clip {wrong[0]} ({order})"
                raise ValueError(f"logits of {clip} are not finite; check the network's weights")

    def rank(self, order: str = "forward", classes: np.ndarray | None = None) -> np.ndarray:
        """How many classes come before the true one, or before `classes` (N,): 0 is first. Others
        with an equal logit come before it."""
        logits, classes = self.logits[order], self.labels if classes is None else classes
        return (logits >= logits[np.arange(len(logits)), classes, None]).sum(1) - 1

    def accuracy(self, order: str = "forward", k: int = 1) -> float:
        """Share of the clips whose class is among the first k."""
        return float((self.rank(order) < k).mean())

    def interval(self, order: str = "forward") -> tuple[float, float]:
        """95% confidence interval of the top-1 accuracy (Wilson 1927)."""
        return wilson(self.accuracy(order), len(self.labels))

    def only(self, classes: Iterable[str]) -> "Results":
        """The same for the clips of some classes."""
        wanted = np.isin(self.labels, [self.classes.index(name) for name in classes])
        logits = {order: values[wanted] for order, values in self.logits.items()}
        return Results(logits, self.labels[wanted], self.classes)

    def confusion(self) -> np.ndarray:
        """Counts (K, K): rows are true classes, columns predicted ones; of equal ones, not the true
        one."""
        others, counts = self.logits["forward"].copy(), np.zeros((len(self.classes),) * 2, int)
        others[np.arange(len(others)), self.labels] = -np.inf
        predicted = np.where(self.rank() == 0, self.labels, others.argmax(1))
        np.add.at(counts, (self.labels, predicted), 1)
        return counts

    def called_opposite(self) -> float:
        """Of the clips named rightly whose class has an opposite: the share that is called the
        opposite when played backwards; NaN where there is no such clip."""
        index = {name: k for k, name in enumerate(self.classes)}
        opposite = np.array([index.get(REVERSED.get(self.classes[k]), -1) for k in self.labels])
        asked = (self.rank() == 0) & (opposite >= 0)
        called = self.rank("reversed", opposite) == 0
        return float(called[asked].mean()) if asked.any() else float("nan")

    def recall(self) -> dict[str, float]:
        """Of each class's clips, the share named rightly; classes without a clip are left out."""
        right, labels = self.rank() == 0, self.labels
        return {self.classes[k]: float(right[labels == k].mean()) for k in np.unique(labels)}

    def mistakes(self) -> list[tuple[str, str, int]]:
        """The ten most frequent mistakes, in order: (true class, predicted class, clips)."""
        counts = self.confusion()
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[: min(10, np.count_nonzero(counts))]
        pairs = zip(*np.unravel_index(order, counts.shape))
        return [(self.classes[i], self.classes[j], int(counts[i, j])) for i, j in pairs]

    def cases(self) -> dict[str, np.ndarray]:
        """Clip indices as the article groups its examples, here by rule: the true class comes
        first (positive), second (medium) or later (negative); the most confident first."""
        rank, order = self.rank(), np.argsort(-self.probabilities().max(1), kind="stable")
        groups = dict(positive=rank == 0, medium=rank == 1, negative=rank > 1)
        return {name: order[chosen[order]] for name, chosen in groups.items()}

    def probabilities(self, order: str = "forward") -> np.ndarray:
        """Softmax of the logits (N, K)."""
        return torch.from_numpy(self.logits[order]).softmax(1).numpy()

    def over(self, windows: int) -> "Results":
        """One prediction for every so many in a row: logits of their mean probabilities."""
        logits = {}
        for order, values in self.logits.items():
            each = torch.from_numpy(values).unflatten(0, (-1, windows)).log_softmax(2)
            logits[order] = (each.logsumexp(1) - np.log(windows)).numpy()
        return self if windows == 1 else Results(logits, self.labels[::windows], self.classes)


def evaluate(
    network: nn.Module, clips: Dataset, orders: Iterable[str] = ORDERS, workers: int = 2
) -> Results:
    """Logits of every clip in the given orders of its frames; the network is left as it was.

    `clips` gives (frames (T, S, S, 3) uint8, class index). An order is one of `ORDERS`, or "frame
    3", that frame alone. Shuffles are drawn from a fixed seed. ValueError for no clips, for clips
    of other classes than the network's, and as in `Results`.
    """
    if not len(clips):
        raise ValueError("there are no clips to evaluate")
    dataset = getattr(clips, "dataset", clips)
    refuse_other_classes(network, getattr(dataset, "classes", network.classes))
    rng, device = torch.Generator().manual_seed(0), device_of(network)
    parts, labels = {order: [] for order in orders}, []
    with evaluation_mode(network, exact=False), torch.inference_mode():
        lower, upper = lower_and_upper(network)
        for frames, y in tqdm(DataLoader(clips, 8, num_workers=workers), "batches", leave=False):
            x = lower(network.preprocess(frames, device))  # (N, C, T, h, w)
            for order in parts:
                parts[order].append(upper(reorder(x, order, rng)).float().cpu().numpy())
            labels += y.tolist()
            if not all(np.isfinite(found[-1]).all() for found in parts.values()):
                break  # `Results` names the clip
    logits = {order: np.concatenate(found) for order, found in parts.items()}
    return Results(logits, np.array(labels), network.classes)


def reorder(x: Tensor, order: str, rng: torch.Generator) -> Tensor:
    """The frames of x (N, C, T, h, w) forward, reversed, shuffled, the middle one repeated for
    "still", or one alone."""
    t = x.shape[2]
    if order == "reversed":
        return x.flip(2)
    if order == "still":
        return x[:, :, t // 2 : t // 2 + 1].expand_as(x)
    if order == "shuffled":
        picks = torch.stack([torch.randperm(t, generator=rng) for _ in x])
        return torch.stack([clip[:, pick.to(x.device)] for clip, pick in zip(x, picks)])
    return x if order == "forward" else x[:, :, [int(order.removeprefix("frame "))]]


def wilson(share: float, n: int) -> tuple[float, float]:
    """95% confidence interval of a share of n (Wilson 1927), which need not be a whole number."""
    z = 1.959963984540054
    ratio = z / (2 * n)
    middle, spread = share + z * ratio, z * sqrt(share * (1 - share) / n + ratio**2)
    low, high = ((middle + side * spread) / (1 + z * z / n) for side in (-1, 1))
    return max(0.0, low), min(1.0, high)


def refuse_other_classes(network: nn.Module, classes: list[str]) -> None:
    """ValueError where clips have other classes than the network."""
    if list(classes) != list(network.classes):
        counts = f"{len(network.classes)} other classes than the {len(classes)} asked for"
        raise ValueError(f"the network was trained on {counts}, or in another order")
