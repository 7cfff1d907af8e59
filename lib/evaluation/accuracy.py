"""Does it work, and does it use time? `python -m lib.evaluation --help`.

A clip is shown to the network forwards, backwards, with its frames shuffled, and as one frame held
still. Only the upper stages see more than a frame, so the lower ones run once for all four.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, top_k_accuracy_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lib.data.labels import CLASS_SETS, REVERSED, class_set
from lib.data.something import SPLITS, SomethingSomething
from lib.data.views import Windows
from lib.miniature import Fresh
from lib.model import networks
from lib.model.networks import device_of

ORDERS = ("forward", "reversed", "shuffled", "still")


@dataclass(frozen=True)
class Results:
    """Logits (N, K) float32 for each order of the frames; labels (N,)."""

    logits: dict[str, np.ndarray]
    labels: np.ndarray
    classes: list[str]

    def accuracy(self, order: str = "forward", k: int = 1) -> float:
        """Top-k accuracy."""
        every = np.arange(len(self.classes))
        return float(top_k_accuracy_score(self.labels, self.logits[order], k=k, labels=every))

    def interval(self, order: str = "forward") -> tuple[float, float]:
        """95% confidence interval of the top-1 accuracy (Wilson 1927)."""
        hits = int((self.logits[order].argmax(1) == self.labels).sum())
        ci = binomtest(hits, len(self.labels)).proportion_ci(method="wilson")
        return float(ci.low), float(ci.high)

    def only(self, classes: Iterable[str]) -> "Results":
        """The same for the clips of some classes."""
        wanted = np.isin(self.labels, [self.classes.index(name) for name in classes])
        logits = {order: values[wanted] for order, values in self.logits.items()}
        return Results(logits, self.labels[wanted], self.classes)

    def confusion(self) -> np.ndarray:
        """Counts (K, K): rows are true classes, columns the most probable ones."""
        every = np.arange(len(self.classes))
        return confusion_matrix(self.labels, self.logits["forward"].argmax(1), labels=every)

    def called_opposite(self) -> float:
        """Of the clips named rightly whose class has a reversal: the share that is called the
        reversal when played backwards; NaN where there is no such clip."""
        twins = [REVERSED.get(name) for name in self.classes]
        twin = np.array([self.classes.index(t) if t in self.classes else -1 for t in twins])
        right = self.logits["forward"].argmax(1) == self.labels
        asked = right & (twin[self.labels] >= 0)
        called = self.logits["reversed"].argmax(1) == twin[self.labels]
        return float(called[asked].mean()) if asked.any() else float("nan")

    def recall(self) -> dict[str, float]:
        """Of each class's clips, the share named rightly; classes without a clip are left out."""
        counts = self.confusion()
        return {
            name: float(row[k] / row.sum())
            for k, (name, row) in enumerate(zip(self.classes, counts))
            if row.sum()
        }

    def mistakes(self, most: int = 10) -> list[tuple[str, str, int]]:
        """The commonest mistakes: (true class, predicted class, clips), the commonest first."""
        counts = self.confusion()
        np.fill_diagonal(counts, 0)
        places = np.argsort(-counts, axis=None, kind="stable")[:most]
        pairs = [np.unravel_index(place, counts.shape) for place in places]
        return [
            (self.classes[i], self.classes[j], int(counts[i, j])) for i, j in pairs if counts[i, j]
        ]

    def cases(self) -> dict[str, np.ndarray]:
        """Clip indices as the article groups its examples, here by rule: the true class comes
        first (positive), second (medium) or later (negative); the surest first."""
        rank, surest = self.rank(), np.argsort(-self.probabilities().max(1), kind="stable")
        groups = dict(positive=rank == 0, medium=rank == 1, negative=rank > 1)
        return {name: surest[chosen[surest]] for name, chosen in groups.items()}

    def probabilities(self) -> np.ndarray:
        """Softmax of the forward logits (N, K)."""
        return torch.from_numpy(self.logits["forward"]).softmax(1).numpy()

    def rank(self) -> np.ndarray:
        """Place of the true class among the predictions (N,): 0 is first."""
        logits = self.logits["forward"]
        return (logits > logits[np.arange(len(logits)), self.labels, None]).sum(1)

    def over(self, windows: int) -> "Results":
        """One prediction for every so many in a row: logits of their mean probabilities."""
        if windows == 1:
            return self
        clips, k = len(self.labels) // windows, len(self.classes)
        logits = {
            order: torch.from_numpy(values).softmax(1).view(clips, windows, k).mean(1).log().numpy()
            for order, values in self.logits.items()
        }
        return Results(logits, self.labels[::windows], self.classes)

    def __repr__(self) -> str:
        return f"Results({len(self.labels)} clips, {len(self.classes)} classes)"


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    clips: Dataset,
    orders: tuple[str, ...] = ORDERS,
    batch: int = 8,
    workers: int = 2,
) -> Results:
    """Logits of every clip in the given orders of its frames.

    `clips` gives (frames (T, S, S, 3) uint8, class index). Shuffles are drawn from a fixed seed.
    """
    lower, upper = networks.stages(network.eval())
    device, rng = device_of(network), torch.Generator().manual_seed(0)
    logits: dict[str, list[Tensor]] = {order: [] for order in orders}
    labels = []
    loader = DataLoader(clips, batch, num_workers=workers)
    for frames, y in tqdm(loader, desc="clips", leave=False, unit="batch"):
        x = lower(network.preprocess(frames, device))  # (N, C, T, h, w)
        for order in orders:
            logits[order].append(upper(reorder(x, order, rng)).float().cpu())
        labels.append(y)
    stacked = {order: torch.cat(parts).numpy() for order, parts in logits.items()}
    return Results(stacked, torch.cat(labels).numpy(), network.classes)


