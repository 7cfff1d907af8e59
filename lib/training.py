"""Train an inflated network: `python -m lib.training --help`.

Only what sees more than one frame at a time is trained when there is no GPU: the lower stages keep
their ImageNet weights, see each frame once, and their output is what the upper stages learn from.
On a GPU the whole network is trained in bfloat16, by the same loop.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lib import networks
from lib.labels import REVERSED


@dataclass(frozen=True)
class Settings:
    """What a run depends on, besides its clips."""

    epochs: int = 5
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    whole: bool = False  # train every stage, not only the upper ones
    reverse: bool = True  # a clip played backwards is one more example, of the opposite class
    frames: int = 16  # 1: the single-frame baseline
    workers: int = 2
    seed: int = 0


STILLS = 4  # frames of a clip that the single-frame baseline learns from, each by itself
Features = tuple[Tensor, Tensor]  # (N, C, T, h, w) float16, labels (N,)


class Fresh(Dataset):
    """Miniature clips drawn in memory, never the same twice: `clips` of them for each epoch.

    Items are (frames (16, size, size, 3) uint8, class index). `scenery`: as in `miniature.draw`.
    """

    def __init__(
        self,
        split: str,
        clips: int,
        seed: int = 0,
        size: int = 128,
        first: int = 0,
        scenery: str | None = None,
    ):
        self.split, self.clips, self.seed, self.size, self.first = split, clips, seed, size, first
        self.scenery = scenery

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        from lib import miniature

        times = np.arange(16) / 4
        drawn = miniature.draw(
            self.split, self.first + i, self.seed, times, self.size, scenery=self.scenery
        )
        return drawn.frames, drawn.class_index

    def epoch(self, number: int) -> "Fresh":
        """The next clips in the endless row."""
        return Fresh(
            self.split, self.clips, self.seed, self.size, number * self.clips, self.scenery
        )


def loader(dataset: Dataset, settings: Settings) -> DataLoader:
    """Batches of (frames (N, T, S, S, 3) uint8, labels (N,)), read by worker processes."""
    return DataLoader(dataset, settings.batch, num_workers=settings.workers)


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


@torch.no_grad()
def features(
    lower: nn.Module, network: nn.Module, batches: DataLoader, desc: str
) -> Iterator[Features]:
    """What the lower stages make of each batch, (N, C, T, h, w) float16, with its labels."""
    device = device_of(network)
    for frames, labels in tqdm(batches, desc=desc, leave=False, unit="batch"):
        x = network.preprocess(frames.numpy()).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=networks.fast_bfloat16(device)):
            x = lower(x)
        yield x.half(), labels.to(device)


def halves(network: nn.Module, settings: Settings) -> tuple[nn.Module, nn.Module]:
    """What stays as it is, and what is trained."""
    return (nn.Identity(), network) if settings.whole else networks.stages(network.eval())


def remember(network: nn.Module, dataset: Dataset, settings: Settings) -> list[Features]:
    """A dataset as the stages that are not trained see it, kept in memory, batch by batch."""
    lower, _ = halves(network, settings)
    return list(features(lower, network, loader(dataset, settings), "clips, once"))


def opposite(classes: list[str]) -> Tensor:
    """For each class, the index of what it shows when played backwards, or -1."""
    pairs = [REVERSED.get(name) for name in classes]
    return torch.tensor([classes.index(name) if name in classes else -1 for name in pairs])


def examples(
    x: Tensor, y: Tensor, settings: Settings, backwards: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What one step learns from: some clips of the batch reversed, or single frames."""
    if settings.frames == 1:
        y = y.repeat(STILLS)
        pick = torch.randint(x.shape[2], (len(y),), generator=rng)
        clip = torch.arange(len(x)).repeat(STILLS)
        return x[clip, :, pick].unsqueeze(2), y  # (STILLS * N, C, 1, h, w)
    if settings.reverse:
        turned = (torch.rand(len(x), generator=rng) < 0.5).to(x.device) & (backwards[y] >= 0)
        x = torch.where(turned.view(-1, 1, 1, 1, 1), x.flip(2), x)
        y = torch.where(turned, backwards[y], y)
    return x, y


