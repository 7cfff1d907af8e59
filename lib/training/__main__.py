"""Train on a dataset, or on newly drawn miniature clips, and write the weights. Stopped and started
again, it goes on. Several GPUs: torchrun --nproc-per-node N -m lib.training."""

import argparse
import inspect
import json
import re
import shlex
import sys
from dataclasses import asdict, fields, replace
from math import ceil
from pathlib import Path

import torch

from lib.data.arguments import named, one_line, whole
from lib.data.labels import CLASS_SETS, class_set
from lib.data.something import SomethingSomething
from lib.data.video import VideoError
from lib.data.views import Views
from lib.files import digest, remove_unfinished, write_text
from lib.model import hardware, networks
from lib.training import distributed
from lib.training.journal import CannotStart, Diverged
from lib.training.loop import train
from lib.training.settings import RECIPES, Settings


def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    settings = choose_settings(parser, args)
    with one_line(parser, CannotStart, Diverged, VideoError, OSError):
        run(args, settings)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.training", description=__doc__)
    add = parser.add_argument
    add("--profile", choices=networks.PROFILES, default="default")
    add("--start", choices=("scratch", "mean", "centre"), help="without or with ImageNet's weights")
    add("--data", type=named, help="folder of Something-Something, or of a cache of it")
    add("--classes", choices=CLASS_SETS, default="40", help="with --data (%(default)s)")
    add("--resplit", type=int, metavar="SEED", help="with --data: a new random split, 8:1:1")
    add("--clips", type=whole(1), default=2000, help="without --data: of an epoch (%(default)s)")
    add("--folder", type=named, help="checkpoints and log (default: runs/PROFILE)")
    add("--weights", type=named, help="file to write (default: in FOLDER)")
    comments = dict(re.findall(r"(\w+): .*  # (.*)", inspect.getsource(Settings)))
    for field in fields(Settings):  # without a default here: the profile's recipe has them
        boolean = dict(action=argparse.BooleanOptionalAction)
        kind = boolean if field.type is bool else dict(type=field.type)
        does = comments[field.name]
        defaults = (f"{name} {getattr(recipe, field.name)}" for name, recipe in RECIPES.items())
        told = f"{does[0].upper()}{does[1:]} ({', '.join(defaults)})."
        add(f"--{field.name.replace('_', '-')}", help=told, **kind)
    return parser


def choose_settings(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Settings:
    """The profile's settings with those given instead; what has no effect is refused."""
    for name in ("clips",) if args.data else ("classes", "resplit"):
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} has no effect {'with' if args.data else 'without'} --data")
    if args.reverse and args.frames == 1:
        parser.error("--reverse has no effect with --frames 1")
    if args.weights and (args.weights.suffix != ".safetensors" or args.weights.stem == "best"):
        parser.error("--weights NAME.safetensors is needed, not best; the record is NAME.json")
    values = {field.name: getattr(args, field.name) for field in fields(Settings)}
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return replace(RECIPES[args.profile], **given)
    except ValueError as error:
        parser.error(f"--{error}".replace("_", "-"))


def run(args: argparse.Namespace, settings: Settings) -> None:
    """Train, and write the weights with a record of how they were made."""
    device, profile = distributed.join(), networks.PROFILES[args.profile]
    start = args.start or profile.init
    profile = replace(profile, init="centre" if start == "scratch" else start)
    folder = args.folder or Path("runs") / args.profile
    weights = args.weights or folder / "weights.safetensors"
    torch.manual_seed(settings.seed)  # the new head is the same in every process
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(weights)
        if weights.is_dir():
            raise IsADirectoryError(f"{weights} is a folder: name a file")
        training, validation, classes, drawing = clips_for(args, profile.size, settings)
        network = networks.build(profile, classes, imagenet=start != "scratch").to(device)
    except (OSError, ValueError, RuntimeError) as error:
        raise CannotStart(error) from error
    options = dict(start=start, resplit=args.resplit, drawing=drawing)
    epochs = train(network, training, validation, settings, folder, options=options)
    if distributed.rank() > 0:
        return
    networks.save(network, weights)
    record = dict(
        command=shlex.join(["python", "-m", "lib.training", *sys.argv[1:]]),
        data=str(args.data or "miniature Something-Something, newly drawn clips"),
        clips_per_epoch=len(training),
        settings=asdict(settings),
        processes=distributed.world(),
        hardware=hardware.hardware(device.type),
        versions=hardware.versions(),
        epochs=epochs,
        sha256=digest(weights),
    )
    if args.data is None:
        record["clips_drawn"] = ceil(settings.epochs / settings.passes) * args.clips
    write_text(weights.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    print(f"wrote {weights} and {weights.with_suffix('.json')}")


def clips_for(args: argparse.Namespace, size: int, settings: Settings) -> tuple:
    """The clips for training and for validation, the names of their classes, and by which version
    they are drawn, None for those of --data. ValueError for a video that is in both."""
    if args.data is None:
        from lib.miniature.clip import CLASSES, Fresh
        from lib.miniature.dataset import VERSION

        training = Fresh("train", args.clips, 1000 + settings.seed, size)
        validation = Fresh("validation", 8 * len(CLASSES), 1000 + settings.seed, size)
        return training, validation, CLASSES, VERSION
    wanted = dict(classes=class_set(args.classes), size=size, resplit=args.resplit)
    splits = ("train", "validation")
    train, validation = (SomethingSomething(args.data, split, **wanted) for split in splits)
    if both := {item.id for item in train.items} & {item.id for item in validation.items}:
        raise ValueError(f"{args.data}: video {min(both)} is in train and in validation")
    return Views(train, settings.seed), validation, validation.classes, None


if __name__ == "__main__":
    main()
