"""What decides where the heat lies? Designs of the network's upper part, side by side.

Each stands above the same frozen stages of EfficientNet-Lite0, is trained on the same drawn clips
as often, with one seed, and its class activation maps are marked on the same test clips. A run that
was stopped goes on with the next design.
"""

import argparse
import time
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset
from tqdm import tqdm

from book.experiments.rows import DEVICE, add_run, begun, budget_arguments, mean
from lib import miniature
from lib.data.arguments import one_line
from lib.data.labels import REVERSED
from lib.evaluation import evaluate
from lib.evaluation.marks import marks
from lib.explain import explain, on_pixels
from lib.miniature import CLASSES, Drawn, Fresh
from lib.model import networks
from lib.model.framewise import SeeMotion
from lib.model.inflate import macs
from lib.training import RECIPES, InMemory, Settings, remember, train

SEED = 500  # of the clips
MARKS = ("pointing", "mass", "rank", "time")


@dataclass(frozen=True)
class Design:
    """How the upper part is built, above `lib.model.networks.motion_lite0`'s frozen stages."""

    name: str
    kernels: tuple[int, ...] = (3, 3, 3, 3)  # of its blocks, in cells; in time always 3 frames
    power: float = SeeMotion.power  # of the movement of a place, in its weight
    width: int = 192
    earlier: bool = True  # whether features of an earlier stage lie beside those of the last


DESIGNS = (
    Design("as it ships"),
    Design("less weight on movement", power=1.25),
    Design("places weighed alike", power=0),
    Design("features of one stage", earlier=False),
    Design("every second kernel 1 cell wide", kernels=(3, 1, 3, 1)),
    Design("every kernel 1 cell wide", kernels=(1, 1, 1, 1)),
    Design("wider", width=256),
)


def build(design: Design, size: int) -> nn.Module:
    """The network of a design."""
    profile = replace(networks.PROFILES["default"], size=size)
    how = dict(kernels=design.kernels, width=design.width, earlier=design.earlier)
    network = networks.build(profile, CLASSES, **how)
    network.blocks[4].power = design.power
    return network


def try_one(
    design: Design, clips: InMemory, tests: InMemory, drawn: list[Drawn], settings: Settings
) -> dict:
    """Train one design; its accuracy and the marks of its maps on the test clips, in both forms."""
    size = drawn[0].frames.shape[1]
    torch.manual_seed(settings.seed)
    network, begin, found = build(design, size).to(DEVICE), time.time(), []
    log = train(network, clips, tests, settings)
    seconds = round(time.time() - begin)
    results = evaluate(network, tests.dataset, ("forward", "reversed"), workers=0)
    for clip in tqdm(drawn, "marks", leave=False):
        explanation = explain(network, clip, clip.label)
        heat = on_pixels(explanation.maps[0], explanation.cells, (size, size))
        found.append(marks(heat, clip.truth))
    row = dict(design=asdict(design), train_top1=log[-1]["top1"], top1=results.accuracy())
    row |= dict(called_opposite=results.only(REVERSED).called_opposite(), seconds=seconds)
    row |= {name: mean(m[name] for m in found if name in m) for name in MARKS}
    return row | dict(gmac=round(macs(network, 1, 3, 16, size, size) / 1e9, 2))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m book.experiments.designs",
        description="Train designs of the network's upper part at equal budget, and mark where "
        "their heat lies.",
    )
    add = parser.add_argument
    budget_arguments(add, 3600, 4, 200, 192, "book/results/designs.json")
    add("--designs", nargs="+", metavar="NAME", help="some of them (all)")
    args = parser.parse_args()
    settings = replace(RECIPES["default"], epochs=args.epochs, passes=1)
    wanted = [d for d in DESIGNS if not args.designs or d.name in args.designs]
    with one_line(parser, OSError, ValueError):
        if len(wanted) < len(args.designs or wanted):
            raise ValueError(f"--designs: choose from {', '.join(repr(d.name) for d in DESIGNS)}")
        record = begun(args, settings, "designs")
    done = [row["design"]["name"] for row in record["runs"]]
    network = build(DESIGNS[0], args.size).to(DEVICE)
    same = Subset(Fresh("train", args.clips, SEED, args.size), range(args.clips))  # in every epoch
    times = np.arange(16) / 4
    drawn = [miniature.draw("test", i, SEED, times, args.size) for i in range(args.tests)]
    tests = [(clip.frames, CLASSES.index(clip.label)) for clip in drawn]
    clips, tests = (remember(network, some, settings) for some in (same, tests))
    for design in (d for d in wanted if d.name not in done):
        seen = [clips, tests]
        if not design.earlier:  # the features of the last stage come first
            seen = [replace(each, features=each.features[:, :112]) for each in seen]
        add_run(args.record, record, try_one(design, *seen, drawn, settings))


if __name__ == "__main__":
    main()
