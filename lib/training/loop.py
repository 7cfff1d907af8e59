"""The training loop: `train`, and below it what it calls, in that order.

The default trains only what sees more than one frame at a time, on the output of the lower stages,
which keep their ImageNet weights. With `whole` all of the network is trained, by the same loop.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from math import ceil, isfinite
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset
from tqdm import tqdm

from lib.files import alone
from lib.model import hardware, networks
from lib.training import batches, distributed
from lib.training.batches import Features, examples, parts, remember, seeded
from lib.training.journal import CannotStart, Diverged, Journal, facts
from lib.training.settings import Settings

BLOCKS = "Bottleneck", "BasicBlock", "InvertedResidual", "DepthwiseSeparableConv"  # residual ones
SMALLER = "the last checkpoint is from before; start anew with a smaller lr"


def train(
    network: nn.Module,
    training: Dataset,
    validation: Dataset,
    settings: Settings,
    folder: Path | str | None = None,
    *,
    checkpoint_every: int = 100,
    on_update: Callable[[int, int], object] | None = None,
    options: dict | None = None,
) -> list[dict]:
    """Train in place; returns one record per epoch: epoch, loss, top1, val_top1, seconds.

    A dataset with a method `epoch(number)` is asked for new clips every `settings.passes` epochs.
    Where only the upper stages are trained, clips are passed through `remember` first, unless they
    are seen once. In the `folder` a run that was stopped goes on, if network, clips, settings and
    `options` (what else its result depends on) are the same. A checkpoint and a line of the log are
    written every `checkpoint_every` updates; `on_update(update, epoch)`, both from 1, follows each.

    Raises Diverged for a loss or weights that are not finite, before they are written; CannotStart
    for the checkpoint of another run, an odd batch, or no clips; OSError where another is running.
    """
    with alone(Path(folder)) if folder and distributed.rank() == 0 else nullcontext():
        given = network, training, validation, settings, folder
        return _train(*given, checkpoint_every, on_update, options)


def _train(
    network, training, validation, settings, folder, checkpoint_every, on_update, options
) -> list[dict]:
    rank, world, device = distributed.rank(), distributed.world(), hardware.device_of(network)
    if settings.batch % (at_once := world * settings.accumulate):
        divisor = f"a multiple of {at_once}, the number of processes times accumulate"
        raise CannotStart(f"batch={settings.batch}: must be {divisor}")
    if not (len(training) and len(validation)):
        raise CannotStart(f"{len(training)} clips for training, {len(validation)} for validation")
    about = dict(classes=network.classes, profile=str(network.profile))
    about["weights"] = list(network.state_dict().items())
    identity = (options or {}) | settings.of_the_result() | facts("network", about)
    identity |= facts("training", training) | facts("validation", validation)

    frozen, trained = batches.halves(network, settings)
    hardware.channels_last(frozen).requires_grad_(False)
    model = prepare(trained, settings)
    length = ceil(len(training) / settings.batch)  # updates of an epoch
    optimizer, scheduler = optimize(model, settings, settings.epochs * length)
    state = dict(trained=trained, optimizer=optimizer, scheduler=scheduler)
    journal = Journal(folder, identity, state)
    epochs, done, seen = journal.resume()  # whole ones, updates of the next, sums over its clips
    if epochs == settings.epochs and rank == 0:
        tqdm.write(f"{folder}: all {epochs} epochs are done, nothing is left to do")
    renewed = hasattr(training, "epoch")
    kept = not settings.whole and (settings.passes > 1 or not renewed)
    if epochs < settings.epochs and not settings.whole:
        validation = remember(network, validation, settings)

    opposites, shown = batches.opposite(network.classes).to(device), None
    for epoch in range(epochs, settings.epochs):
        if shown is None or renewed and epoch % settings.passes == 0:
            shown = training.epoch(epoch // settings.passes) if renewed else training
            shown = remember(network, shown, settings) if kept else shown
        plan = batches.updates(len(training), settings, epoch)[done:]
        mine = [[clips[i] for i in part] for clips in plan for part in parts(len(clips), settings)]
        stream = batches.stream(network, frozen, shown, mine, settings.workers)
        training_mode(trained, settings)
        begun, sums = time.time(), torch.zeros(3, device=device, dtype=torch.float64)
        name = f"epoch {epoch + 1}/{settings.epochs}"
        bar = tqdm(plan, name, length, initial=done, leave=False, disable=rank > 0)
        for number, clips in enumerate(bar, start=done + 1):
            seed = settings.seed, epoch, number  # all random numbers of an update follow from it
            torch.manual_seed(seeded(*seed, rank).initial_seed())  # for dropout
            batch = [
                examples(*next(stream), settings, opposites, seeded(*seed), part, len(clips))
                for part in parts(len(clips), settings)
            ]
            sums += step(model, batch, optimizer, scheduler, settings)
            if number % checkpoint_every == 0 or number == length:
                loss, right, count = distributed.summed(sums).tolist()
                numbers = trained.state_dict().values()  # in a buffer, too
                if not (isfinite(loss) and all(x.isfinite().all() for x in numbers)):
                    update = f"update {number} of epoch {epoch + 1}"
                    raise Diverged(f"loss or weights are not finite at {update}: {SMALLER}")
                seen = [a + b for a, b in zip(seen, (loss, right, count, time.time() - begun))]
                begun, sums = time.time(), torch.zeros_like(sums)
                bar.set_postfix(loss=f"{loss / count:.2f}", top1=f"{right / count:.0%}")
                if number < length:
                    line = dict(update=epoch * length + number, loss=round(loss / count, 4))
                    line |= dict(lr=scheduler.get_last_lr()[0], seconds=round(seen[3], 1))
                    journal.write(line, epoch, number, seen)
            if on_update:
                on_update(epoch * length + number, epoch + 1)

        loss, right, count, seconds = seen
        mine = batches.in_order(len(validation), settings)[rank::world]
        stream = batches.stream(network, frozen, validation, mine, settings.workers)
        accuracy = round(top1(trained, stream, settings), 4)
        line = dict(epoch=epoch + 1, update=(epoch + 1) * length, loss=round(loss / count, 4))
        line |= dict(top1=round(right / count, 4), val_top1=accuracy)
        line |= dict(seconds=round(seconds + time.time() - begun, 1))
        if journal.writes:
            if all(accuracy > earlier["val_top1"] for earlier in journal.epochs()):
                networks.save(network, journal.folder / "best.safetensors")
            tqdm.write(json.dumps(line))
        done, seen = 0, [0.0] * 4
        journal.write(line, epoch + 1, done, seen)
    network.eval()
    return journal.epochs()


def prepare(network: nn.Module, settings: Settings) -> nn.Module:
    """The network in the form that training calls: laid out, compiled, shared, as settings say."""
    if settings.channels_last:
        hardware.channels_last(network)
    if settings.recompute:
        for block in (m for m in network.modules() if type(m).__name__ in BLOCKS):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    if settings.compile:
        network.compile()
    return distributed.shared(network)


def optimize(network: nn.Module, settings: Settings, steps: int) -> tuple:
    """The optimizer and its schedule: warm-up, then a cosine to nothing."""
    sgd = partial(torch.optim.SGD, momentum=0.9, nesterov=True)
    make = {"adamw": torch.optim.AdamW, "sgd": sgd}[settings.optimizer]
    optimizer = make(network.parameters(), settings.lr, weight_decay=settings.weight_decay)
    warmup = settings.warmup + 1e-6 * (settings.warmup * steps == 1)  # PyTorch divides by 0 there
    warmup = min(float(warmup), 1 - 1e-6)  # and where nothing is left to fall in
    cycle = dict(pct_start=warmup, cycle_momentum=settings.optimizer == "adamw")
    return optimizer, OneCycleLR(optimizer, settings.lr, steps, **cycle)


def training_mode(network: nn.Module, settings: Settings) -> None:
    network.train()
    for module in network.modules():
        if settings.frozen_norms and isinstance(module, _BatchNorm):
            module.eval()


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


def forward(network: nn.Module, x: Tensor, settings: Settings) -> Tensor:
    """Logits (N, K) float32."""
    layout = torch.channels_last_3d if settings.channels_last else torch.contiguous_format
    half = settings.bfloat16 and hardware.trains_fast_in_bfloat16(network)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        return network(x.float().contiguous(memory_format=layout)).float()


@torch.no_grad()
def top1(network: nn.Module, validation: Iterator[Features], settings: Settings) -> float:
    """Share of the clips whose highest logit is their label's, over all processes."""
    network.eval()
    counts = torch.zeros(2, dtype=torch.float64, device=hardware.device_of(network))
    for x, y in validation:
        right = (forward(network, x, settings).argmax(1) == y).sum()
        counts += torch.stack([right, right.new_tensor(len(y))])
    right, seen = distributed.summed(counts).tolist()
    return right / seen
