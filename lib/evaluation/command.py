"""What the commands of this room share: which clips, which weights, where the figures go."""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from torch import nn
from torch.utils.data import Dataset

from lib.data.arguments import STOPPED, named, one_line
from lib.data.labels import CLASS_SETS, class_set
from lib.data.something import SPLITS, SomethingSomething
from lib.evaluation.accuracy import refuse_other_classes
from lib.files import write_text
from lib.model import WEIGHTS, load
from lib.model.hardware import to_gpu


def make_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the arguments of all of them."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    add = parser.add_argument
    add("--data", type=named, help="folder of Something-Something, or of a cache")
    add("--split", choices=SPLITS, default="test", help="with --data (%(default)s)")
    add("--classes", choices=CLASS_SETS, default="40", help="with --data (%(default)s)")
    add("--resplit", type=int, metavar="SEED", help="with --data: as in training")
    add("--weights", type=named, default=WEIGHTS, help="file of weights (the package's)")
    add("--record", type=named, help="JSON file to add the figures to")
    return parser


def begin(
    parser: argparse.ArgumentParser, args: argparse.Namespace, drawn: int, seed: int
) -> tuple[nn.Module, Dataset]:
    """The network, on a GPU where there is one, and the clips: those of --data, or `drawn` new ones
    from this seed. Before anything long is begun, a wrong record, weights, clips, or clips of other
    classes than the network's end the command in a line."""
    with one_line(parser, OSError, ValueError, stopped=STOPPED):
        read_record(args.record)
        network = load(args.weights)
        size = network.preprocess.size
        if args.data is None:
            from lib.miniature import CLASSES, Fresh

            clips, classes = Fresh(args.split, drawn, seed, size), CLASSES
        else:
            wanted = dict(classes=class_set(args.classes), size=size, resplit=args.resplit)
            clips = SomethingSomething(args.data, args.split, **wanted)
            classes = clips.classes
        refuse_other_classes(network, classes)
    return to_gpu(network), clips


def made_with(parser: argparse.ArgumentParser, args: argparse.Namespace, *names: str) -> dict:
    """What figures depend on: these arguments, the clips, the weights; and the command."""
    chosen = {name: getattr(args, name) for name in names}
    chosen |= dict(data=str(args.data or "drawn miniature clips"), weights=args.weights.name)
    return chosen | dict(command=shlex.join([*parser.prog.split(), *sys.argv[1:]]))


def read_record(path: Path | None) -> dict:
    """The figures in a file, none where there is no file yet. To be asked before a long run: an
    OSError or ValueError, naming the file, says why its figures could not be added."""
    if path and not os.access(path.parent, os.W_OK):
        raise OSError(f"{path}: there is no such folder, or it cannot be written; make it")
    try:
        if path and path.exists() and not path.is_file():
            raise ValueError("a folder, pipe or device")
        found = json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else {}
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}, not names with figures")
        return found
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not figures in JSON ({error}); name another file") from error


def add_to_record(path: Path | None, figures: dict) -> None:
    """Print figures, and put them in a file beside what it holds under other names."""
    print(json.dumps(figures, indent=1))
    if path:
        write_text(path, json.dumps(read_record(path) | figures, indent=1) + "\n")
