"""Does a map depend on what it claims to explain? Checks that need no truth.

After Adebayo et al. 2018 (arXiv 1810.03292): a map of a network whose weights, or whose training
labels, were random should not look like the map of the trained one. And a map should follow where
the clip goes: mirrored, shifted, played backwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from book.experiments.maps import Heat, begin, by_gradient, drawings
from book.experiments.rows import Row, Rows, made_by, spearman, table
from lib.data.arguments import one_line
from lib.data.labels import REVERSED, mirror_label
from lib.data.video import Clip
from lib.evaluation import add_to_record, controls
from lib.evaluation.marks import YARDSTICK, marks
from lib.miniature import Fresh
from lib.model import networks
from lib.model.hardware import device_of
from lib.training import RECIPES, InMemory, remember, train
from lib.training.journal import CannotStart

PARTS = ("follow", "weights", "labels")  # of the figures
SHIFT = 16  # pixels, one cell of the default network
CLIPS, EPOCHS = 320, 40  # of the training on random labels

Change = Callable[[np.ndarray], np.ndarray]  # of anything (T, H, W, ...)


# --- does it follow the clip? ---------------------------------------------------------------------


def mirror_columns(x: np.ndarray) -> np.ndarray:
    return x[:, :, ::-1]


def shift_columns(x: np.ndarray) -> np.ndarray:
    """To the right; the left edge is repeated."""
    widths = [(0, 0), (0, 0), (SHIFT, 0)] + [(0, 0)] * (x.ndim - 3)
    return np.pad(x, widths, mode="edge")[:, :, :-SHIFT]


def reverse_time(x: np.ndarray) -> np.ndarray:
    return x[::-1]


#: The change, what it makes of a class, and the columns where both maps say something.
CHANGES: dict[str, tuple[Change, Callable[[str], str | None], slice]] = {
    "mirrored": (mirror_columns, mirror_label, slice(None)),
    "shifted": (shift_columns, lambda name: name, slice(SHIFT, None)),
    "backwards": (reverse_time, REVERSED.get, slice(None)),
}


def follow(network: nn.Module, indices: Sequence[int], seed: int) -> Iterator[list[Row]]:
    """Correlation of the changed clip's map with the changed map of the clip, for each change; the
    class is what the clip shows after the change, and where that has no name there is no figure."""
    for i, drawn, inputs, true in drawings(network, indices, seed):
        before = by_gradient(network, inputs, true) | controls(drawn, i)
        rows = {name: dict(clip=i, map=name) for name in before if name != "constant"}
        for name, (change, becomes, columns) in CHANGES.items():
            cls = becomes(drawn.label)
            if cls is None:
                continue
            frames, mask = (np.ascontiguousarray(change(x)) for x in (drawn.frames, drawn.mask))
            moved = network.preprocess(frames).to(inputs.device)
            after = by_gradient(network, moved, network.classes.index(cls))
            # With another seed: the random map follows nothing.
            after |= controls(Clip(frames, drawn.times, cls, mask), seed=i + 1_000_000)
            for key, row in rows.items():
                pair = [change(before[key])[..., columns], after[key][..., columns]]
                if all(np.ptp(heat) for heat in pair):
                    row[name] = float(np.corrcoef(*(heat.ravel() for heat in pair))[0, 1])
        yield list(rows.values())


# --- does it depend on the weights? ---------------------------------------------------------------


def depend_on_weights(network: nn.Module, indices: Sequence[int], seed: int) -> Iterator[list[Row]]:
    """Rank correlation of each map with the trained network's, as stage after stage, from the last
    down to the first, gets random weights; one measure for each stage."""
    copies = list(cascade(network, seed))
    for i, drawn, inputs, cls in drawings(network, indices, seed):
        same = {YARDSTICK: controls(drawn)[YARDSTICK]}
        trained = by_gradient(network, inputs, cls) | same
        rows = {name: dict(clip=i, map=name) for name in trained}
        for stage, randomised in copies:
            maps = by_gradient(randomised, inputs, cls, network) | same
            for name, row in rows.items():
                row[stage] = rank_correlation(trained[name], maps[name])
        yield list(rows.values())


def cascade(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Copies of a network, the first with a random last stage, the last random all through.

    Random are the weights of convolutions and linear layers: normal around 0, with the spread that
    the trained ones have, so that the signal neither dies nor explodes.
    """
    rng, randomised = torch.Generator().manual_seed(seed), deepcopy(network)
    for stage in stages_with_weights(network):
        randomised = deepcopy(randomised)
        for module in randomised.get_submodule(stage).modules():
            weight = getattr(module, "weight", None)
            if weight is not None and weight.ndim > 1:
                noise = torch.randn(weight.shape, generator=rng).to(weight)
                weight.data = weight.data.std() * noise
        yield stage, randomised


