"""Is the map right? Maps marked on the truth of drawn clips: `python -m lib.faithfulness --help`.

A clip is drawn, so it is known which pixels move and when the action happens. Every method is
marked on that truth, beside controls that cost nothing and know nothing of the network. The class
explained is always the true one. What a map says of the network, truth or not, is in `lib.sanity`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from forms import in_form
from scipy.ndimage import gaussian_filter
from scipy.stats import bootstrap
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

from lib import miniature
from lib.explain.explanation import on_pixels
from lib.explain.geometry import cells
from lib.explain.maps import GRADIENT_METHODS, activations_and_logits, maps_of
from lib.explain.occlusion import at_once, centres, occlusion
from lib.files import write_text
from lib.miniature import Drawn
from lib.model import networks
from lib.training import loop as training

# One stage below the last, where the gradient formulas part ways, by backbone.
EARLIER = {"efficientnet_lite0": "blocks.5", "resnet50": "layer3"}
WINDOW, STRIDE = (4, 32, 32), (4, 16, 16)  # of the occlusion: frames and pixels
SHARES = (0.05, 0.15, 0.35, 0.65)  # of the clip that are covered or shown
YARDSTICK = "frame differences"  # the control that a method has to beat
RESULTS = Path("book/results/faithfulness.json")

Heat = np.ndarray  # (T, H, W) float, signed
Row = dict[str, str | int | float]


class Drawings(Dataset):
    """Drawn test clips of some indices, 4 frames a second, with their truth."""

    def __init__(self, indices: Sequence[int], seed: int, size: int):
        self.indices, self.seed, self.size = indices, seed, size

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Drawn:
        times = np.arange(16) / 4
        return miniature.draw("test", self.indices[i], self.seed, times, self.size)


# --- marks on the truth ---------------------------------------------------------------------------


def pointing(heat: Heat, mask: np.ndarray) -> float:
    """The pointing game (Zhang et al. 2018, arXiv 1608.00507): does the greatest value lie in the
    mask? Of several equal ones, the share that does. No tolerance around the mask."""
    return float(mask[heat == heat.max()].mean())


def relevance_mass(heat: Heat, mask: np.ndarray) -> float:
    """Share of the positive evidence that lies in the mask (Arras et al. 2022, arXiv 2003.07258);
    a map without any has its mass spread evenly."""
    positive = heat.clip(0)
    return float(positive[mask].sum() / positive.sum()) if positive.any() else float(mask.mean())


def relevance_rank(heat: Heat, mask: np.ndarray) -> float:
    """Of the K greatest values, K the size of the mask, the share in it (same paper). Values equal
    to the K-th are taken in proportion."""
    count = int(mask.sum())
    last = np.partition(heat, heat.size - count, axis=None)[heat.size - count]
    above, level = heat > last, heat == last
    return float((mask[above].sum() + (count - above.sum()) * mask[level].mean()) / count)


def marks(heat: Heat, drawn: Drawn) -> dict[str, float]:
    """All marks of one map that the clip allows: none in space where the camera moves (all of the
    frame is truth then), none in time where the action lasts the whole clip."""
    start, end = drawn.action
    acting = (drawn.times >= start) & (drawn.times <= end)  # (T,)
    found = {}
    if not drawn.camera_moves:
        mask = drawn.truth.mask
        found["pointing"] = pointing(heat, mask)
        found["mass"] = relevance_mass(heat, mask)
        found["rank"] = relevance_rank(heat, mask)
    if not acting.all():
        found["time"] = pointing(heat.sum((1, 2)), acting)
    return found


# --- the maps that are marked ---------------------------------------------------------------------


def by_gradient(network: nn.Module, inputs: Tensor, cls: int) -> dict[str, Heat]:
    """Maps of a clip's class by every method of `lib.maps`, at the last layer and one stage
    earlier. inputs (1, 3, T, H, W)."""
    found, classes = {}, torch.tensor([[cls]], device=inputs.device)
    for layer in (None, EARLIER[network.profile.backbone]):
        seen = activations_and_logits(network, inputs, layer, gradient=True)
        size, grid = tuple(inputs.shape[3:]), tuple(seen.activations.shape[3:])
        places = cells(network, seen.layer, size, grid, inputs.shape[2], taps="learned")
        for method in (*(["cam"] if layer is None else []), *GRADIENT_METHODS):
            maps, _ = maps_of(seen, classes, method)  # (1, 1, T, h, w)
            name = method if layer is None else f"{method}, one stage earlier"
            found[name] = on_pixels(maps[0, 0].cpu().numpy(), places, size)
    return found


def by_occlusion(network: nn.Module, inputs: Tensor, cls: int) -> Heat:
    """Map (T, H, W) of one clip's class by covering parts of it; every frame takes its window's."""
    maps, _ = occlusion(network, inputs, WINDOW, STRIDE, progress=False)  # (K, t, h, w)
    sizes = inputs.shape[2:]
    _, *places = (centres(*axis).numpy() for axis in zip(sizes, WINDOW, STRIDE))
    heat = on_pixels(maps[cls].cpu().numpy(), tuple(places), tuple(sizes[1:]))
    return heat.repeat(STRIDE[0], axis=0)


def controls(drawn: Drawn, seed: int = 0) -> dict[str, Heat]:
    """Maps that no network was asked for: what a method has to beat, and the best it could be.

    A blob in the middle; how much each pixel changes from frame to frame; one value everywhere;
    random values on 8x8 cells; and the truth, as 8x8 cells can show it.
    """
    frames = drawn.frames.astype(np.float32)
    t, height, width = frames.shape[:3]
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (height, width)), indexing="ij")
    change = np.abs(np.diff(frames, axis=0)).mean(3)  # (T - 1, H, W)
    change = (np.concatenate([change[:1], change]) + np.concatenate([change, change[-1:]])) / 2
    grid = (np.arange(8) + 0.5) / 8
    squares = drawn.truth.mask.reshape(t, 8, height // 8, 8, width // 8).mean((2, 4))  # (T, 8, 8)
    noise = np.random.default_rng(seed).random((t, 8, 8))
    return {
        "centre blob": np.tile(np.exp(-2 * (x**2 + y**2)), (t, 1, 1)),
        YARDSTICK: gaussian_filter(change, (0, height / 64, width / 64)),
        "constant": np.ones((t, height, width)),
        "random": on_pixels(noise, (grid, grid), (height, width)),
        "oracle": on_pixels(squares, (grid, grid), (height, width)),
    }


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
    """The place of each value in the order from the greatest to the least, as a fraction from 0
    up to 1; equal values in random order."""
    dice = np.random.default_rng(seed).random(heat.size)
    place = np.empty(heat.size)
    place[np.lexsort((dice, -heat.ravel()))] = np.arange(heat.size) / heat.size
    return place.reshape(heat.shape)


def curves(
    network: nn.Module, inputs: Tensor, cls: int, maps: dict[str, Heat], shares: Sequence = SHARES
) -> dict[str, dict[str, float]]:
    """For each map, the areas under its curves of deletion and insertion (Petsiuk et al. 2018,
    arXiv 1806.07421), over places in space and time, from and to each of `BASELINES`.

    inputs (1, 3, T, H, W). Deletion takes the greatest of the map away first, down to the baseline:
    the sooner the probability of `cls` falls, the smaller the area. Insertion starts from the
    baseline: the sooner it rises, the larger.
    """
    at, areas = [0, *shares, 1], {name: {} for name in maps}
    for baseline, make in BASELINES.items():
        base = make(inputs)
        whole, nothing = probabilities(network, torch.cat([inputs, base]), cls)
        for name, heat in maps.items():
            place = torch.from_numpy(descending(heat)).to(inputs.device)  # (T, H, W)
            deleted = [torch.where(place < share, base, inputs) for share in shares]
            inserted = [torch.where(place < share, inputs, base) for share in shares]
            p = probabilities(network, torch.cat(deleted + inserted), cls)
            fall, rise = [whole, *p[: len(shares)], nothing], [nothing, *p[len(shares) :], whole]
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


# --- the parts of a run: rows of figures, one for each clip and map -------------------------------


def truth(network: nn.Module, indices: Sequence[int], seed: int) -> Iterator[list[Row]]:
    """Marks of every method that costs a forward pass or a few, and of the controls."""
    for i, drawn, inputs in drawings(network, indices, seed):
        maps = by_gradient(network, inputs, drawn.class_index) | controls(drawn, i)
        yield [dict(clip=i, map=name, **marks(heat, drawn)) for name, heat in maps.items()]


def costly(network: nn.Module, indices: Sequence[int], seed: int) -> Iterator[list[Row]]:
    """Deletion and insertion for all maps that differ, and the marks of occlusion."""
    device = networks.device_of(network)
    exact = in_form(network, torch.float32, channels_last=True)
    dtype = torch.bfloat16 if networks.fast_bfloat16(device) else torch.float32
    quick = in_form(network, dtype, channels_last=True)  # good enough for a probability
    for i, drawn, inputs in drawings(network, indices, seed):
        cls = drawn.class_index
        maps = by_gradient(network, inputs, cls) | controls(drawn, i)
        for same in ("gradcam", "hirescam"):  # at the last layer, the same as "cam"
            del maps[same]
        maps["occlusion"] = by_occlusion(exact, inputs, cls)
        found = curves(quick, inputs, cls, maps)
        found["occlusion"] |= marks(maps["occlusion"], drawn)
        yield [dict(clip=i, map=name) | areas for name, areas in found.items()]


def drawings(
    network: nn.Module, indices: Sequence[int], seed: int
) -> Iterator[tuple[int, Drawn, Tensor]]:
    """Each index, the clip that is drawn for it, and the network's input (1, 3, T, H, W)."""
    clips = Drawings(indices, seed, network.preprocess.size)
    stream = DataLoader(clips, batch_size=None, num_workers=1)
    for i, drawn in zip(indices, stream):
        yield i, drawn, network.preprocess(drawn.frames).to(networks.device_of(network))


