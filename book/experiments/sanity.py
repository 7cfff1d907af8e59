"""Does a map depend on what it claims to explain? Sanity checks that need no truth.

After Adebayo et al. 2018 (arXiv 1810.03292): a map of a network whose weights, or whose training
labels, were random should not look like the map of the trained one. And a map should follow where
the clip goes: mirrored, shifted, played backwards. Run by `python -m lib.faithfulness`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from book.experiments.faithfulness import (
    YARDSTICK,
    Heat,
    Row,
    by_gradient,
    controls,
    drawings,
    marks,
)
from lib.data import labels
from lib.data.labels import REVERSED
from lib.miniature import Fresh
from lib.model import networks
from lib.training import batches
from lib.training import loop as training
from lib.training.settings import Settings

SHIFT = 16  # pixels, one cell of the default network
CLIPS, EPOCHS = 320, 10  # of the training on random labels

Change = Callable[[np.ndarray], np.ndarray]  # of anything (T, H, W, ...)


# --- does it follow the clip? ---------------------------------------------------------------------


def mirrored(x: np.ndarray) -> np.ndarray:
    return x[:, :, ::-1]


def shifted(x: np.ndarray) -> np.ndarray:
    """To the right; the left edge is repeated."""
    widths = [(0, 0), (0, 0), (SHIFT, 0)] + [(0, 0)] * (x.ndim - 3)
    return np.pad(x, widths, mode="edge")[:, :, :-SHIFT]


def backwards(x: np.ndarray) -> np.ndarray:
    return x[::-1]


#: The change, what it makes of a class, and the columns where both maps say something.
CHANGES: dict[str, tuple[Change, Callable[[str], str | None], slice]] = {
    "mirrored": (mirrored, labels.mirrored, slice(None)),
    "shifted": (shifted, lambda name: name, slice(SHIFT, None)),
    "backwards": (backwards, REVERSED.get, slice(None)),
}


def follow(network: nn.Module, indices: Sequence[int], seed: int) -> Iterator[list[Row]]:
    """Correlation of the changed clip's map with the changed map of the clip, for each change; the
    class is what the clip shows after the change, and where that has no name there is no figure."""
    for i, drawn, inputs in drawings(network, indices, seed):
        before = by_gradient(network, inputs, drawn.class_index) | controls(drawn, i)
        rows = {name: dict(clip=i, map=name) for name in before if name != "constant"}
        for name, (change, becomes, columns) in CHANGES.items():
            cls = becomes(drawn.template)
            if cls is None:
                continue
            frames, roles = np.ascontiguousarray(change(drawn.frames)), change(drawn.roles)
            moved = network.preprocess(frames).to(inputs.device)
            after = by_gradient(network, moved, network.classes.index(cls))
            # The random map is thrown again: it follows nothing.
            after |= controls(replace(drawn, frames=frames, roles=roles), seed=i + 1_000_000)
            for key, row in rows.items():
                pair = [change(before[key])[..., columns], after[key][..., columns]]
                if all(np.ptp(heat) for heat in pair):
                    row[name] = float(np.corrcoef(*(heat.ravel() for heat in pair))[0, 1])
        yield list(rows.values())


# --- does it depend on the weights? ---------------------------------------------------------------


def weights(network: nn.Module, indices: Sequence[int], seed: int) -> Iterator[list[Row]]:
    """Rank correlation of each map with the trained network's, as stage after stage, from the last
    down to the first, gets random weights; one measure for each stage."""
    copies = list(cascade(network, seed))
    for i, drawn, inputs in drawings(network, indices, seed):
        cls, still = drawn.class_index, {YARDSTICK: controls(drawn)[YARDSTICK]}
        trained = by_gradient(network, inputs, cls) | still
        rows = {name: dict(clip=i, map=name) for name in trained}
        for stage, other in copies:
            maps = by_gradient(other, inputs, cls) | still
            for name, row in rows.items():
                row[stage] = alike(trained[name], maps[name])
        yield list(rows.values())


def cascade(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Copies of a network, the first with a random last stage, the last random all through.

    Random are the weights of convolutions and linear layers: normal around 0, with the spread that
    the trained ones have, so that the signal neither dies nor explodes.
    """
    rng, other = torch.Generator().manual_seed(seed), deepcopy(network)
    for stage in stages(network):
        other = deepcopy(other)
        for module in other.get_submodule(stage).modules():
            weight = getattr(module, "weight", None)
            if weight is not None and weight.ndim > 1:
                noise = torch.randn(weight.shape, generator=rng).to(weight)
                weight.data = weight.data.std() * noise
        yield stage, other


def stages(network: nn.Module) -> list[str]:
    """Names of the parts that have weights, the last first; of a sequence, its parts."""
    names = []
    for name, child in network.named_children():
        parts = child.named_children() if isinstance(child, nn.Sequential) else ()
        names += [f"{name}.{part}" for part, _ in parts] or [name]
    weighty = (n for n in names if any(p.ndim > 1 for p in network.get_submodule(n).parameters()))
    return list(weighty)[::-1]


def alike(a: Heat, b: Heat) -> float:
    """Spearman's rank correlation of two maps (T, H, W), read once in each 16x16 pixels."""
    a, b = (heat[:, 8::16, 8::16].ravel() for heat in (a, b))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


# --- does it depend on the labels? ----------------------------------------------------------------


def labels(
    network: nn.Module, indices: Sequence[int], seed: int, other: nn.Module
) -> Iterator[list[Row]]:
    """Rank correlation of each map with the one of a network that learned random labels, and the
    marks that this network's maps get."""
    for i, drawn, inputs in drawings(network, indices, seed):
        trained, astray = (by_gradient(n, inputs, drawn.class_index) for n in (network, other))
        yield [
            dict(clip=i, map=name, alike=alike(heat, astray[name]), **marks(astray[name], drawn))
            for name, heat in trained.items()
        ]


def on_random_labels(network: nn.Module, seed: int, folder: Path) -> tuple[nn.Module, dict]:
    """A network of the same make that learned `CLIPS` clips with shuffled labels by heart, and its
    last epoch's record. A run that was stopped goes on from `folder`."""
    torch.manual_seed(seed)
    coarse = networks.build(network.profile, network.classes).to(networks.device_of(network))
    settings = Settings(epochs=EPOCHS, reverse=False, label_smoothing=0.0, weight_decay=0.0)
    clips = Fresh("train", CLIPS, seed, network.preprocess.size)
    kept = batches.remember(coarse, clips, settings)
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(clips), generator=rng)
    random = torch.cat([y for _, y in kept])[order.to(kept[0][1].device)]
    shuffled = [(x, y) for (x, _), y in zip(kept, random.split(settings.batch))]
    log = training.train(coarse, shuffled, shuffled, settings, folder)
    return networks.at_stride(coarse, 16), log[-1]
