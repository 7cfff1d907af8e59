"""Is the map right? Every method marked on the truth of drawn clips.

A clip is drawn, so it is known which pixels move and when the action happens. Beside the methods
stand controls that cost nothing and know nothing of the network. The class explained is always the
true one. `book.experiments.sanity`, which this runs too, needs no truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from book.experiments import sanity
from book.experiments.maps import (
    Heat,
    begin,
    busier,
    by_gradient,
    by_integrated_gradients,
    by_occlusion,
    by_rise,
    drawings,
)
from book.experiments.rows import Row, alpha, made_by, table
from lib.data.arguments import one_line
from lib.evaluation import add_to_record, controls
from lib.evaluation.marks import marks
from lib.explain.occlusion import at_once
from lib.model.hardware import channels_last, device_of, fast_bfloat16
from lib.training.journal import CannotStart

SHARES = (0.05, 0.15, 0.35, 0.65)  # of the clip that are covered or shown
SETS = 40  # of blocks that are blurred


# --- what happens to the prediction ---------------------------------------------------------------


def blurred(inputs: Tensor) -> Tensor:
    """The clip out of focus: things are still there and move, but cannot be told."""
    sigma = inputs.shape[-1] / 12
    frames = inputs.transpose(1, 2).flatten(0, 1)  # (N*T, 3, H, W)
    frames = gaussian_blur(frames, 2 * int(3 * sigma) + 1, sigma)
    return frames.unflatten(0, (len(inputs), -1)).transpose(1, 2)


def frozen(inputs: Tensor) -> Tensor:
    """The clip standing still at its middle frame: all is there to be told, but nothing moves."""
    middle = inputs.shape[2] // 2
    return inputs[:, :, middle : middle + 1].expand_as(inputs)


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {"blurred": blurred, "frozen": frozen}


def descending(heat: Heat, seed: int = 0) -> np.ndarray:
    """The position of each value in the order from the greatest to the least, as a fraction from 0
    up to 1; equal values in random order."""
    tie_breaker = np.random.default_rng(seed).random(heat.size)
    position = np.empty(heat.size)
    position[np.lexsort((tie_breaker, -heat.ravel()))] = np.arange(heat.size) / heat.size
    return position.reshape(heat.shape)


def curves(
    network: nn.Module, inputs: Tensor, cls: int, maps: dict[str, Heat]
) -> dict[str, dict[str, float]]:
    """For each map, the areas under its curves of deletion and insertion (Petsiuk et al. 2018,
    arXiv 1806.07421), over positions in space and time, from and to each of `BASELINES`.

    inputs (1, 3, T, H, W). Deletion takes the greatest of the map away first, down to the baseline:
    the sooner the probability of `cls` falls, the smaller the area. Insertion starts from the
    baseline: the sooner it rises, the larger.
    """
    at, areas = [0, *SHARES, 1], {name: {} for name in maps}
    for baseline, make in BASELINES.items():
        base = make(inputs)
        whole, nothing = probabilities(network, torch.cat([inputs, base]), cls)
        for name, heat in maps.items():
            position = torch.from_numpy(descending(heat)).to(inputs.device)  # (T, H, W)
            deleted = [torch.where(position < share, base, inputs) for share in SHARES]
            inserted = [torch.where(position < share, inputs, base) for share in SHARES]
            p = probabilities(network, torch.cat(deleted + inserted), cls)
            fall, rise = [whole, *p[: len(SHARES)], nothing], [nothing, *p[len(SHARES) :], whole]
            areas[name][f"deletion, {baseline}"] = float(np.trapezoid(fall, at))
            areas[name][f"insertion, {baseline}"] = float(np.trapezoid(rise, at))
    return areas


@torch.inference_mode()
def probabilities(network: nn.Module, clips: Tensor, cls: int) -> np.ndarray:
    """Probability of a class in each clip (N,), a few at a time, in the network's precision."""
    dtype = next(network.parameters()).dtype
    some = clips.split(at_once(clips.device))
    logits = torch.cat([network(part.to(dtype)).float() for part in some])
    return logits.softmax(1)[:, cls].cpu().numpy()