# --- figures --------------------------------------------------------------------------------------


def table(rows: Iterable[Row]) -> dict[str, dict[str, dict]]:
    """For every map, every measure: mean, 95% interval, number of clips.

    The interval is a bootstrap over clips. Beside the `YARDSTICK`, `ahead` is the mean difference
    from it on the same clips with its interval: a method beats it where all of that is above 0.
    """
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        measures = scores.setdefault(row["map"], {})
        for measure in [name for name in row if name not in ("clip", "map")]:
            measures.setdefault(measure, {})[row["clip"]] = row[measure]
    return {
        name: {
            measure: mean(by_clip.values())
            | _ahead(by_clip, scores.get(YARDSTICK, {}).get(measure, {}), name)
            for measure, by_clip in measures.items()
        }
        for name, measures in scores.items()
    }


def _ahead(by_clip: dict[int, float], yardstick: dict[int, float], name: str) -> dict:
    shared = by_clip.keys() & yardstick.keys()
    if name == YARDSTICK or not shared:
        return {}
    difference = mean(by_clip[clip] - yardstick[clip] for clip in sorted(shared))
    return dict(ahead=[difference[k] for k in ("mean", "low", "high")])


def mean(values: Iterable[float]) -> dict[str, float | int]:
    """Mean, 95% bootstrap interval and count, without what is not a number."""
    values = np.array([v for v in values if np.isfinite(v)])
    low = high = average = float(values.mean()) if len(values) else float("nan")
    if len(values) > 1 and np.ptp(values) > 0:
        ci = bootstrap([values], np.mean, n_resamples=2000, method="percentile", rng=0)
        low, high = ci.confidence_interval
    figures = dict(mean=average, low=float(low), high=float(high))
    return {k: round(v, 4) for k, v in figures.items()} | dict(clips=len(values))


