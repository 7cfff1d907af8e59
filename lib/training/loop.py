"""Train an inflated network: `python -m lib.training --help`.

Only what sees more than one frame at a time is trained when there is no GPU: the lower stages keep
their ImageNet weights, see each frame once, and their output is what the upper stages learn from.
On a GPU the whole network is trained in bfloat16, by the same loop, on one or several.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset
from tqdm import tqdm

from lib.data.labels import CLASS_SETS, class_set
from lib.data.something import SomethingSomething
from lib.data.views import Views
from lib.files import write_text
from lib.model import networks
from lib.model.networks import device_of
from lib.training import batches, distributed
from lib.training.batches import Features
from lib.training.journal import Journal
from lib.training.settings import RECIPES, STARTS, Settings, comparable

EVERY = 100  # updates from one checkpoint, and one line of the log, to the next


def forward(network: nn.Module, x: Tensor, settings: Settings) -> Tensor:
    """Logits (N, K) float32."""
    layout = torch.channels_last_3d if settings.channels_last else torch.contiguous_format
    half = settings.bfloat16 and networks.trains_fast_in_bfloat16(network)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        return network(x.float().contiguous(memory_format=layout)).float()


def step(
    network: nn.Module, batch: list[Features], optimizer, scheduler, settings: Settings
) -> Tensor:
    """One update from the parts of a batch; (sum of losses, right, clips) of this process."""
    totals = torch.zeros(3, device=batch[0][0].device, dtype=torch.float64)
    optimizer.zero_grad(set_to_none=True)
    for i, (x, y) in enumerate(batch, start=1):
        with distributed.unshared(network, wait=i < len(batch)):
            logits = forward(network, x, settings)
            loss = F.cross_entropy(logits, y, label_smoothing=settings.label_smoothing)
            (loss / len(batch)).backward()
        right = (logits.argmax(1) == y).sum()
        totals += torch.stack([loss.detach() * len(y), right, right.new_tensor(len(y))])
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    scheduler.step()
    return totals


def training_mode(network: nn.Module, settings: Settings) -> None:
    network.train()
    for module in network.modules():
        if settings.frozen_norms and isinstance(module, _BatchNorm):
            module.eval()


def prepare(network: nn.Module, settings: Settings) -> nn.Module:
    """The network in the form that training calls: laid out, compiled, shared, as settings say."""
    if settings.channels_last:
        networks.channels_last(network)
    if settings.recompute:
        for block in networks.blocks(network):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    if settings.compile:
        network.compile()
    return distributed.shared(network)


def optimize(network: nn.Module, settings: Settings, steps: int) -> tuple:
    """The optimizer and its schedule: warm-up, then a cosine to nothing."""
    kinds = {
        "adamw": torch.optim.AdamW,
        "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    }
    if settings.optimizer not in kinds:
        raise ValueError(f"optimizer={settings.optimizer!r}: choose 'adamw' or 'sgd'")
    make = kinds[settings.optimizer]
    optimizer = make(network.parameters(), settings.lr, weight_decay=settings.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.lr,
        steps,
        pct_start=settings.warmup,
        cycle_momentum=settings.optimizer == "adamw",
    )
    return optimizer, scheduler


def train(
    network: nn.Module,
    training: Dataset | list[Features],
    validation: Dataset | list[Features],
    settings: Settings,
    folder: Path | str | None = None,
) -> list[dict]:
    """Train in place; returns one record per epoch: epoch, loss, top1, val_top1, seconds.

    A dataset with a method `epoch(number)` is asked for that epoch's clips; where only the upper
    stages are trained, any other is passed through `remember` first, unless that was done before.
    With a `folder` a `Journal` is kept there, and a run that was stopped goes on from it.
    """
    run = Run(network, training, validation, settings, folder)
    while run.progress.epoch < settings.epochs:
        run.one_epoch()
        run.end_epoch()
    run.journal.close()
    network.eval()
    return run.journal.epochs()


@dataclass(frozen=True)
class Progress:
    """How far a run is: what the next update follows from, and what its epoch has seen so far."""

    epoch: int = 0
    update: int = 0
    loss: float = 0.0  # sums over the epoch's clips
    right: float = 0.0
    clips: float = 0.0
    seconds: float = 0.0


class Run:
    """A training under way. Every process has one; the first writes and shows."""

    def __init__(self, network, training, validation, settings: Settings, folder):
        at_once = distributed.world() * settings.accumulate
        if settings.batch % at_once:
            raise ValueError(f"batch={settings.batch}: must be a multiple of {at_once}, the number "
                             "of processes times accumulate")  # fmt: skip
        self.network, self.settings, self.folder = network, settings, folder
        self.device, self.first = device_of(network), distributed.rank() == 0
        self.lower, self.upper = batches.halves(network, settings)
        for p in self.lower.parameters():
            p.requires_grad_(False)
        if not isinstance(training, list) and not hasattr(training, "epoch") and not settings.whole:
            training = batches.remember(network, training, settings)
        if isinstance(training, list):
            training = tuple(torch.cat(kept) for kept in zip(*training))
        self.training = training
        self.clips = len(training[1] if isinstance(training, tuple) else training)
        self.held = batches.shared_out(network, self.lower, validation, settings)
        self.backwards = batches.opposite(network.classes).to(self.device)
        self.called = prepare(self.upper, settings)
        self.length = len(batches.updates(self.clips, settings, 0))  # of an epoch
        steps = settings.epochs * self.length
        self.optimizer, self.scheduler = optimize(self.called, settings, steps)
        self.journal = Journal(folder, comparable(settings))
        self.progress = self.resumed()

    def state(self) -> dict:
        return dict(upper=self.upper, optimizer=self.optimizer, scheduler=self.scheduler)

    def resumed(self) -> Progress:
        saved = self.journal.resume(self.device)
        if saved is None:
            return Progress()
        for name, part in self.state().items():
            part.load_state_dict(saved[name])
        return Progress(**saved["progress"])

    def checkpoint(self) -> None:
        parts = {name: part.state_dict() for name, part in self.state().items()}
        self.journal.checkpoint(parts | dict(progress=asdict(self.progress)))

    def one_epoch(self) -> None:
        """All updates of an epoch that are still to be done."""
        epoch, done = self.progress.epoch, self.progress.update
        plan = batches.updates(self.clips, self.settings, epoch)
        todo = plan[done:]
        stream = batches.read(self.training, self.lower, self.network, self.settings, epoch, todo)
        bar = tqdm(
            total=sum(map(len, plan)), initial=sum(map(len, plan[:done])), unit="clip",
            desc=f"epoch {epoch + 1}/{self.settings.epochs}", leave=False, disable=not self.first,
        )  # fmt: skip
        training_mode(self.upper, self.settings)
        window, begun = torch.zeros(3, device=self.device, dtype=torch.float64), time.time()
        for number, chunk in enumerate(todo, start=done + 1):
            window += self.update(stream, number, len(chunk))
            bar.update(len(chunk))
            if number % EVERY == 0 or number == len(plan):
                loss, right, seen = distributed.summed(window).tolist()
                bar.set_postfix(loss=f"{loss / seen:.2f}", top1=f"{right / seen:.0%}")
                self.seen(number, loss, right, seen, time.time() - begun)
                window, begun = torch.zeros_like(window), time.time()
        bar.close()

    def update(self, stream: Iterator[Features], number: int, clips: int) -> Tensor:
        """One step, with the chance that belongs to it."""
        chance = (self.settings.seed, self.progress.epoch, number)
        torch.manual_seed(batches.seeded(*chance, distributed.rank()).initial_seed())  # for dropout
        batch = [
            batches.examples(
                *next(stream), self.settings, self.backwards, batches.seeded(*chance), places, clips
            )
            for places in batches.parts(clips, self.settings)
        ]
        return step(self.called, batch, self.optimizer, self.scheduler, self.settings)

    def seen(self, number: int, loss: float, right: float, clips: float, seconds: float) -> None:
        """Count what some updates saw; within an epoch, note it and write a checkpoint."""
        before = self.progress
        self.progress = Progress(
            before.epoch, number, before.loss + loss, before.right + right, before.clips + clips,
            before.seconds + seconds,
        )  # fmt: skip
        if self.first and number < self.length:
            self.journal.note(
                dict(
                    update=before.epoch * self.length + number,
                    loss=round(loss / clips, 4),
                    lr=self.scheduler.get_last_lr()[0],
                    clips_per_second=round(clips / seconds, 2),
                )
            )
            self.checkpoint()

    def end_epoch(self) -> None:
        """Validation, the epoch's line of the log, its weights if they are the best so far."""
        seen, begun = self.progress, time.time()
        accuracy = top1(self.upper, self.held(), self.settings)
        record = dict(
            epoch=seen.epoch + 1,
            update=(seen.epoch + 1) * self.length,
            loss=round(seen.loss / seen.clips, 4),
            top1=round(seen.right / seen.clips, 4),
            val_top1=round(accuracy, 4),
            seconds=round(seen.seconds + time.time() - begun, 1),
        )
        self.progress = Progress(epoch=seen.epoch + 1)
        best = max((line["val_top1"] for line in self.journal.epochs()), default=-1.0)
        if not self.first:
            self.journal.lines.append(record)
            return
        if self.folder and record["val_top1"] > best:
            networks.save(self.network, Path(self.folder) / "best.safetensors")
        self.journal.note(record)
        self.checkpoint()
        if self.folder:
            tqdm.write(json.dumps(record))


