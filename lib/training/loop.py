"""The training loop: `train`, and below it what it calls, in that order.

Only what sees more than one frame at a time is trained when there is no GPU: the lower stages keep
their ImageNet weights, see each frame once, and their output is what the upper stages learn from.
On a GPU the whole network is trained in bfloat16, by the same loop, on one or several.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset
from tqdm import tqdm

from lib.model import hardware, networks
from lib.training import batches, distributed
from lib.training.batches import Features, FromDisk, InMemory, examples, parts, seeded
from lib.training.journal import CannotStart, Journal, facts
from lib.training.settings import Settings


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

    A dataset with a method `epoch(number)` is asked for that epoch's clips. Where only the upper
    stages are trained, any other is passed through `remember` first. In the `folder` a run that was
    stopped goes on, if network, clips, settings and `options` (what else its result depends on) are
    the same. It writes a checkpoint and a line of its log every `checkpoint_every` updates, and
    calls `on_update(update, epoch)` after each, both counted from 1 over the whole run.

    Raises CannotStart for the checkpoint of another run, a batch that cannot be divided, no clips.
    """
    device, world, first = hardware.device_of(network), distributed.world(), distributed.rank() == 0
    if settings.batch % (at_once := world * settings.accumulate):
        raise CannotStart(f"batch={settings.batch}: must be a multiple of {at_once}, the number of "
                          "processes times accumulate")  # fmt: skip
    if not (len(training) and len(validation)):
        raise CannotStart(f"{len(training)} clips for training, {len(validation)} for validation")
    about = dict(classes=network.classes, profile=str(network.profile))
    about |= dict(output_stride=network.output_stride, weights=list(network.state_dict().items()))
    identity = (options or {}) | settings.of_the_result() | facts("network", about)
    identity |= facts("training", training) | facts("validation", validation)

    frozen, trained = batches.halves(network, settings)
    frozen.requires_grad_(False)
    model = prepare(trained, settings)
    length = len(batches.updates(len(training), settings, epoch=0))  # updates of an epoch
    optimizer, scheduler = optimize(model, settings, settings.epochs * length)
    made_with = dict(settings=asdict(settings), processes=world)
    made_with |= dict(hardware=hardware.hardware(device.type), versions=hardware.versions())
    state = dict(trained=trained, optimizer=optimizer, scheduler=scheduler)
    journal = Journal(folder, identity, made_with, state)
    epochs, done, seen = journal.resume()  # whole ones, updates of the next, sums over its clips
    if epochs < settings.epochs:
        training = batches.source(network, training, settings, anew=True)
        validation = batches.source(network, validation, settings)
    elif first:
        tqdm.write(f"{folder}: all {epochs} epochs are done, nothing is left to do")

    opposites = batches.opposite(network.classes).to(device)
    for epoch in range(epochs, settings.epochs):
        plan = batches.updates(len(training), settings, epoch)
        todo = plan[done:]
        mine = [[clips[i] for i in part] for clips in todo for part in parts(len(clips), settings)]
        stream = training.batches(epoch, mine)
        bar = tqdm(todo, f"epoch {epoch + 1}/{settings.epochs}", length, initial=done, leave=False,
                   unit="update", disable=not first)  # fmt: skip
        training_mode(trained, settings)
        begun, sums = time.time(), torch.zeros(3, device=device, dtype=torch.float64)
        for number, clips in enumerate(bar, start=done + 1):
            seed = settings.seed, epoch, number  # all random numbers of an update follow from it
            torch.manual_seed(seeded(*seed, distributed.rank()).initial_seed())  # for dropout
            batch = [
                examples(*next(stream), settings, opposites, seeded(*seed), part, len(clips))
                for part in parts(len(clips), settings)
            ]
            sums += step(model, batch, optimizer, scheduler, settings)
            if number % checkpoint_every == 0 or number == length:
                loss, right, count = distributed.summed(sums).tolist()
                seconds = time.time() - begun
                begun, sums = time.time(), torch.zeros_like(sums)
                seen = [a + b for a, b in zip(seen, (loss, right, count, seconds))]
                bar.set_postfix(loss=f"{loss / count:.2f}", top1=f"{right / count:.0%}")
                if number < length:
                    line = dict(update=epoch * length + number, loss=round(loss / count, 4))
                    line |= dict(lr=scheduler.get_last_lr()[0])
                    journal.note(line | dict(clips_per_second=round(count / seconds, 2)))
                    journal.checkpoint(epoch, number, seen)
            if on_update:
                on_update(epoch * length + number, epoch + 1)

        begun, (loss, right, count, seconds) = time.time(), seen
        accuracy = round(top1(trained, validation, settings), 4)
        if journal.writes and all(accuracy > line["val_top1"] for line in journal.epochs()):
            networks.save(network, journal.folder / "best.safetensors")
        record = dict(epoch=epoch + 1, update=(epoch + 1) * length, loss=round(loss / count, 4))
        record |= dict(top1=round(right / count, 4), val_top1=accuracy)
        record |= dict(seconds=round(seconds + time.time() - begun, 1))
        journal.note(record)
        done, seen = 0, [0.0] * 4
        journal.checkpoint(epoch + 1, done, seen)
        if journal.writes:
            tqdm.write(json.dumps(record))
    if journal.curves:
        journal.curves.close()
    network.eval()
    return journal.epochs()


def prepare(network: nn.Module, settings: Settings) -> nn.Module:
    """The network in the form that training calls: laid out, compiled, shared, as settings say."""
    if settings.channels_last:
        hardware.channels_last(network)
    if settings.recompute:
        for block in networks.blocks(network):
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
def top1(network: nn.Module, validation: InMemory | FromDisk, settings: Settings) -> float:
    """Share of the clips whose highest logit is their label's, over all processes."""
    network.eval()
    counts = torch.zeros(2, dtype=torch.float64, device=hardware.device_of(network))
    plan = batches.in_order(len(validation), settings)
    mine = plan[distributed.rank() :: distributed.world()]
    for x, y in validation.batches(None, mine):
        right = (forward(network, x, settings).argmax(1) == y).sum()
        counts += torch.stack([right, right.new_tensor(len(y))])
    right, seen = distributed.summed(counts).tolist()
    return right / seen