def step(
    upper: nn.Module, x: Tensor, y: Tensor, optimizer, scheduler, settings: Settings
) -> tuple[float, float]:
    """One update; its loss and its top-1."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
        logits = upper(x.float().contiguous(memory_format=torch.channels_last_3d))
        loss = F.cross_entropy(logits.float(), y, label_smoothing=settings.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(upper.parameters(), 5.0)
    optimizer.step()
    scheduler.step()
    return loss.item(), (logits.argmax(1) == y).float().mean().item()


def train(
    network: nn.Module,
    training: Dataset | list[Features],
    validation: Dataset | list[Features],
    settings: Settings = Settings(),
    folder: Path | str | None = None,
) -> list[dict]:
    """Train in place; returns one record per epoch: epoch, loss, top1, val_top1, seconds.

    A dataset with a method `epoch(number)` is asked for new clips every epoch; any other is passed
    through `remember` first, unless that was done before. With a `folder`, `last.pt` is written
    there after every epoch, whole or not at all, and a run that was stopped goes on from it.
    """
    device = device_of(network)
    lower, upper = halves(network, settings)
    for p in lower.parameters():
        p.requires_grad_(False)
    endless = hasattr(training, "epoch")
    if not endless and not isinstance(training, list):
        training = remember(network, training, settings)
    held = validation if isinstance(validation, list) else remember(network, validation, settings)
    rng = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    clips = len(training) if endless else sum(len(y) for _, y in training)
    steps = settings.epochs * -(-clips // settings.batch)
    optimizer = torch.optim.AdamW(
        upper.parameters(), settings.lr, weight_decay=settings.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, steps, pct_start=0.2)
    backwards = opposite(network.classes).to(device)
    log: list[dict] = []
    checkpoint = Path(folder) / "last.pt" if folder else None
    state = dict(upper=upper, optimizer=optimizer, scheduler=scheduler)
    if checkpoint and checkpoint.is_file():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["settings"] != asdict(settings):
            raise ValueError(
                f"{checkpoint} was made with other settings: remove it or resume those"
            )
        for name, part in state.items():
            part.load_state_dict(saved[name])
        rng.set_state(saved["rng"].cpu())
        torch.set_rng_state(saved["torch_rng"].cpu())
        log = saved["log"]

    for epoch in range(len(log), settings.epochs):
        start, losses, hits = time.time(), [], []
        upper.train()
        desc = f"epoch {epoch + 1}/{settings.epochs}"
        if endless:
            drawn = loader(training.epoch(epoch), settings)
            stream = features(lower, network, drawn, desc)
        else:
            stream = reshuffled(training, settings.batch, rng, desc)
        for x, y in stream:
            batch = examples(x, y, settings, backwards, rng)
            loss, hit = step(upper, *batch, optimizer, scheduler, settings)
            losses.append(loss)
            hits.append(hit)
        record = dict(
            epoch=epoch + 1,
            loss=round(float(np.mean(losses)), 4),
            top1=round(float(np.mean(hits)), 4),
            val_top1=round(top1(upper, held), 4),
            seconds=round(time.time() - start, 1),
        )
        log.append(record)
        if checkpoint:
            saved = {name: part.state_dict() for name, part in state.items()}
            saved |= dict(rng=rng.get_state(), torch_rng=torch.get_rng_state(), log=log)
            write(saved | dict(settings=asdict(settings)), checkpoint)
            tqdm.write(json.dumps(record))
    network.eval()
    return log


def reshuffled(
    kept: list[Features], size: int, rng: torch.Generator, desc: str
) -> Iterator[Features]:
    """The kept features in a new order, in batches."""
    x, y = (torch.cat(part) for part in zip(*kept))
    order = torch.randperm(len(x), generator=rng)
    for picked in tqdm(order.split(size), desc=desc, leave=False, unit="batch"):
        if len(picked) > 1:  # batch norm needs two
            yield x[picked.to(x.device)], y[picked.to(y.device)]


@torch.no_grad()
def top1(upper: nn.Module, held: list[Features]) -> float:
    """Share of the kept clips whose highest logit is their label's."""
    upper.eval()
    hits = [(upper(x.float()).argmax(1) == y).float() for x, y in held]
    return torch.cat(hits).mean().item()


def write(state: dict, path: Path) -> None:
    """Save a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def main() -> None:
    from lib.miniature import CLASSES

    parser = argparse.ArgumentParser(
        prog="python -m lib.training",
        description="Train on freshly drawn miniature clips and write the weights of the package.",
    )
    parser.add_argument("--profile", choices=networks.PROFILES, default="default")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--clips", type=int, default=2000, help="clips drawn for each epoch")
    parser.add_argument(
        "--finish", type=int, default=1000, help="last clips, at finer maps (%(default)s)"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--frames", type=int, choices=(1, 16), default=16, help="1: the baseline")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, help="checkpoints and log (default: runs/PROFILE)")
    parser.add_argument("--weights", type=Path, default=networks.WEIGHTS, help="file to write")
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = networks.build(args.profile, CLASSES).to(device)
    size = network.preprocess.size
    settings = Settings(
        epochs=args.epochs,
        batch=args.batch,
        lr=args.lr,
        frames=args.frames,
        whole=device == "cuda",
        workers=args.workers,
        seed=args.seed,
    )
    folder = args.folder or Path("runs") / args.profile
    validation = Fresh("validation", 8 * len(CLASSES), 1000 + args.seed, size)
    log = train(
        network, Fresh("train", args.clips, 1000 + args.seed, size), validation, settings, folder
    )
    finish = []
    if args.finish:  # at the resolution of `networks.load`: dear, so only a little of it
        network = networks.at_stride(network, 16)
        last = replace(settings, epochs=1, lr=args.lr / 4)
        fresh = Fresh("train", args.finish, 2000 + args.seed, size)
        finish = train(network, fresh, validation, last, folder / "finish")
    networks.save(network, args.weights)
    record = dict(
        command=shlex.join(["python", "-m", "lib.training", *sys.argv[1:]]),
        settings=asdict(settings),
        clips_per_epoch=args.clips,
        clips_drawn=args.epochs * args.clips + args.finish,
        data="miniature Something-Something, drawn afresh for every epoch",
        hardware=hardware(device),
        versions=versions(),
        epochs=log,
        finish=finish,
    )
    path = args.weights.with_suffix(".json")
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {args.weights} and {path}")


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")}


def hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores, no GPU"


if __name__ == "__main__":
    main()
