"""The drawn clips that maps are made of, and the maps: by every method, and by occlusion."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from book.experiments.rows import DEVICE, Rows
from lib import miniature
from lib.data.arguments import named, one_line
from lib.evaluation import read_record
from lib.explain.clip import frames_alone
from lib.explain.maps import GRADIENT_METHODS, maps_of, watching
from lib.explain.occlusion import box, occlusion
from lib.explain.overlay import on_pixels
from lib.explain.receptive_field import measure
from lib.miniature import Drawn
from lib.miniature.dataset import VERSION
from lib.miniature.drawing import BACKGROUND, FRAME, affine, render
from lib.miniature.scenes import Thing
from lib.model import networks
from lib.model.hardware import device_of

# One stage below the last, where the gradient formulas begin to differ, by backbone.
EARLIER = {"motion_lite0": "blocks.3", "efficientnet_lite0": "blocks.5", "resnet50": "layer3"}
WINDOW, STRIDE = (4, 48, 48), (4, 24, 24)  # of the occlusion: frames and pixels

LESS_LOOKS = "cam, less looks"
LESS_NEXT = "cam, less the next class"  # as FinerCAM (Zhang et al. 2025, arXiv 2501.11309)

Heat = np.ndarray  # (T, H, W) float, signed


def drawings(
    network: nn.Module, indices: Sequence[int], seed: int
) -> Iterator[tuple[int, Drawn, Tensor, int]]:
    """Of each index the test clip that is drawn for it, 4 frames a second, the network's input
    (1, 3, T, H, W), and the index of the true class."""
    for i in indices:
        drawn = miniature.draw("test", i, seed, np.arange(16) / 4, network.preprocess.size)
        inputs = network.preprocess(drawn.frames).to(device_of(network))
        yield i, drawn, inputs, network.classes.index(drawn.label)


def by_gradient(
    network: nn.Module, inputs: Tensor, cls: int, measured: nn.Module | None = None
) -> dict[str, Heat]:
    """Maps of a clip's class by every method of `lib.explain.maps`, at the last layer and one stage
    earlier. inputs (1, 3, T, H, W). The cells lie where those of `measured` do, a network of the
    same make: to measure each takes long."""
    found, classes = {}, torch.tensor([[cls]], device=inputs.device)
    for layer in (None, EARLIER[network.profile.backbone]):
        with watching(network, inputs, layer, gradient=True) as seen:
            methods = ["cam"] * (layer is None) + [*GRADIENT_METHODS]
            maps = {method: maps_of(seen, classes, method)[0][0, 0] for method in methods}
        shape, grid = tuple(inputs.shape[2:]), tuple(seen.activations.shape[2:])
        field = measure(measured or network, seen.layer, shape, grid)
        cells = [field.centres(axis, grid[axis]) for axis in (1, 2)]
        if layer is None:
            maps[LESS_LOOKS] = maps["cam"] - frames_alone(network, inputs, [cls])[0]
            logits = seen.logits[0].clone()
            logits[cls] = -torch.inf
            other = maps_of(seen, logits.argmax().view(1, 1), "cam")[0][0, 0]
            maps[LESS_NEXT] = maps["cam"] - other
        for method, values in maps.items():  # (T, h, w)
            name = method if layer is None else f"{method}, one stage earlier"
            found[name] = on_pixels(values.cpu().numpy(), cells, shape[1:])
    return found


def busier(drawn: Drawn, seed: int) -> Drawn:
    """The clip with two more objects behind the action, which go round as fast as a hand moves."""
    rng, frames = np.random.default_rng(seed), drawn.frames.copy()
    height, width = frames.shape[1:3]
    camera = affine(width / 2, height / 2, height / FRAME)
    things = [Thing(rng, "test") for _ in range(2)]
    middle, phase = rng.uniform(-40, 40, (2, 2)), rng.uniform(0, 2 * np.pi, 2)
    reach, turns = rng.uniform(15, 30, 2), rng.choice([-1, 1], 2) * rng.uniform(0.2, 0.5, 2)
    for t, frame, roles in zip(drawn.times, frames, drawn.truth.roles):
        angle = phase + 2 * np.pi * turns * t
        spots = middle + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        layers = [layer for thing, spot in zip(things, spots) for layer in thing.layers(*spot)]
        picture, covered = render(layers, camera, (width, height))
        seen = (covered > 0) & (roles == BACKGROUND)
        frame[seen] = np.asarray(picture)[seen]
    return replace(drawn, frames=frames)


def by_occlusion(network: nn.Module, inputs: Tensor, cls: int) -> Heat:
    """Map (T, H, W) of one clip's class by covering parts of it; every frame takes its window's."""
    maps, _ = occlusion(network, inputs, WINDOW, STRIDE)  # (K, t, h, w)
    sizes = inputs.shape[2:]
    field = box(sizes, WINDOW, STRIDE)
    cells = [field.centres(axis, maps.shape[1 + axis]) for axis in (1, 2)]
    return on_pixels(maps[cls].cpu().numpy(), cells, sizes[1:]).repeat(STRIDE[0], axis=0)


def by_integrated_gradients(network: nn.Module, inputs: Tensor, cls: int) -> Heat:
    """Integrated gradients from grey to the clip (Sundararajan et al. 2017, arXiv 1703.01365), as
    captum has them, in 24 steps; summed over the colours."""
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(network)
    found = method.attribute(inputs, target=cls, n_steps=24, internal_batch_size=2)
    return found[0].sum(0).detach().cpu().numpy()


@torch.inference_mode()
def by_rise(network: nn.Module, inputs: Tensor, cls: int, seed: int, count: int = 96) -> Heat:
    """RISE (Petsiuk et al. 2018, arXiv 1806.07421) in time and space: the mean of random masks,
    half of their blocks grey, each times the probability of the class that it leaves."""
    rng = torch.Generator().manual_seed(seed)
    blocks = (torch.rand(count, 1, 4, 6, 6, generator=rng) < 0.5).float().to(inputs.device)
    total = inputs.new_zeros(inputs.shape[2:])
    for some in blocks.split(2):
        mask = interpolate(some, tuple(inputs.shape[2:]), mode="trilinear")  # (2, 1, T, H, W)
        p = network(inputs * mask).softmax(1)[:, cls]
        total += (p.view(-1, 1, 1, 1) * mask[:, 0]).sum(0)
    return (total / count).cpu().numpy()


def begin(
    parser: argparse.ArgumentParser, parts: Sequence[str]
) -> tuple[argparse.Namespace, nn.Module, dict, dict[str, Rows]]:
    """Parse the command of an experiment on maps; the network, what the figures of a clip depend
    on, and the rows of each part that are there already."""
    add = parser.add_argument
    add("--weights", type=named, default=networks.WEIGHTS, help="file of weights (the package's)")
    add("--seed", type=int, default=11, help="another seed draws other clips (%(default)s)")
    add("--folder", type=named, default=Path("runs/faithfulness"), help="of rows (%(default)s)")
    add("--record", type=named, help="JSON file to put the figures in")
    args = parser.parse_args()
    with one_line(parser, OSError, ValueError):
        read_record(args.record)
        network = networks.load(args.weights).to(DEVICE)
        weights = sha256(args.weights.read_bytes()).hexdigest()[:16]
        about = dict(split="test", seed=args.seed, size=network.preprocess.size)
        about |= dict(drawing=VERSION, weights=weights)
        rows = {name: Rows(args.folder / f"{name}.jsonl", about) for name in parts}
    return args, network, about, rows
