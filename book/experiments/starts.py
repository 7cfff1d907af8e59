"""Is the article's recipe worth it? Ways to start a video network, side by side at equal budget.

Each start is trained on the same clips, as often, with the same schedule and three seeds, and its
accuracy on the same test clips is recorded. A run that was stopped goes on.
"""

import argparse
import os
import time
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch.utils.data import Subset
from tqdm import tqdm

from book.experiments.rows import DEVICE, add_run, begun, budget_arguments
from lib.data.arguments import one_line
from lib.miniature import CLASSES, Fresh
from lib.model import networks
from lib.model.networks import PROFILES, Profile
from lib.training import InMemory, Settings, remember, train


@dataclass(frozen=True)
class Start:
    """Where the weights come from, and which convolutions grow in time, how far."""

    name: str
    where: str
    init: str = "centre"
    kernel: int = 3
    imagenet: bool = True

    def profile(self, size: int) -> Profile:
        changed = dict(size=size, where=self.where, init=self.init, kernel=self.kernel)
        return replace(PROFILES["lite0"], **changed)


STARTS = (
    Start("from scratch", "late", imagenet=False),
    Start("ImageNet, average of 2D frames", "late", kernel=1),
    Start("ImageNet, inflated, mean start", "upper", "mean"),
    Start("ImageNet, inflated, centre start", "upper"),
    Start("ImageNet, centre start, in some places", "late"),
)


@lru_cache(maxsize=1)
def remembered(clips: int, tests: int, size: int, settings: Settings) -> tuple[InMemory, ...]:
    """Training and test clips of a seed, as the stages that are not trained see them: drawn once
    for all starts that share those stages."""
    network = networks.build(STARTS[0].profile(size), CLASSES).to(DEVICE)
    splits = ("train", clips, 500 + settings.seed), ("test", tests, 500)
    return tuple(
        remember(network, Subset(Fresh(split, count, seed, size), range(count)), settings)
        for split, count, seed in splits
    )


def train_one(start: Start, clips: int, tests: int, size: int, settings: Settings) -> dict:
    """Train one start with one seed; its accuracy on the test clips, and what it took.

    Without a GPU the stages below the inflated ones keep their ImageNet weights. A network from
    scratch has none to keep: all of it is trained.
    """
    settings = replace(settings, whole=DEVICE == "cuda" or not start.imagenet)
    training, test = remembered(clips, tests, size, settings)
    torch.manual_seed(settings.seed)
    network = networks.build(start.profile(size), CLASSES, imagenet=start.imagenet).to(DEVICE)
    begun = time.time()
    log = train(network, training, test, settings)
    return dict(
        start=start.name,
        seed=settings.seed,
        top1=log[-1]["val_top1"],
        train_top1=log[-1]["top1"],
        trained_parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        seconds=round(time.time() - begun),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m book.experiments.starts",
        description="Train from scratch, as a 2D network, and inflated in several ways, at equal "
        "budget; record the accuracies.",
    )
    add = parser.add_argument
    budget_arguments(add, 1200, 3, 400, 96, "book/results/starts.json")
    add("--seeds", type=int, default=3)
    add("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    with one_line(parser, OSError, ValueError):
        settings = Settings(epochs=args.epochs, workers=args.workers)
        record = begun(args, settings, "starts")
    done = {(row["start"], row["seed"]) for row in record["runs"]}
    jobs = [(start, seed) for seed in range(args.seeds) for start in STARTS]
    for start, seed in tqdm([job for job in jobs if (job[0].name, job[1]) not in done], unit="run"):
        one = replace(settings, seed=seed)
        add_run(args.record, record, train_one(start, args.clips, args.tests, args.size, one))


if __name__ == "__main__":
    main()