# --- the command ----------------------------------------------------------------------------------


def logged(path: Path, about: dict, clips: int, part: Callable) -> list[Row]:
    """The rows of a part for clips 0 to `clips`, one line each in a file that a stopped run goes on
    from; ValueError where the file was begun with other settings."""
    header, *rows = map(json.loads, path.read_text().splitlines()) if path.is_file() else [about]
    if header != about:
        raise ValueError(f"{path} was begun as {header}, not {about}: remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {row["clip"] for row in rows}
    missing = [i for i in range(clips) if i not in done]
    with path.open("a") as file:
        if not file.tell():
            file.write(json.dumps(about) + "\n")
        for new in tqdm(part(missing), total=len(missing), desc=path.stem, unit="clip"):
            # One write for all rows of a clip: it is there, or it is not.
            file.write("".join(json.dumps(row) + "\n" for row in new))
            file.flush()
            rows += new
    return [row for row in rows if row["clip"] < clips]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.faithfulness",
        description="Mark every method, and controls beside it, on the truth of drawn test clips; "
        "see what it does when weights, labels or the clip are changed. A stopped run goes on.",
    )
    parser.add_argument("--weights", type=Path, default=networks.WEIGHTS)
    parser.add_argument("--clips", type=int, default=400, help="marked on the truth (%(default)s)")
    parser.add_argument(
        "--checked", type=int, default=40, help="of them, in the sanity checks (%(default)s)"
    )
    parser.add_argument(
        "--costly", type=int, default=20, help="of them, by occlusion and in curves (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=11, help="another seed draws other clips")
    parser.add_argument("--folder", type=Path, default=Path("runs/faithfulness"))
    parser.add_argument("--record", type=Path, help="JSON file to put the figures in")
    args = parser.parse_args()
    try:
        figures = run(args)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, f"{error}\n")
    text = json.dumps(figures, indent=1) + "\n"
    print(text)
    if args.record:
        write_text(args.record, text)


def run(args: argparse.Namespace) -> dict:
    """All parts, and where the figures come from."""
    from book.experiments import sanity

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = networks.load(args.weights).to(device)
    about = dict(seed=args.seed, weights=sha256(args.weights.read_bytes()).hexdigest()[:16])

    def rows(name: str, part: Callable, clips: int, *more) -> list[Row]:
        return logged(
            args.folder / f"{name}.jsonl",
            about,
            clips,
            lambda indices: part(network, indices, args.seed, *more),
        )

    other, learned = sanity.on_random_labels(network, args.seed, args.folder / "labels")
    few = args.checked
    marked = rows("truth", truth, args.clips)
    return dict(
        command=shlex.join(["python", "-m", "lib.faithfulness", *sys.argv[1:]]),
        hardware=training.hardware(device),
        versions=training.versions(),
        follow=table(rows("follow", sanity.follow, few)),
        weights=table(rows("weights", sanity.weights, few)),
        labels=dict(learned=learned, **table(rows("labels", sanity.labels, few, other))),
        marks=table(marked + rows("costly", costly, args.costly)),
    )


if __name__ == "__main__":
    main()