def agreement(
    network: nn.Module, inputs: Tensor, cls: int, maps: dict[str, Heat], seed: int
) -> dict[str, dict[str, float]]:
    """`SETS` times, a random fifth of the clip's blocks is blurred: how does what each map holds
    there go with what the logit loses? Blocks of 4 frames and a sixth of each side.

    "faithfulness" is their correlation (Bhatt et al. 2020, arXiv 2005.00631); "infidelity" the mean
    square of what the best multiple of the map gets wrong, 1 for a map of nothing (Yeh et al. 2019,
    arXiv 1901.09392, over the mean square of the losses).
    """
    rng, (t, h, w) = np.random.default_rng(seed), inputs.shape[2:]
    blocks = rng.random((SETS, t // 4, 6, 6)) < 0.2
    sets = blocks.repeat(4, 1).repeat(h // 6, 2).repeat(w // 6, 3)  # (SETS, T, H, W)
    away, base = torch.from_numpy(sets)[:, None].to(inputs.device), blurred(inputs)
    dtype = next(network.parameters()).dtype
    inputs, base = inputs.to(dtype), base.to(dtype)
    with torch.inference_mode():
        whole = network(inputs)[0, cls]
        lost = [whole - network(torch.where(part, base, inputs))[0, cls] for part in away]
    lost = np.array([float(logit) for logit in lost])
    found = {}
    for name, heat in maps.items():
        held = (heat * sets).sum((1, 2, 3))
        alike = (held @ lost) ** 2 / max((held @ held) * (lost @ lost), 1e-30)
        found[name] = dict(infidelity=float(1 - alike))
        if np.ptp(held):
            found[name]["faithfulness"] = float(np.corrcoef(held, lost)[0, 1])
    return found


# --- the figures of each clip ---------------------------------------------------------------------


def marked(
    network: nn.Module, indices: Sequence[int], seed: int, busy: bool = False
) -> Iterator[list[Row]]:
    """Marks of every method that costs a forward pass or a few, and of the controls; and whether
    the network is right. `busy`: of the clips made `busier`."""
    for i, drawn, inputs, cls in drawings(network, indices, seed):
        if busy:
            drawn = busier(drawn, i)
            inputs = network.preprocess(drawn.frames).to(inputs.device)
        with torch.inference_mode():
            right = float(network(inputs)[0].argmax() == cls)
        maps = by_gradient(network, inputs, cls) | controls(drawn, i)
        rows = [
            dict(clip=i, map=name, sparseness=gini(heat), **marks(heat, drawn.truth))
            for name, heat in maps.items()
        ]
        yield [dict(clip=i, map="the network", right=right), *rows]


def gini(heat: Heat) -> float:
    """How few cells hold the positive evidence: 0 where all hold as much, near 1 where one holds
    all of it (Hurley and Rickard 2009, arXiv 0811.4706)."""
    x = np.sort(heat.clip(0), axis=None)
    places = 2 * np.arange(1, x.size + 1) - x.size - 1
    return float((places * x).sum() / (x.size * x.sum())) if x.any() else 0.0


def costly(network: nn.Module, indices: Sequence[int], seed: int) -> Iterator[list[Row]]:
    """Deletion, insertion, agreement for all maps that differ, and the marks of the slow ones."""
    exact = channels_last(deepcopy(network))
    dtype = torch.bfloat16 if fast_bfloat16(device_of(network)) else torch.float32
    quick = channels_last(deepcopy(network).to(dtype))  # exact enough for a probability
    for i, drawn, inputs, cls in drawings(network, indices, seed):
        maps = by_gradient(network, inputs, cls) | controls(drawn, i)
        for same in ("gradcam", "hirescam"):  # at the last layer, the same as "cam"
            del maps[same]
        slow = {
            "occlusion": by_occlusion(exact, inputs, cls),
            "integrated gradients": by_integrated_gradients(exact, inputs, cls),
            "RISE": by_rise(exact, inputs, cls, i),
        }
        maps |= slow
        found = curves(quick, inputs, cls, maps)
        for name, figures in agreement(quick, inputs, cls, maps, i).items():
            found[name] |= figures
        for name, heat in slow.items():
            found[name] |= marks(heat, drawn.truth)
        yield [dict(clip=i, map=name) | areas for name, areas in found.items()]


# --- the command ----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m book.experiments.faithfulness",
        description="Mark every method, and controls beside it, on the truth of drawn test clips; "
        "see what it does when weights, labels or the clip are changed. A stopped run goes on.",
    )
    add = parser.add_argument
    add("--clips", type=int, default=400, help="marked on the truth (%(default)s)")
    add("--busy", type=int, default=100, help="... with more that moves (%(default)s)")
    add("--costly", type=int, default=20, help="... and by what takes long (%(default)s)")
    add("--checked", type=int, default=40, help="clips of the sanity checks (%(default)s)")
    args, network, about, rows = begin(parser, ("truth", "busy", "costly", *sanity.PARTS))
    with one_line(parser, CannotStart, OSError):
        figures = sanity.figures(network, rows, args)
    found = rows["truth"].measure(args.clips, lambda i: marked(network, i, args.seed))
    found += rows["costly"].measure(args.costly, lambda i: costly(network, i, args.seed))
    crowded = rows["busy"].measure(args.busy, lambda i: marked(network, i, args.seed, busy=True))
    figures |= dict(busy=table(crowded))
    counts = ("clips", "busy", "checked", "costly")
    about |= {name: getattr(args, name) for name in counts}
    about = made_by("faithfulness") | dict(measured_on=about)
    figures |= dict(marks=table(found), clips_agree=alpha(found))
    add_to_record(args.record, about | figures)


if __name__ == "__main__":
    main()
