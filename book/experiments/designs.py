"""What decides where the heat lies? Designs of the network's upper part, side by side.

Each stands above the same frozen stages of EfficientNet-Lite0, is trained on the same drawn clips
as often, with one seed, and its class activation maps are marked on the same test clips. A run that
was stopped goes on with the next design.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset
from torchvision.models.resnet import Bottleneck
from tqdm import tqdm

from book.experiments.rows import DEVICE, begun, mean, refusing
from lib import miniature
from lib.data.labels import REVERSED
from lib.evaluation import Results
from lib.evaluation.marks import marks
from lib.explain import explain, on_pixels
from lib.files import write_text
from lib.miniature import CLASSES, Fresh
from lib.model.framewise import Attend, Changes
from lib.model.inflate import inflate, macs
from lib.model.networks import PROFILES, Preprocess, efficientnet_lite0
from lib.training import InMemory, Settings, remember, train

CHANNELS = {3: 40, 4: 80, 5: 112}  # after so many stages
MARKS = ("pointing", "mass", "rank", "time")


@dataclass(frozen=True)
class Design:
    """How the upper part is built."""

    name: str
    stages: int = 5  # below it, frozen
    kernels: tuple[int, ...] = (3, 1, 3, 1)  # of its blocks, in cells; in time always 3 frames
    attention: bool = True
    changes: bool = True  # put beside the features
    width: int = 256
    begin: float = 0.25  # what a block adds to its input is multiplied by this at the start


DESIGNS = (
    Design("attention and changes"),
    Design("without attention", attention=False),
    Design("without changes", changes=False),
    Design("every kernel 3 cells wide", kernels=(3, 3, 3, 3)),
    Design("one kernel 3 cells wide", kernels=(3, 1, 1, 1)),
    Design("every kernel 1 cell wide", kernels=(1, 1, 1, 1)),
    Design("four frozen stages", stages=4),
    Design("narrower", width=192),
    Design("blocks begin at 0", begin=0.0),
    Design("blocks begin at 1", begin=1.0),
)


def build(design: Design, size: int) -> nn.Module:
    """The network of a design, as `lib.model.build` makes that of a profile."""
    network, width, stages = efficientnet_lite0(), design.width, design.stages
    into = CHANNELS[stages] * (1 + design.changes)
    layers = [nn.Conv2d(into, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for kernel in design.kernels:
        layers.append(Bottleneck(width, width // 4))
        nn.init.constant_(layers[-1].bn3.weight, design.begin)
        shape = width // 4, width // 4, kernel
        layers[-1].conv2 = nn.Conv2d(*shape, padding=kernel // 2, bias=False)
    upper = nn.Sequential(*[Changes()] * design.changes, *layers)
    network.blocks = nn.Sequential(*network.blocks[:stages], upper)
    network.conv_head = nn.Identity()
    network.bn2 = Attend(width) if design.attention else nn.Identity()
    network.classifier = nn.Linear(width, len(CLASSES))
    nn.init.normal_(network.classifier.weight, std=0.01)

    def new(name: str, conv: nn.Conv2d) -> bool:
        return name.startswith(f"blocks.{stages}.") and name.endswith("conv2")

    network = inflate(network, 3, "random", new, "replicate")
    network.classes, network.profile, network.output_stride = CLASSES, PROFILES["attention"], 16
    network.preprocess = Preprocess(size, (0.5,) * 3, (0.5,) * 3)
    return network


def try_one(design: Design, clips: InMemory, tests: InMemory, size: int, settings: Settings):
    """Train one design; its accuracy and the marks of its maps on the test clips."""
    torch.manual_seed(settings.seed)
    network = build(design, size).to(DEVICE)
    begun, log = time.time(), train(network, clips, tests, settings)
    seconds, found, logits = round(time.time() - begun), [], {"forward": [], "reversed": []}
    for i in tqdm(range(len(tests)), "marks", leave=False):
        drawn = miniature.draw("test", i, 500, np.arange(16) / 4, size)
        explanation = explain(network, drawn, drawn.label)
        heat = on_pixels(explanation.maps[0], explanation.cells, (size, size))
        found.append(marks(heat, drawn.truth))
        logits["forward"].append(explanation.logits)
        logits["reversed"].append(explain(network, drawn.frames[::-1].copy(), 0).logits)
    results = Results({k: np.stack(v) for k, v in logits.items()}, tests.labels.numpy(), CLASSES)
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
    add("--clips", type=int, default=3600, help="training clips (%(default)s)")
    add("--epochs", type=int, default=4)
    add("--tests", type=int, default=200, help="test clips (%(default)s)")
    add("--size", type=int, default=192, help="side of the frames (%(default)s)")
    add("--designs", nargs="+", metavar="NAME", help="some of them (all)")
    add("--record", type=Path, default=Path("book/results/designs.json"), help="(%(default)s)")
    args = parser.parse_args()
    settings = Settings(epochs=args.epochs, lr=2e-3, weight_decay=0.05)
    wanted = [d for d in DESIGNS if not args.designs or d.name in args.designs]
    budget = dict(clips=args.clips, tests=args.tests, size=args.size, settings=asdict(settings))
    with refusing(parser, OSError, ValueError):
        if len(wanted) < len(args.designs or wanted):
            raise ValueError(f"--designs: choose from {', '.join(repr(d.name) for d in DESIGNS)}")
        record = begun(args.record, "designs", json.loads(json.dumps(budget)))
    done = [row["design"]["name"] for row in record["runs"]]
    kept: dict[int, tuple[InMemory, ...]] = {}  # of the last number of stages
    for design in sorted((d for d in wanted if d.name not in done), key=lambda d: -d.stages):
        if design.stages not in kept:
            kept.clear()
            network = build(design, args.size).to(DEVICE)
            kept[design.stages] = tuple(
                remember(network, Subset(Fresh(split, n, 500, args.size), range(n)), settings)
                for split, n in (("train", args.clips), ("test", args.tests))
            )
        record["runs"].append(try_one(design, *kept[design.stages], args.size, settings))
        tqdm.write(json.dumps(record["runs"][-1]))
        write_text(args.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
