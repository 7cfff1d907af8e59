"""Which parts of which frames speak for a class, kept signed.

`explain` takes a network and a clip and returns an `Explanation`: all that a viewer, a figure or a
measurement needs, and no network. From a shell:

    python -m lib.explain clip.mp4 --out clip.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib.data.video import Clip, VideoError, read_clip, square
from lib.explain import occlusion
from lib.explain.explanation import FPS, ExplainError, Explanation, class_index, interpolation
from lib.explain.footprint import Footprint
from lib.explain.geometry import cells, footprint, steps
from lib.explain.maps import GRADIENT_METHODS, Progress, Reshape, activations_and_logits, maps_of

METHODS = ("cam", *GRADIENT_METHODS, "occlusion")
WEIGHTS = ("clip", "frame")
SUFFIXES = (".html", ".gif", ".mp4", ".webm", ".npz")


def explain(
    network: nn.Module,
    clip: Clip | np.ndarray | str | Path,
    classes: int | str | Iterable[int | str] | None = None,
    layer: str | None = None,
    method: str = "cam",
    *,
    weights: str = "clip",
    reshape: Reshape | None = None,
    window: tuple[int, int, int] | None = None,
    stride: tuple[int, int, int] | None = None,
    label: int | str | None = None,
    mask: np.ndarray | None = None,
    size: int = 256,
    preprocess: Callable[[np.ndarray], Tensor] | None = None,
    class_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Explain what a network sees in a clip, on every frame, for any number of classes.

    network: takes (N, 3, T, H, W) and gives logits (N, K). Its mode, flags and hooks are left as
        they were found.
    clip: a `Clip`, frames (T, H, W, 3) uint8, or the path of a video. Frames are cropped to a
        square of at most `size` pixels (a video's: exactly `size`); the network sees these.
    classes: names or indices to map; None maps all of them.
    layer: dotted module name; None is the last that gives (N, C, T, h, w) with more than one cell.
    method: "cam", closed form under average pooling and a linear head (Zhou et al. 2016): all
        classes for one forward pass. For any layer and head, one backward pass a class: "gradcam"
        (Selvaraju et al. 2017), "gradcam++", "hirescam", "layercam"; see `lib.maps`. "occlusion"
        (Zeiler and Fergus 2014): all classes, hundreds of forward passes, and no layer.
    weights: of "gradcam" and "gradcam++", summed up over the whole "clip" or for each "frame".
    reshape: makes (N, C, T, h, w) of what the layer gives, such as a transformer's tokens.
    window, stride: (frames, pixels, pixels) of "occlusion"; None is a quarter of each side, moved
        by its length in time and by half of it in space.
    label, mask: the truth where it is known, carried along; mask (T, H, W) bool like the frames.
    preprocess, class_names: for networks without attributes `preprocess` and `classes`.
    progress: is given the sequence of what takes long (classes, or the batches of "occlusion") and
        yields its items one by one, as tqdm does. None draws a bar for "occlusion".

    A layer with fewer time steps than frames has each step's evidence shared out among the frames
    around it, so the sums stay what they were.

    Raises ExplainError for what the network or layer does not allow, VideoError for the file.
    """
    if isinstance(clip, Clip):
        mask = clip.mask if mask is None else mask
        label = clip.label if label is None else label
    _check_choice("method", method, METHODS)
    _check_choice("weights", weights, WEIGHTS)
    frames, times, mask = _square_clip(clip, size, mask)
    inputs = network_inputs(network, frames, preprocess)  # (1, 3, T, H, W)

    names = class_names or getattr(network, "classes", None)
    if method == "occlusion":
        if layer is not None:
            raise ExplainError("occlusion covers the input: it takes no layer")
        maps, logits, (t, y, x), seen_by_cell = _occlusion(
            network, inputs, window, stride, progress
        )
        names, mapped = _named(names, classes, len(logits))
        maps, layer, bias = maps[mapped], "input", None
    else:
        seen = activations_and_logits(network, inputs, layer, method != "cam", reshape)
        names, mapped = _named(names, classes, seen.logits.shape[1])
        wanted = torch.tensor([mapped], device=inputs.device)
        maps, logits = maps_of(seen, wanted, method, weights, reshape, progress or iter)
        maps, logits = maps[0].cpu().numpy(), logits[0].cpu().numpy()  # (M, t, h, w), (K,)
        layer, bias = seen.layer, _bias(seen.head, maps, logits, mapped)
        t, y, x = _places(network, layer, inputs.shape[2:], maps.shape[1:], len(frames))
        seen_by_cell = None if reshape else footprint(network, layer, inputs.shape[2:])
    if t is not None and len(t) != len(frames):
        maps = _over_frames(maps, t, len(frames))
    return Explanation(
        frames=frames,
        times=times,
        classes=names,
        logits=logits,
        bias=bias,
        maps=maps,
        mapped=mapped,
        cells=(y.astype(np.float32), x.astype(np.float32)),
        method=method,
        layer=layer,
        label=None if label is None else class_index(names, label),
        mask=mask,
        footprint=seen_by_cell,
    )


