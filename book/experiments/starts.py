"""Is the article's recipe worth it? Ways to start a video network, side by side at equal budget.

`python -m lib.comparison` trains each start on the same clips, as often, with the same schedule and
three seeds, and records their accuracy on the same test clips. A run that was stopped goes on.
"""

import argparse
import json
import os
import shlex
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch.utils.data import Subset
from tqdm import tqdm

from lib.files import write_text
from lib.miniature import CLASSES, Fresh
from lib.model import networks
from lib.model.networks import PROFILES, Profile
from lib.training import batches
from lib.training import loop as training
from lib.training.batches import Features
from lib.training.settings import Settings

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RESULTS = Path("book/results/starts.json")


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
        return replace(PROFILES["default"], **changed)


STARTS = (
    Start("from scratch", "late", imagenet=False),
    Start("ImageNet, average of 2D frames", "late", kernel=1),
    Start("ImageNet, inflated, mean start", "upper", "mean"),
    Start("ImageNet, inflated, centre start", "upper"),
    Start("ImageNet, centre start, in some places", "late"),
)


@lru_cache(maxsize=1)
def seen(clips: int, tests: int, size: int, settings: Settings) -> tuple[list[Features], ...]:
    """Training and test clips of a seed, as the stages that are not trained see them: drawn once
    for all starts that share those stages."""
    network = networks.build(STARTS[0].profile(size), CLASSES).to(DEVICE)
    splits = ("train", clips, 500 + settings.seed), ("test", tests, 500)
    return tuple(
        batches.remember(network, Subset(Fresh(split, n, seed, size), range(n)), settings)
        for split, n, seed in splits
    )


def run(start: Start, clips: int, tests: int, size: int, settings: Settings) -> dict:
    """Train one start with one seed; its accuracy on the test clips, and what it took.

    Without a GPU the stages below the inflated ones keep their ImageNet weights. A network from
    scratch has none to keep: all of it is trained.
    """
    settings = replace(settings, whole=DEVICE == "cuda" or not start.imagenet)
    train, test = seen(clips, tests, size, settings)
    torch.manual_seed(settings.seed)
    network = networks.build(start.profile(size), CLASSES, imagenet=start.imagenet).to(DEVICE)
    begun = time.time()
    log = training.train(network, train, test, settings)
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
        prog="python -m lib.comparison",
        description="Train from scratch, as a 2D network, and inflated in several ways, at equal "
        "budget; record the accuracies.",
    )
    parser.add_argument("--clips", type=int, default=1200, help="training clips (%(default)s)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--tests", type=int, default=400, help="test clips (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=96, help="side of the frames (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--record", type=Path, default=RESULTS)
    args = parser.parse_args()

    settings = Settings(epochs=args.epochs, workers=args.workers)
    budget = dict(clips=args.clips, tests=args.tests, size=args.size, settings=asdict(settings))
    budget["settings"].pop("workers")
    record = json.loads(args.record.read_text()) if args.record.is_file() else {"budget": budget}
    if record["budget"] != budget:
        parser.exit(2, f"{args.record} holds another budget: remove it or name another file\n")
    record |= dict(
        command=shlex.join(["python", "-m", "lib.comparison", *sys.argv[1:]]),
        hardware=training.hardware(DEVICE),
        versions=training.versions(),
    )
    rows = record.setdefault("runs", [])
    done = {(row["start"], row["seed"]) for row in rows}
    jobs = [(start, seed) for seed in range(args.seeds) for start in STARTS]
    for start, seed in tqdm([job for job in jobs if (job[0].name, job[1]) not in done], unit="run"):
        rows.append(run(start, args.clips, args.tests, args.size, replace(settings, seed=seed)))
        tqdm.write(json.dumps(rows[-1]))
        args.record.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1) + "\n"
        write_text(args.record, text)


if __name__ == "__main__":
    main()
