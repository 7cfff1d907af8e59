"""What feeds the training loop: the clips, in memory or from disk, and which an update learns from.

All of it follows from the seed, the epoch and the update's number. So a run that was stopped ends
as one that was not, and several processes learn what one would.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lib.data.labels import REVERSED
from lib.model.hardware import device_of, fast_bfloat16
from lib.model.networks import lower_and_upper
from lib.training import distributed
from lib.training.settings import Settings

STILLS = 4  # frames of a clip that the single-frame baseline learns from, each by itself
Features = tuple[Tensor, Tensor]  # (N, C, T, h, w) float16, labels (N,)
Plan = list[list[int]]  # which clips, batch by batch


@dataclass(eq=False)
class InMemory(Dataset):
    """Clips as the frozen stages see them."""

    features: Tensor  # (N, C, T, h, w) float16
    labels: Tensor  # (N,)
    dataset: Dataset | None = None  # that they come from

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def facts(self) -> dict:
        """What tells these clips from others."""
        return dict(shape=self.features.shape, labels=self.labels, dataset=self.dataset)


def halves(network: nn.Module, settings: Settings) -> tuple[nn.Module, nn.Module]:
    """The stages that stay as they are, and those that are trained."""
    return (nn.Identity(), network) if settings.whole else lower_and_upper(network.eval())


@torch.no_grad()
def stream(
    network: nn.Module, frozen: nn.Module, clips: Dataset, plan: Plan, workers: int
) -> Iterator[Features]:
    """The clips of a plan as the frozen stages see them: kept, or read by worker processes."""
    if isinstance(clips, InMemory):
        yield from ((clips.features[batch], clips.labels[batch]) for batch in plan)
        return
    device, pin = device_of(network), torch.cuda.is_available()
    own = torch.Generator()  # or it draws from PyTorch's, and a resumed run sees other numbers
    how = dict(num_workers=workers, pin_memory=pin, generator=own)
    loader = DataLoader(clips, batch_sampler=plan, **how)
    for frames, labels in loader:  # (N, T, S, S, 3) uint8, (N,)
        x = network.preprocess(frames, device)  # (N, 3, T, S, S)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
            x = frozen(x)
        yield x.half(), labels.to(device, non_blocking=True)


def remember(network: nn.Module, clips: Dataset, settings: Settings) -> InMemory:
    """Clips as the stages that are not trained see them, computed once and kept in memory. Several
    processes share the work; each keeps all clips."""
    if isinstance(clips, InMemory):
        return clips
    frozen, world = halves(network, settings)[0], distributed.world()
    plan = in_order(len(clips), settings)
    shared = len(plan) >= world > 1  # so that each has a batch
    mine = plan[distributed.rank() :: world] if shared else plan
    found = stream(network, frozen, clips, mine, settings.workers)
    features = labels = None
    told = f"{len(clips)} {getattr(clips, 'split', '')} clips, once"
    for batch, (x, y) in zip(mine, tqdm(found, told, len(mine), False, unit="batch")):
        if features is None:
            features = x.new_zeros(len(clips), *x.shape[1:])
            labels = y.new_zeros(len(clips))
        features[batch], labels[batch] = x, y
    if shared:
        distributed.summed(features), distributed.summed(labels)
    return InMemory(features, labels, clips)


def in_order(clips: int, settings: Settings) -> Plan:
    """Every clip once, in batches as large as those that a process trains on, or of 64."""
    size = min(64, max(1, settings.batch // (distributed.world() * settings.accumulate)))
    return [list(range(clips)[start : start + size]) for start in range(0, clips, size)]


def seeded(*numbers: int) -> torch.Generator:
    """Random numbers that follow from these."""
    (state,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def updates(clips: int, settings: Settings, epoch: int) -> Plan:
    """The clips of each update of an epoch, in a new order every time. The last update may have
    fewer; from the first it gets as many more as all processes and parts need to have equally many.
    """
    order = torch.randperm(clips, generator=seeded(settings.seed, epoch)).tolist()
    plan = [order[i : i + settings.batch] for i in range(0, clips, settings.batch)]
    missing = -len(plan[-1]) % (distributed.world() * settings.accumulate)
    plan[-1] += (order * (missing // clips + 1))[:missing]
    return plan


def parts(clips: int, settings: Settings) -> list[range]:
    """Which clips of an update, counted from 0, are this process's, part by part."""
    mine = range(clips)[distributed.rank() :: distributed.world()]
    return [mine[i :: settings.accumulate] for i in range(settings.accumulate)]


def opposite(classes: list[str]) -> Tensor:
    """For each class, the index of what it shows when played backwards, or -1."""
    pairs = [REVERSED.get(name) for name in classes]
    return torch.tensor([classes.index(name) if name in classes else -1 for name in pairs])


def examples(
    x: Tensor,
    y: Tensor,
    settings: Settings,
    opposites: Tensor,
    rng: torch.Generator,
    part: range | None = None,
    clips: int | None = None,
) -> Features:
    """What a part of an update learns from: its clips, some of them played backwards, or single
    frames of them. Random numbers are drawn for all `clips` of the update, wherever it is cut."""
    part, clips = part or range(len(x)), clips or len(x)
    if settings.frames == 1:
        frame = torch.randint(x.shape[2], (STILLS, clips), generator=rng)[:, part].flatten()
        clip = torch.arange(len(x)).repeat(STILLS)
        return x[clip, :, frame].unsqueeze(2), y.repeat(STILLS)  # (STILLS * N, C, 1, h, w)
    if settings.reverse:
        backwards = (torch.rand(clips, generator=rng)[part] < 0.5).to(x.device)
        backwards &= opposites[y] >= 0
        x = torch.where(backwards.view(-1, 1, 1, 1, 1), x.flip(2), x)
        y = torch.where(backwards, opposites[y], y)
    return x, y