@torch.no_grad()
def top1(upper: nn.Module, held: Iterable[Features], settings: Settings) -> float:
    """Share of the clips whose highest logit is their label's, over all processes."""
    upper.eval()
    counts = torch.zeros(2, dtype=torch.float64, device=device_of(upper))
    for x, y in held:
        right = (forward(upper, x, settings).argmax(1) == y).sum()
        counts += torch.stack([right, right.new_tensor(len(y))])
    right, seen = distributed.summed(counts).tolist()
    return right / seen


def clips_for(
    args: argparse.Namespace, size: int, settings: Settings
) -> tuple[Dataset, Dataset, list[str]]:
    """Training and validation clips, of a dataset or drawn, and their classes."""
    if args.data is None:
        from lib.miniature import CLASSES, Fresh

        validation = Fresh("validation", 8 * len(CLASSES), 1000 + args.seed, size)
        return Fresh("train", args.clips, 1000 + args.seed, size), validation, CLASSES
    wanted = dict(classes=class_set(args.classes), size=size, resplit=args.resplit)
    train, validation = (
        SomethingSomething(args.data, split, frames=16, **wanted)
        for split in ("train", "validation")
    )
    views = Views(train, settings.seed, args.smallest, not args.no_mirror)
    return views, validation, validation.classes


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib.training",
        description="Train on a dataset, or on freshly drawn miniature clips, and write the "
        "weights. Stopped and started again it goes on. Several GPUs: torchrun --nproc-per-node N "
        "-m lib.training ...",
    )
    add = parser.add_argument
    add("--profile", choices=networks.PROFILES, default="default")
    add("--start", choices=STARTS, help="scratch, or ImageNet's weights inflated by mean or centre")
    add("--data", type=Path, help="folder of Something-Something, either release, or a cache of it")
    add("--classes", choices=CLASS_SETS, default="40")
    add("--resplit", type=int, metavar="SEED", help="deal the videos out anew, 8:1:1")
    add("--smallest", type=float, default=0.8, help="crop, as a share of the frame (%(default)s)")
    add("--no-mirror", action="store_true", help="no horizontal flips")
    add("--clips", type=int, default=2000, help="without --data: drawn for each epoch")
    add("--finish", type=int, default=1000, help="without --data: last clips, at finer maps")
    add("--folder", type=Path, help="checkpoints and log (default: runs/PROFILE)")
    add("--weights", type=Path, help="file to write (default: the package's, or in FOLDER)")
    about = {
        "batch": "clips of one update, over all processes",
        "accumulate": "parts in which they go through the network",
        "frames": "16, or 1: the single-frame baseline",
    }
    for field in fields(Settings):  # without a default here: the profile's recipe has them
        flag = f"--{field.name.replace('_', '-')}"
        if field.type is bool:
            add(flag, action=argparse.BooleanOptionalAction)
        else:
            add(flag, type=field.type, help=about.get(field.name))
    return parser