def stages_with_weights(network: nn.Module) -> list[str]:
    """Names of the parts that have weights, the last first; of a sequence, its parts."""
    names = []
    for name, child in network.named_children():
        parts = child.named_children() if isinstance(child, nn.Sequential) else ()
        names += [f"{name}.{part}" for part, _ in parts] or [name]
    heavy = (n for n in names if any(p.ndim > 1 for p in network.get_submodule(n).parameters()))
    return list(heavy)[::-1]


def rank_correlation(a: Heat, b: Heat) -> float:
    """Spearman's rank correlation of two maps (T, H, W), read once in each 16x16 pixels."""
    a, b = (heat[:, 8::16, 8::16].ravel() for heat in (a, b))
    return spearman(a, b)


# --- does it depend on the labels? ----------------------------------------------------------------


def depend_on_labels(
    network: nn.Module, indices: Sequence[int], seed: int, random: nn.Module
) -> Iterator[list[Row]]:
    """Rank correlation of each map with the one of a network that learned random labels, and the
    marks that this network's maps get."""
    for i, drawn, inputs, cls in drawings(network, indices, seed):
        rows, other = [], by_gradient(random, inputs, cls, network)
        for name, heat in by_gradient(network, inputs, cls).items():
            alike = rank_correlation(heat, other[name])
            rows.append(dict(clip=i, map=name, alike=alike, **marks(other[name], drawn.truth)))
        yield rows


def on_random_labels(network: nn.Module, seed: int, folder: Path) -> tuple[nn.Module, dict]:
    """A network of the same make that learned `CLIPS` clips with shuffled labels by heart, and its
    last epoch's record. A run that was stopped goes on from `folder`."""
    torch.manual_seed(seed)
    other = networks.build(network.profile, network.classes).to(device_of(network))
    plain = dict(passes=1, reverse=False, label_smoothing=0.0, weight_decay=0.0)
    settings = replace(RECIPES["default"], epochs=EPOCHS, **plain)
    clips = Fresh("train", CLIPS, seed, network.preprocess.size)
    kept = remember(other, clips, settings)
    order = torch.randperm(CLIPS, generator=torch.Generator().manual_seed(seed))
    shuffled = InMemory(kept.features, kept.labels[order.to(kept.labels.device)])
    log = train(other, shuffled, shuffled, settings, folder)
    return other, log[-1]


# --- the command ----------------------------------------------------------------------------------


def figures(network: nn.Module, rows: dict[str, Rows], args: argparse.Namespace) -> dict:
    """The tables of all parts. OSError where another training is in the folder."""
    random, learned = on_random_labels(network, args.seed, args.folder / "labels")
    measures = dict(
        follow=lambda i: follow(network, i, args.seed),
        weights=lambda i: depend_on_weights(network, i, args.seed),
        labels=lambda i: depend_on_labels(network, i, args.seed, random),
    )
    found = {part: table(rows[part].measure(args.checked, measures[part])) for part in PARTS}
    return found | dict(labels=dict(learned=learned, **found["labels"]))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m book.experiments.sanity",
        description="See what maps do when weights, labels or the clip are changed: a part of "
        "`python -m book.experiments.faithfulness`. A stopped run goes on.",
    )
    parser.add_argument("--checked", type=int, default=40, help="clips to draw (%(default)s)")
    args, network, about, rows = begin(parser, PARTS)
    with one_line(parser, CannotStart, OSError):
        found = figures(network, rows, args)
    about = made_by("sanity") | dict(measured_on=about | dict(checked=args.checked))
    add_to_record(args.record, dict(sanity=about | found))


if __name__ == "__main__":
    main()