def _named(names, classes, count: int) -> tuple[list[str], list[int]]:
    """Names of all `count` classes, and the indices of those to map."""
    names = list(names or map("class {}".format, range(count)))
    if len(names) != count:
        raise ExplainError(f"{len(names)} class names for {count} logits: pass class_names=")
    wanted = range(count) if classes is None else classes
    wanted = [wanted] if isinstance(wanted, int | str) else wanted
    mapped = [class_index(names, cls) for cls in wanted]
    if not mapped:
        raise ExplainError("classes is empty: name at least one, or None for all")
    return names, mapped


def _places(network: nn.Module, layer: str, size, grid, frames: int):
    """Centres of a layer's cells as fractions of an input of `size` (T, H, W): time steps (t,), or
    None where there is one a frame; rows (h,); columns (w,)."""
    t = None if grid[0] == frames else steps(network, layer, size[0], grid[0])
    return t, *cells(network, layer, tuple(size[1:]), tuple(grid[1:]), size[0], taps="learned")


def _occlusion(network: nn.Module, inputs: Tensor, window, stride, progress):
    """Maps of all classes (K, t, h, w), logits (K,), the centres of the places, and the window."""
    sizes = tuple(inputs.shape[2:])
    window = window or tuple(max(1, size // 4) for size in sizes)
    stride = stride or (window[0], max(1, window[1] // 2), max(1, window[2] // 2))
    maps, logits = occlusion.occlusion(network, inputs, window, stride, progress=progress or True)
    places = [occlusion.centres(*axis).numpy() for axis in zip(sizes, window, stride)]
    box = tuple((side / 2, side / 2) for side in window)
    covered = Footprint(sizes, tuple(map(float, stride)), half=box, core=box, field=box)
    return maps.cpu().numpy(), logits.cpu().numpy(), places, covered


def _bias(head: nn.Linear | None, maps, logits, mapped: Sequence[int]) -> np.ndarray | None:
    """The head's bias (K,), or None where map plus bias is not the logit."""
    if head is None or head.out_features != len(logits):
        return None
    bias = np.zeros_like(logits)
    if head.bias is not None:
        bias = head.bias.detach().float().cpu().numpy()
    total = maps.sum((1, 2, 3), dtype=np.float64) + bias[mapped]
    tolerance = 1e-4 * max(1.0, float(abs(logits).max()))
    return bias if np.allclose(total, logits[mapped], rtol=0, atol=tolerance) else None


def _over_frames(maps: np.ndarray, centres: np.ndarray, frames: int) -> np.ndarray:
    """Share the steps of maps (M, t, h, w) out among T frames: (M, T, h, w) with the same sums."""
    if len(centres) > frames:
        raise ExplainError(f"the layer has {len(centres)} steps, more than {frames} frames")
    share = interpolation(centres, frames)  # (T, t)
    return np.einsum("fs,mshw->mfhw", share / share.sum(0), maps).astype(np.float32)


def _square_clip(clip, size: int, mask) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Square frames (T, S, S, 3), times (T,) and mask (T, S, S) of whatever names a clip."""
    if isinstance(clip, str | Path):
        clip = read_clip(clip, size=size)
    frames = clip.frames if isinstance(clip, Clip) else np.asarray(clip)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ExplainError(
            f"clip: (T, H, W, 3) uint8 wanted, got {frames.shape} {frames.dtype}; "
            "lib.video.read_clip gives such frames"
        )
    times = clip.times if isinstance(clip, Clip) else np.arange(len(frames)) / FPS
    if mask is not None:
        mask = np.asarray(mask)
        if mask.shape != frames.shape[:3]:
            raise ExplainError(f"mask: {frames.shape[:3]} wanted like the frames, got {mask.shape}")
        mask = _square(np.repeat(mask[..., None] * np.uint8(255), 3, axis=3), size)[..., 0] > 127
    return _square(frames, size), times, mask


def _square(frames: np.ndarray, size: int) -> np.ndarray:
    """Centre crop to a square, made smaller if larger than `size`."""
    side = min(size, *frames.shape[1:3])
    return frames if frames.shape[1:3] == (side, side) else square(frames, side)


def network_inputs(
    network: nn.Module,
    frames: np.ndarray,
    preprocess: Callable[[np.ndarray], Tensor] | None = None,
) -> Tensor:
    """Frames (T, H, W, 3) uint8 as (1, 3, T, H, W), where and in the precision that the network
    wants them; `preprocess` None is the network's own."""
    preprocess = preprocess or getattr(network, "preprocess", None)
    if preprocess is None:
        raise ExplainError("the network has no preprocess: pass preprocess=, frames to input")
    inputs = preprocess(frames)
    inputs = inputs.unsqueeze(0) if inputs.ndim == 4 else inputs
    if inputs.ndim != 5 or len(inputs) != 1:
        raise ExplainError(f"preprocess gives {tuple(inputs.shape)}; (1, 3, T, H, W) is needed")
    parameter = next((p for p in network.parameters() if p.is_floating_point()), inputs)
    return inputs.to(parameter.device, parameter.dtype)


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ExplainError(f"{name}={value!r}: choose one of {', '.join(known)}")


# --- the command line ---------------------------------------------------------------------------


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: seconds from the start of the video, 0 or more")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib.explain",
        description="Show what the trained network sees in a video: prints the two most probable "
        "classes, and writes the evidence on every frame.",
        epilog="example: python -m lib.explain clip.mp4 --out clip.html",
    )
    parser.add_argument("clip", help="a video file: 16 frames, 4 a second, from its middle")
    parser.add_argument(
        "--class",
        dest="cls",
        metavar="NAME|INDEX",
        help="class whose evidence is shown (default: the most probable)",
    )
    parser.add_argument(
        "--versus",
        metavar="NAME|INDEX",
        help="why not this one? the evidence for --class less the evidence for this class",
    )
    parser.add_argument(
        "--start", type=_seconds, metavar="SECONDS", help="where the 4 seconds begin"
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="cam",
        help="cam: all classes at once (default); the others one by one",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="module to explain, for the methods after cam (default: the last)",
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="of a network trained by lib.training (default: ours)"
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help=".html: a page with the viewer; .gif, .mp4, .webm: original and overlay side by side; "
        ".npz: the numbers",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status (2: a file, class or layer is at fault)."""
    options = _parser().parse_args(arguments)
    try:
        _check_suffix(options.out)
        clip = read_clip(options.clip, start=options.start, size=256)
        from lib.model.networks import load  # after the file is known to be good

        network = load(options.weights) if options.weights else load()
        shown, versus = (_class(network.classes, c) for c in (options.cls, options.versus))
        named = [c for c in (shown, versus) if c is not None]
        # One class is a backward pass: only those asked for, if the first of them is.
        only = named if shown is not None and options.method in GRADIENT_METHODS else None
        result = explain(network, clip, only, options.layer, options.method)
        print(result.summary())
        if versus is not None:
            print(result.why(shown, versus))
        if options.out:
            result.save(options.out, shown, versus)
            print(f"written: {options.out}")
    except (VideoError, ExplainError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _class(names: Sequence[str], cls: str | None) -> int | None:
    return None if cls is None else class_index(names, int(cls) if cls.isdecimal() else cls)


def _check_suffix(out: str | None) -> None:
    if out is not None and Path(out).suffix.lower() not in SUFFIXES:
        raise VideoError(f"{out}: cannot be written; use {', '.join(SUFFIXES)}")


if __name__ == "__main__":
    sys.exit(main())
