"""What does a new clip cost that shows new objects, or new backgrounds, or both?"""

import argparse

from torch import nn

from book.experiments.rows import DEVICE, made_by
from lib.data.arguments import named, one_line
from lib.evaluation import add_to_record, evaluate, read_record
from lib.miniature import CLASSES, Fresh
from lib.model import networks

#: What is new: the split of the objects and hands, and that of the backgrounds.
SPLITS_OF = {
    "nothing": ("train", "train"),
    "objects": ("test", "train"),
    "backgrounds": ("train", "test"),
    "both": ("test", "test"),
}


def novelty(network: nn.Module, clips: int, seed: int) -> dict[str, dict[str, str | int | float]]:
    """Accuracy on drawn clips by what in them is new: objects and hands, backgrounds, both, or
    neither (then only the clip itself is new)."""
    figures = {}
    for new, (split, scenery) in SPLITS_OF.items():
        drawn = Fresh(split, clips, seed, network.preprocess.size, scenery=scenery)
        results = evaluate(network, drawn, ("forward",))
        low, high = results.interval()
        shares = dict(top1=results.accuracy(), top1_low=low, top1_high=high)
        rounded = {name: round(share, 3) for name, share in shares.items()}
        figures[new] = dict(clips=clips, seed=seed, objects=split, backgrounds=scenery) | rounded
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m book.experiments.novelty",
        description="Accuracy on newly drawn clips, by what is new in them.",
    )
    add = parser.add_argument
    add("--weights", type=named, default=networks.WEIGHTS, help="file of weights (the package's)")
    add("--clips", type=int, default=200, help="of each kind (%(default)s)")
    add("--seed", type=int, default=7, help="another seed draws other clips (%(default)s)")
    add("--record", type=named, help="JSON file to add the figures to, under `novelty`")
    args = parser.parse_args()
    with one_line(parser, OSError, ValueError):
        read_record(args.record)
        network = networks.load(args.weights).to(DEVICE)
        if network.classes != CLASSES:
            raise ValueError(f"{args.weights}: trained on other classes than the drawn ones")
    figures = novelty(network, args.clips, args.seed)
    figures["command"] = made_by("novelty")["command"]
    add_to_record(args.record, dict(novelty=figures))


if __name__ == "__main__":
    main()
