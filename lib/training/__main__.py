"""The command: `python -m lib.training --help`."""

import argparse
import inspect
import json
import re
import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path

import torch

from lib.data.labels import CLASS_SETS, class_set
from lib.data.something import SomethingSomething
from lib.data.views import Views
from lib.files import write_text
from lib.model import networks
from lib.training import distributed
from lib.training.journal import CannotStart, read_checkpoint
from lib.training.loop import train
from lib.training.settings import RECIPES, Settings

#: Whether the weights are ImageNet's, and how kernels grow in time.
INITIAL = {"scratch": (False, "centre"), "mean": (True, "mean"), "centre": (True, "centre")}
ONLY_WITH_DATA = ("--classes", "--resplit", "--smallest", "--no-mirror")
ONLY_WITHOUT_DATA = ("--clips", "--finish")


def main() -> None:
    command = parser()
    args = command.parse_args()
    settings = chosen(command, args)
    with distributed.processes() as device:
        if args.whole is None and args.profile == "default":
            settings = replace(settings, whole=device.type == "cuda")
        try:
            run(args, settings, device)
        except CannotStart as error:  # whatever breaks later keeps its traceback
            command.exit(2, f"{error}\n")


def run(args: argparse.Namespace, settings: Settings, device: torch.device) -> None:
    """Train, and write the weights with a record of how they were made."""
    profile = networks.PROFILES[args.profile]
    imagenet, init = INITIAL[args.start or profile.init]
    profile = replace(profile, init=init)
    folder = args.folder or Path("runs") / args.profile
    ships = args.profile == "default" and args.data is None
    weights = args.weights or (networks.WEIGHTS if ships else folder / "weights.safetensors")
    torch.manual_seed(settings.seed)  # the new head is the same in every process
    try:
        for needed in (folder, weights.parent):
            needed.mkdir(parents=True, exist_ok=True)
        training, validation, last, classes, options = clips_for(args, profile.size, settings)
        network = networks.build(profile, classes, imagenet=imagenet).to(device)
    except (OSError, ValueError, RuntimeError) as error:
        raise CannotStart(error) from error
    epochs, finish = train(network, training, validation, settings, folder, options=options), []
    if last:  # with maps as fine as those that are explained: slow, so only for a few clips
        network = networks.at_stride(network, 16)
        once = replace(settings, epochs=1, lr=settings.lr / 4)
        finish = train(network, last, validation, once, folder / "finish", options=options)
    if distributed.rank() > 0:
        return
    networks.save(network, weights)
    record = dict(
        command=shlex.join(["python", "-m", "lib.training", *sys.argv[1:]]),
        data=str(args.data or "miniature Something-Something, drawn anew for every epoch"),
        clips_per_epoch=len(training),
        **read_checkpoint(folder / "last.pt")["made_with"],
        epochs=epochs,
        finish=finish,
    )
    if args.data is None:
        record["clips_drawn"] = settings.epochs * args.clips + args.finish
    write_text(weights.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    print(f"wrote {weights} and {weights.with_suffix('.json')}")


def clips_for(args: argparse.Namespace, size: int, settings: Settings) -> tuple:
    """Clips for training, validation and finishing, of a dataset or drawn; their classes; the
    options that neither clips nor network tell."""
    options = dict(start=args.start or networks.PROFILES[args.profile].init)
    if args.data is None:
        from lib.miniature.clip import CLASSES, Fresh
        from lib.miniature.dataset import VERSION

        training = Fresh("train", args.clips, 1000 + settings.seed, size)
        validation = Fresh("validation", 8 * len(CLASSES), 1000 + settings.seed, size)
        last = Fresh("train", args.finish, 2000 + settings.seed, size) if args.finish else None
        return training, validation, last, CLASSES, options | dict(drawing=VERSION)
    wanted = dict(classes=class_set(args.classes), size=size, resplit=args.resplit)
    splits = ("train", "validation")
    train, validation = (SomethingSomething(args.data, split, **wanted) for split in splits)
    views = Views(train, settings.seed, args.smallest, not args.no_mirror)
    return views, validation, None, validation.classes, options | dict(resplit=args.resplit)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib.training",
        description="Train on a dataset, or on newly drawn miniature clips, and write the weights. "
        "Stopped and started again, it goes on. Several GPUs: torchrun --nproc-per-node N -m ...",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--profile", choices=networks.PROFILES, default="default")
    add("--start", choices=INITIAL, help="random weights, or ImageNet's, inflated in that way")
    add("--data", type=Path, help="folder of Something-Something, either release, or a cache of it")
    add("--classes", choices=CLASS_SETS, default="40", help="with --data (%(default)s)")
    add("--resplit", type=int, metavar="SEED", help="with --data: a new random split, 8:1:1")
    add("--smallest", type=float, default=0.8, help="with --data: smallest crop (%(default)s)")
    add("--no-mirror", action="store_true", help="with --data: no horizontal flips")
    add("--clips", type=int, default=2000, help="without --data: of an epoch (%(default)s)")
    add("--finish", type=int, default=1000, help="without --data: last clips, with finer maps")
    add("--folder", type=Path, help="checkpoints and log (default: runs/PROFILE)")
    add("--weights", type=Path, help="file to write (default: the package's, or in FOLDER)")
    comments = dict(re.findall(r"(\w+): .*  # (.*)", inspect.getsource(Settings)))
    for field in fields(Settings):  # without a default here: the profile's recipe has them
        boolean = dict(action=argparse.BooleanOptionalAction)
        kind = boolean if field.type is bool else dict(type=field.type)
        add(f"--{field.name.replace('_', '-')}", help=comments.get(field.name), **kind)
    return parser


def chosen(command: argparse.ArgumentParser, args: argparse.Namespace) -> Settings:
    """The profile's settings with those given instead; what has no effect is refused."""
    given = {argument.split("=")[0] for argument in sys.argv[1:]}
    ignored, when = (ONLY_WITHOUT_DATA, "with") if args.data else (ONLY_WITH_DATA, "without")
    refusals = [(flag in given, f"{flag} has no effect {when} --data") for flag in ignored]
    refusals += [
        (args.reverse and args.frames == 1, "--reverse has no effect with --frames 1"),
        (not 0 < args.smallest <= 1, "--smallest must be more than 0, at most 1"),
        (args.clips < 1 or args.finish < 0, "--clips must be at least 1, --finish at least 0"),
        (args.weights and args.weights.suffix == ".json", "--weights FILE.json is the record"),
    ]
    for wrong, reason in refusals:
        if wrong:
            command.error(reason)
    settings = {field.name: getattr(args, field.name) for field in fields(Settings)}
    settings = {name: value for name, value in settings.items() if value is not None}
    try:
        return replace(RECIPES[args.profile], **settings)
    except ValueError as error:
        command.error(f"--{error}".replace("_", "-"))


if __name__ == "__main__":
    main()