def main() -> None:
    command = parser()
    args = command.parse_args()
    given = {f.name: getattr(args, f.name) for f in fields(Settings)}
    settings = replace(RECIPES[args.profile], **{k: v for k, v in given.items() if v is not None})
    args.seed = settings.seed
    with distributed.processes() as device:
        if args.whole is None and args.profile == "default":
            settings = replace(settings, whole=device.type == "cuda")
        try:
            run(args, settings, device)
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "put that file" not in str(error):
                raise
            command.exit(2, f"{error}\n")


def run(args: argparse.Namespace, settings: Settings, device: torch.device) -> None:
    profile = networks.PROFILES[args.profile]
    imagenet = True
    if args.start:
        imagenet, init = STARTS[args.start]
        profile = replace(profile, init=init)
    train_clips, validation, classes = clips_for(args, profile.size, settings)
    torch.manual_seed(settings.seed)  # the new head is the same in every process
    with distributed.alone_first():
        network = networks.build(profile, classes, imagenet=imagenet)
    network.to(device)
    folder = args.folder or Path("runs") / args.profile
    log = train(network, train_clips, validation, settings, folder)
    finish = []
    if args.finish and args.data is None:  # at the resolution of `networks.load`: dear, so little
        from lib.miniature import Fresh

        network = networks.at_stride(network, 16)
        last = replace(settings, epochs=1, lr=settings.lr / 4)
        fresh = Fresh("train", args.finish, 2000 + settings.seed, profile.size)
        finish = train(network, fresh, validation, last, folder / "finish")
    if distributed.rank() > 0:
        return
    ships = args.profile == "default" and args.data is None
    weights = args.weights or (networks.WEIGHTS if ships else folder / "weights.safetensors")
    networks.save(network, weights)
    record = dict(
        command=shlex.join(["python", "-m", "lib.training", *sys.argv[1:]]),
        settings=asdict(settings),
        clips_per_epoch=len(train_clips),
        data=str(args.data or "miniature Something-Something, drawn afresh for every epoch"),
        processes=distributed.world(),
        hardware=hardware(device.type),
        versions=versions(),
        epochs=log,
        finish=finish,
    )
    if args.data is None:
        record["clips_drawn"] = settings.epochs * args.clips + args.finish
    path = weights.with_suffix(".json")
    write_text(path, json.dumps(record, indent=1) + "\n")
    print(f"wrote {weights} and {path}")


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")}


def hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores, no GPU"


if __name__ == "__main__":
    main()