def reorder(x: Tensor, order: str, rng: torch.Generator) -> Tensor:
    """The frames of x (N, C, T, h, w) forward, reversed, shuffled, or the middle one held still."""
    t = x.shape[2]
    if order == "reversed":
        return x.flip(2)
    if order == "shuffled":
        picks = torch.stack([torch.randperm(t, generator=rng) for _ in x])
        return torch.stack([clip[:, pick.to(x.device)] for clip, pick in zip(x, picks)])
    if order == "still":
        return x[:, :, t // 2 : t // 2 + 1].expand_as(x)
    return x


@torch.inference_mode()
def frame_by_frame(network: nn.Module, clips: Dataset, batch: int = 8, workers: int = 2) -> dict:
    """The accuracy of a single-frame network: at each frame, and of the mean of its predictions."""
    lower, upper = networks.stages(network.eval())
    device, hits = device_of(network), []
    for frames, y in tqdm(DataLoader(clips, batch, num_workers=workers), leave=False, unit="batch"):
        x = lower(network.preprocess(frames, device))
        n, t = x.shape[0], x.shape[2]
        alone = x.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # (N*T, C, 1, h, w)
        p = upper(alone).softmax(1).view(n, t, -1).cpu()
        every = torch.cat([p, p.mean(1, keepdim=True)], dim=1)  # (N, T + 1, K)
        hits.append(every.argmax(2) == y[:, None])
    share = torch.cat(hits).float().mean(0)
    return dict(best_frame=float(share[:-1].max()), mean_of_frames=float(share[-1]))


def report(results: Results) -> dict:
    """The figures of a run, rounded to a thousandth."""
    low, high = results.interval()
    figures = dict(
        clips=len(results.labels),
        chance=1 / len(results.classes),
        top1=results.accuracy(),
        top1_low=low,
        top1_high=high,
        top5=results.accuracy(k=5),
        called_opposite_when_reversed=results.called_opposite(),
        shuffled=results.accuracy("shuffled"),
        still=results.accuracy("still"),
    )
    rounded = {name: round(x, 3) for name, x in figures.items() if not np.isnan(x)}
    recall = {name: round(share, 3) for name, share in results.recall().items()}
    return rounded | dict(recall=recall, mistakes=results.mistakes())


def novelty(network: nn.Module, clips: int, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy on drawn clips by what in them is new: objects and hands, backgrounds, both, or
    neither (then only the clip itself is new)."""
    lots = {
        "nothing": ("train", "train"),
        "objects": ("test", "train"),
        "backgrounds": ("train", "test"),
        "both": ("test", "test"),
    }
    figures = {}
    for new, (split, scenery) in lots.items():
        drawn = Fresh(split, clips, seed, network.preprocess.size, scenery=scenery)
        results = evaluate(network, drawn, ("forward",))
        low, high = results.interval()
        accuracies = dict(clips=clips, top1=results.accuracy(), top1_low=low, top1_high=high)
        figures[new] = {name: round(value, 3) for name, value in accuracies.items()}
    return figures


def on_dataset(network: nn.Module, args: argparse.Namespace) -> dict:
    """The figures on a split of a dataset.

    Raises ValueError where the network was trained on other classes.
    """
    data = SomethingSomething(
        args.data,
        args.split,
        class_set(args.classes),
        size=network.preprocess.size,
        resplit=args.resplit,
    )
    if data.classes != network.classes:
        raise ValueError(
            f"{args.weights}: trained on {len(network.classes)} other classes than the "
            f"{len(data.classes)} asked for; choose another set with --classes"
        )
    results = evaluate(network, Windows(data, args.windows), workers=args.workers)
    return report(results.over(args.windows)) | dict(windows=args.windows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.evaluation",
        description="Accuracy of a trained network on a dataset, or on freshly drawn miniature "
        "test clips, whose objects, hands and backgrounds it has never seen.",
    )
    parser.add_argument("--data", type=Path, help="folder of Something-Something, or of a cache")
    parser.add_argument("--split", choices=SPLITS, default="test", help="with --data")
    parser.add_argument("--classes", choices=CLASS_SETS, default="40", help="with --data")
    parser.add_argument("--resplit", type=int, metavar="SEED", help="with --data: as in training")
    parser.add_argument(
        "--windows", type=int, default=1, help="with --data: of each clip, averaged (%(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--weights", type=Path, default=networks.WEIGHTS)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--seed", type=int, default=7, help="another seed draws other clips")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--single", action="store_true", help="a network trained on single frames")
    only.add_argument("--novelty", action="store_true", help="apart by what is new in the clips")
    parser.add_argument("--output-stride", type=int, default=16, choices=(16, 32))
    parser.add_argument("--record", type=Path, help="JSON file to put the figures in")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = networks.load(args.weights, args.output_stride).to(device)
    clips = Fresh("test", args.clips, args.seed, network.preprocess.size)
    if args.data:
        try:
            part, figures = args.split, on_dataset(network, args)
        except (OSError, ValueError) as error:
            parser.exit(2, f"{error}\n")
    elif args.single:
        part = "single_frame"
        figures = {name: round(x, 3) for name, x in frame_by_frame(network, clips).items()}
    elif args.novelty:
        part, figures = "novelty", novelty(network, args.clips, args.seed)
    else:
        part, figures = "test", report(evaluate(network, clips))
    figures["command"] = shlex.join(["python", "-m", "lib.evaluation", *sys.argv[1:]])
    print(json.dumps(figures, indent=1))
    if args.record:
        record = json.loads(args.record.read_text()) if args.record.is_file() else {}
        record[part] = figures
        args.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
