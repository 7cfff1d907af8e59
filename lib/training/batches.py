"""What feeds the training loop: which clips an update learns from, and how they get to it.

All of it follows from the seed, the epoch and the update's number. So a run that was stopped ends
as one that was not, and several processes learn what one would.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Subset
from tqdm import tqdm

from lib.data.labels import REVERSED
from lib.model import networks
from lib.model.networks import device_of
from lib.training import distributed
from lib.training.settings import Settings

STILLS = 4  # frames of a clip that the single-frame baseline learns from, each by itself
Features = tuple[Tensor, Tensor]  # (N, C, T, h, w) float16, labels (N,)


@torch.no_grad()
def features(
    lower: nn.Module, network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[Features]:
    """What the lower stages make of each batch (frames (N, T, S, S, 3) uint8, labels (N,))."""
    device = device_of(network)
    for frames, labels in batches:
        x = network.preprocess(frames, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=networks.fast_bfloat16(device)):
            x = lower(x)
        yield x.half(), labels.to(device, non_blocking=True)


def halves(network: nn.Module, settings: Settings) -> tuple[nn.Module, nn.Module]:
    """What stays as it is, and what is trained."""
    return (nn.Identity(), network) if settings.whole else networks.stages(network.eval())


def remember(network: nn.Module, dataset: Dataset, settings: Settings) -> list[Features]:
    """A dataset as the stages that are not trained see it, kept in memory, batch by batch."""
    lower, _ = halves(network, settings)
    batches = loader(dataset, settings, in_order(dataset, settings.batch))
    return list(features(lower, network, tqdm(batches, "clips, once", leave=False, unit="batch")))


def in_order(dataset: Dataset, size: int) -> BatchSampler:
    """The plan of those who want every clip once."""
    return BatchSampler(range(len(dataset)), size, drop_last=False)


def loader(dataset: Dataset, settings: Settings, plan: Iterable[list[int]]) -> DataLoader:
    """The clips of each batch of a plan, read by worker processes."""
    return DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=settings.workers,
        pin_memory=torch.cuda.is_available(),
    )


def opposite(classes: list[str]) -> Tensor:
    """For each class, the index of what it shows when played backwards, or -1."""
    pairs = [REVERSED.get(name) for name in classes]
    return torch.tensor([classes.index(name) if name in classes else -1 for name in pairs])


def seeded(*numbers: int) -> torch.Generator:
    """Randomness that follows from some numbers."""
    (state,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def updates(clips: int, settings: Settings, epoch: int) -> list[list[int]]:
    """The clips of each update of an epoch, in an order that is new every time.

    The last update may be smaller; it is filled up from the first one, as far as is needed for all
    processes and parts to have equally many.
    """
    order = torch.randperm(clips, generator=seeded(settings.seed, epoch)).tolist()
    chunks = [order[i : i + settings.batch] for i in range(0, clips, settings.batch)]
    short = -len(chunks[-1]) % (distributed.world() * settings.accumulate)
    chunks[-1] += (order * (short // clips + 1))[:short]
    return chunks


def parts(clips: int, settings: Settings) -> list[range]:
    """Which places of an update are this process's, part by part."""
    mine = range(clips)[distributed.rank() :: distributed.world()]
    return [mine[i :: settings.accumulate] for i in range(settings.accumulate)]


def examples(
    x: Tensor,
    y: Tensor,
    settings: Settings,
    backwards: Tensor,
    rng: torch.Generator,
    places: range | None = None,
    clips: int = 0,
) -> tuple[Tensor, Tensor]:
    """What one part learns from: some of its clips reversed, or single frames of them.

    Chance is drawn for all `clips` of the update, of which these are in certain `places`.
    """
    places = places or range(len(x))
    clips = clips or len(x)
    if settings.frames == 1:
        pick = torch.randint(x.shape[2], (STILLS, clips), generator=rng)[:, places].flatten()
        clip = torch.arange(len(x)).repeat(STILLS)
        return x[clip, :, pick].unsqueeze(2), y.repeat(STILLS)  # (STILLS * N, C, 1, h, w)
    if settings.reverse:
        turned = (torch.rand(clips, generator=rng)[places] < 0.5).to(x.device) & (backwards[y] >= 0)
        x = torch.where(turned.view(-1, 1, 1, 1, 1), x.flip(2), x)
        y = torch.where(turned, backwards[y], y)
    return x, y


def read(
    training: Dataset | Features,
    lower: nn.Module,
    network: nn.Module,
    settings: Settings,
    epoch: int,
    chunks: list[list[int]],
) -> Iterator[Features]:
    """This process's parts of each update: of what is kept in memory, or read as it is needed."""
    plan = [
        [chunk[place] for place in places]
        for chunk in chunks
        for places in parts(len(chunk), settings)
    ]
    if isinstance(training, tuple):
        x, y = training
        return ((x[picked], y[picked]) for picked in plan)
    clips = training.epoch(epoch) if hasattr(training, "epoch") else training
    return features(lower, network, loader(clips, settings, plan))


def shared_out(network: nn.Module, lower: nn.Module, validation, settings: Settings):
    """A function that gives this process's share of the validation clips, each clip in one share:
    kept in memory where the lower stages need to see it only once, else read anew each time."""
    if isinstance(validation, list):
        mine = validation[distributed.rank() :: distributed.world()]
        return lambda: mine
    places = range(distributed.rank(), len(validation), distributed.world())
    mine = Subset(validation, places)
    if not settings.whole:
        kept = remember(network, mine, settings)
        return lambda: kept
    size = max(1, settings.batch // (distributed.world() * settings.accumulate))
    return lambda: features(lower, network, loader(mine, settings, in_order(mine, size)))
