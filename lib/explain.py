"""Which parts of which frames speak for a class: class activation maps, kept signed.

`explain` takes a network and a clip and returns an `Explanation`: all that a viewer, a figure or a
measurement needs, and no network. From a shell:

    python -m lib.explain clip.mp4 --out clip.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lib.explanation import FPS, ExplainError, Explanation, class_index, interpolation, nearest
from lib.geometry import cells, steady, steps
from lib.video import Clip, VideoError, read_clip, square

METHODS = ("cam", "gradcam")
WEIGHTS = ("clip", "frame")


def explain(
    network: nn.Module,
    clip: Clip | np.ndarray | str | Path,
    classes: int | str | Iterable[int | str] | None = None,
    layer: str | None = None,
    method: str = "cam",
    *,
    weights: str = "clip",
    label: int | str | None = None,
    mask: np.ndarray | None = None,
    size: int = 256,
    preprocess: Callable[[np.ndarray], Tensor] | None = None,
    class_names: Sequence[str] | None = None,
) -> Explanation:
    """Explain what a network sees in a clip, on every frame, for any number of classes.

    network: takes (N, 3, T, H, W) and gives logits (N, K). Its mode, flags and hooks are left as
        they were found.
    clip: a `Clip`, frames (T, H, W, 3) uint8, or the path of a video. Frames are cropped to a
        square of at most `size` pixels (a video's: exactly `size`); the network sees these.
    classes: names or indices to map; None maps all of them.
    layer: dotted module name; None is the last that gives (N, C, T, h, w) with more than one cell.
    method: "cam", closed form under average pooling and a linear head (Zhou et al. 2016): all
        classes for one forward pass. "gradcam" (Selvaraju et al. 2017), for any layer and head.
    weights: of "gradcam", averaged over the whole "clip" or for each "frame".
    label, mask: the truth where it is known, carried along; mask (T, H, W) bool like the frames.
    preprocess, class_names: for networks without attributes `preprocess` and `classes`.

    A layer with fewer time steps than frames has each step's evidence shared out among the frames
    around it, so the sums stay what they were.

    Raises ExplainError for what the network or layer does not allow, VideoError for the file.
    """
    _check_choice("method", method, METHODS)
    _check_choice("weights", weights, WEIGHTS)
    preprocess = preprocess or getattr(network, "preprocess", None)
    if preprocess is None:
        raise ExplainError("the network has no preprocess: pass preprocess=, frames to input")
    frames, times, mask = _square_clip(clip, size, mask)
    inputs = _inputs(network, preprocess(frames))  # (1, 3, T, H, W)

    seen = activations_and_logits(network, inputs, layer, gradient=method == "gradcam")
    count = seen.logits.shape[1]
    names = list(class_names or getattr(network, "classes", map("class {}".format, range(count))))
    if len(names) != count:
        raise ExplainError(f"{len(names)} class names for {count} logits: pass class_names=")
    wanted = range(count) if classes is None else classes
    wanted = [wanted] if isinstance(wanted, int | str) else wanted
    mapped = [class_index(names, cls) for cls in wanted]
    if not mapped:
        raise ExplainError("classes is empty: name at least one, or None for all")

    if method == "cam":
        maps, logits = class_activation_maps(seen, mapped)
    else:
        maps, logits = _grad_cam_maps(seen, mapped, weights)
    maps, logits = maps[0].cpu().numpy(), logits[0].cpu().numpy()  # (M, t, h, w), (K,)
    bias = _bias(seen.head, maps, logits, mapped)
    y, x = cells(
        network,
        seen.layer,
        size=tuple(inputs.shape[-2:]),
        grid=tuple(maps.shape[-2:]),
        frames=inputs.shape[2],
        taps="learned",
    )
    if maps.shape[1] != len(frames):
        centres = steps(network, seen.layer, inputs.shape[2], maps.shape[1])
        maps = _over_frames(maps, centres, len(frames))
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
        layer=seen.layer,
        label=None if label is None else class_index(names, label),
        mask=mask,
    )


class Seen(NamedTuple):
    """What one forward pass shows."""

    activations: Tensor  # (N, C, T, h, w)
    logits: Tensor  # (N, K)
    layer: str  # name of the module that gave the activations
    head: nn.Linear | None  # the last linear layer that ran


def activations_and_logits(
    network: nn.Module, inputs: Tensor, layer: str | None = None, gradient: bool = False
) -> Seen:
    """One forward pass of `inputs` (N, 3, T, H, W), remembering a layer's output and the logits.

    layer None is the last module (the outermost, where several give the same tensor) whose output
    is (N, C, T, h, w) with more than one cell. Of a module that runs more than once, the last run.

    With `gradient`, the activations are a leaf that the logits depend on, for torch.autograd.grad;
    they are cut off from what lies below, which is neither differentiated nor kept. Leaves of half
    precision are widened to float32. Hooks are gone and modes restored when this returns or raises.
    """
    targets = dict(network.named_modules())
    if layer is not None:
        if layer not in targets or not layer:
            raise ExplainError(f"no layer {layer!r}{nearest(layer, targets)}")
        if isinstance(targets[layer], nn.Linear):
            raise ExplainError(f"layer {layer!r} is linear, with no place in the frame to point at")
    found: dict = {"head": None}

    def remember(name: str):
        def hook(_module, _args, output):
            if not _is_volume(output):
                if name == layer:
                    raise ExplainError(
                        f"layer {name!r} gives {_shape(output)}; choose one that gives "
                        "(N, C, T, h, w) with more than one cell"
                    )
                return None
            if gradient:
                leaf = output.detach()
                leaf = leaf if leaf.dtype in (torch.float32, torch.float64) else leaf.float()
                found.update(layer=name, activations=leaf.requires_grad_())
                return leaf.to(output.dtype).clone()  # a copy: an in-place ReLU may follow
            found.update(layer=name, activations=output if layer is None else output.clone())
            return None

        return hook

    def remember_head(module, _args, _output):
        found["head"] = module

    with (
        steady(network) as handles,
        torch.inference_mode(not gradient),
        torch.set_grad_enabled(gradient),
    ):
        for name, module in targets.items():
            if isinstance(module, nn.Linear):
                handles.append(module.register_forward_hook(remember_head))
            elif name == layer or (layer is None and name):
                handles.append(module.register_forward_hook(remember(name)))
        logits = network(inputs.clone() if inputs.is_inference() else inputs)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ExplainError(f"the network gives {_shape(logits)}; logits (N, K) are needed")
    if not logits.isfinite().all():
        raise ExplainError("the network's logits are not finite; check its weights and preprocess")
    if "activations" not in found:
        where = "no layer ran that" if layer is None else f"layer {layer!r} did not run; none"
        raise ExplainError(f"{where} gives (N, C, T, h, w) with more than one cell")
    return Seen(found["activations"], logits, found["layer"], found["head"])


def class_activation_maps(seen: Seen, mapped: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Class activation maps (N, M, T, h, w) and logits (N, K), float32, in closed form.

    With activations A averaged over (T, h, w) and a linear head W, b (Zhou et al. 2016),
    ``logit_k = b_k + sum_c W_kc mean(A_c)``, so ``map_k = sum_c W_kc A_c / (T h w)`` sums to the
    logit minus the bias. The head is computed again in float32 and held against the network's
    logits; ExplainError if they differ, for then the head is something else.
    """
    head, activations = seen.head, seen.activations.float()
    logits = None
    if head is not None and head.weight.shape == (seen.logits.shape[1], activations.shape[1]):
        weight = head.weight.detach().float()
        bias = 0 if head.bias is None else head.bias.detach().float()
        logits = activations.mean((2, 3, 4)) @ weight.T + bias  # (N, K)
        half = torch.finfo(seen.logits.dtype).bits < 32 or head.weight.dtype.itemsize < 4
        tolerance = (5e-2 if half else 1e-4) * max(1.0, float(seen.logits.abs().max()))
    if logits is None or (logits - seen.logits).abs().max() > tolerance:
        raise ExplainError(
            f"average pooling of layer {seen.layer!r} and the last linear layer do not give this "
            'network\'s logits, as method="cam" needs; use method="gradcam"'
        )
    volume = activations[0, 0].numel()
    maps = torch.einsum("kc,ncthw->nkthw", weight[list(mapped)] / volume, activations)
    return maps, logits


def grad_cam_weights(gradient: Tensor, over: str = "clip") -> Tensor:
    """Grad-CAM's channel weights: the gradient (N, C, T, h, w) of a logit, averaged.

    Over time and space for the "clip" (N, C), equation 1 of Selvaraju et al. 2017; or over space
    alone for each "frame" (N, C, T).
    """
    return gradient.mean((2, 3, 4) if over == "clip" else (3, 4))


def signed_map(activations: Tensor, weights: Tensor) -> Tensor:
    """``sum_c weights_c A_c`` (N, T, h, w), equation 2 of Selvaraju et al. 2017 without its ReLU.

    activations (N, C, T, h, w); weights (N, C), or (N, C, T).
    """
    if weights.ndim == 2:
        weights = weights.unsqueeze(2)
    weights = weights.expand(-1, -1, activations.shape[2])  # (N, C, T)
    return torch.einsum("nct,ncthw->nthw", weights, activations)


def _grad_cam_maps(seen: Seen, mapped: Sequence[int], over: str) -> tuple[Tensor, Tensor]:
    """Grad-CAM maps (N, M, T, h, w) and logits (N, K), float32, by one backward a class."""
    lift = 1024.0 if seen.logits.dtype == torch.float16 else 1.0  # or small gradients become 0
    activations, maps = seen.activations.detach(), []
    with torch.inference_mode(False), torch.enable_grad():
        for k in mapped:
            logit = seen.logits[:, k].sum() * lift  # samples do not mix in evaluation mode
            gradient = None
            if logit.requires_grad:
                (gradient,) = torch.autograd.grad(
                    logit, seen.activations, retain_graph=True, allow_unused=True
                )
            if gradient is None:
                raise ExplainError(f"the logits do not depend on layer {seen.layer!r}")
            maps.append(signed_map(activations, grad_cam_weights(gradient / lift, over)))
    return torch.stack(maps, 1).float(), seen.logits.detach().float()


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


def _inputs(network: nn.Module, inputs: Tensor) -> Tensor:
    """One clip as (1, 3, T, H, W), where and in the precision that the network wants it."""
    inputs = inputs.unsqueeze(0) if inputs.ndim == 4 else inputs
    if inputs.ndim != 5 or len(inputs) != 1:
        raise ExplainError(f"preprocess gives {_shape(inputs)}; (1, 3, T, H, W) is needed")
    parameter = next((p for p in network.parameters() if p.is_floating_point()), inputs)
    return inputs.to(parameter.device, parameter.dtype)


def _is_volume(output) -> bool:
    return isinstance(output, Tensor) and output.ndim == 5 and output[0, 0, 0].numel() > 1


def _shape(output) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__


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
        "--start", type=_seconds, metavar="SECONDS", help="where the 4 seconds begin"
    )
    parser.add_argument(
        "--method", choices=METHODS, default="cam", help="cam: all classes at once (default)"
    )
    parser.add_argument(
        "--layer", metavar="NAME", help="module to explain, for gradcam (default: the last)"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help=".html: a page with the viewer; .gif, .mp4, .webm: original and overlay side by side",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status (2: a file, class or layer is at fault)."""
    options = _parser().parse_args(arguments)
    try:
        _check_suffix(options.out)
        clip = read_clip(options.clip, start=options.start, size=256)
        from lib.networks import load  # after the file is known to be good

        network = load()
        cls = options.cls
        if cls is not None:
            cls = class_index(network.classes, int(cls) if cls.isdecimal() else cls)
        only = [cls] if cls is not None and options.method != "cam" else None
        result = explain(network, clip, only, options.layer, options.method)
        print(result.summary())
        if options.out:
            result.save(options.out, cls)
            print(f"written: {options.out}")
    except (VideoError, ExplainError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _check_suffix(out: str | None) -> None:
    if out is not None and Path(out).suffix.lower() not in {".html", ".gif", ".mp4", ".webm"}:
        raise VideoError(f"{out}: cannot be written; use .html, .gif, .mp4 or .webm")


if __name__ == "__main__":
    sys.exit(main())
