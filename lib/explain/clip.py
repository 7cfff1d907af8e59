"""`explain`: which parts of which frames speak for a class, kept signed."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm

from lib.data.video import Clip, read_clip, square
from lib.explain import occlusion
from lib.explain.ask import crops, mixes, names_of, network_inputs, told
from lib.explain.explanation import FPS, ExplainError, Explanation, class_index
from lib.explain.maps import GRADIENT_METHODS, OneByOne, Reshape, maps_of, watching
from lib.explain.overlay import interpolation
from lib.explain.receptive_field import ReceptiveField, measure, tap_energies

METHODS = ("cam", *GRADIENT_METHODS, "occlusion")
CROPS = "preprocess crops, or cannot be followed: cells are drawn as if the network saw all"
SOFTMAX = "the network ends in a softmax: these are maps of probabilities, not of logits"


def explain(
    network: nn.Module,
    clip: Clip | np.ndarray | str | Path,
    classes: int | str | Iterable[int | str] | None = None,
    layer: str | None = None,
    method: str | None = None,
    *,
    motion: bool = False,
    reshape: Reshape | None = None,
    window: tuple[int, int, int] | None = None,
    stride: tuple[int, int, int] | None = None,
    size: int = 256,
    preprocess: Callable[[np.ndarray], Tensor] | None = None,
    class_names: Sequence[str] | None = None,
    progress: OneByOne | None = None,
) -> Explanation:
    """Explain what a network sees in a clip, on every frame, for any number of classes.

    network: takes (N, 3, T, H, W) and gives logits (N, K). Its mode, flags and hooks are left as
        they were found.
    clip: a `Clip`, with its true label and mask where they are known; frames (T, H, W, 3) uint8; or
        the path of a video. Frames are cropped to a square of at most `size` pixels (a video's:
        exactly `size`); the network sees these. A video is read with the network's `frames` and
        `fps`, or else 16 frames at 4 a second.
    classes: names or indices to map; None maps all of them.
    layer: dotted module name; None is the network's `default_layer`, or else the last that gives
        (N, C, T, h, w) with more than one cell.
    method: "cam", closed form under average pooling and a linear head (Zhou et al. 2016): all
        classes for one forward pass. For any layer and head, one backward pass a class: "gradcam"
        (Selvaraju et al. 2017), "gradcam++", "hirescam", "layercam"; see `lib.explain.maps`.
        "occlusion" (Zeiler and Fergus 2014): all classes, hundreds of forward passes, and no layer.
        None is the network's `default_method`, or else "cam".
    motion: also map each frame alone (`frames_alone`), for one more forward pass: what is left of a
        map without it is what the network owes to motion, and a choice in the viewer.
    reshape: makes (N, C, T, h, w) of what the layer gives, such as a transformer's tokens; None is
        the network's own `reshape`, where it has one.
    window, stride: (frames, pixels, pixels) of "occlusion"; None is a quarter of each side, moved
        by its length in time and by half of it in space.
    preprocess, class_names: for networks without attributes `preprocess` and `classes`.
    progress: is given the sequence of what takes long (classes, or the batches of "occlusion") and
        yields its items one by one, as tqdm does. None draws a bar for "occlusion".

    A layer with fewer time steps than frames has each step's evidence shared out among the frames
    around it, so the sums stay what they were.

    Raises ExplainError for what the network or layer does not allow, VideoError for the file.
    """
    method = method or getattr(network, "default_method", "cam")
    if method not in METHODS:
        raise ExplainError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    if method == "occlusion" and (layer is not None or motion):
        raise ExplainError("occlusion covers the input: it takes no layer and no motion=")
    if not isinstance(size, int | np.integer) or size < 1:
        raise ExplainError(f"size={size!r}: a whole number of pixels, 1 or more")
    layer = getattr(network, "default_layer", None) if layer is None else layer
    reshape = reshape or getattr(network, "reshape", None)
    clip = _square_clip(clip, size, *sampling(network))
    preprocess = preprocess or getattr(network, "preprocess", None)
    inputs = network_inputs(network, clip.frames, preprocess)  # (1, 3, T, H, W)
    shape, frames, bias, alone = tuple(inputs.shape[2:]), len(clip), None, None
    notes = [clip.note] * bool(clip.note) + [CROPS] * crops(preprocess, clip.frames.shape)
    given = [np.asarray(sides) for sides in (window, stride) if sides is not None]
    if any(sides.shape != (3,) or sides.dtype.kind not in "iu" for sides in given):
        raise ExplainError("window and stride: three numbers each, of frames, rows and columns")
    if method == "occlusion":
        window = tuple(max(1, side // 4) for side in shape) if window is None else window
        stride = (window[0], *(max(1, w // 2) for w in window[1:])) if stride is None else stride
        progress = progress or partial(tqdm, desc="occlusion", leave=False)
        maps, logits = occlusion.occlusion(network, inputs, window, stride, progress)
        names = names_of(network, class_names, len(logits))
        mapped = _mapped(names, classes)
        maps, layer, reordered = maps[mapped], "input", None
        locate = partial(occlusion.box, shape, window, stride)
    else:
        with watching(network, inputs, layer, method != "cam", reshape) as seen:
            names = names_of(network, class_names, seen.logits.shape[1])
            mapped = _mapped(names, classes)
            wanted = torch.tensor([mapped], device=inputs.device)
            maps, logits = maps_of(seen, wanted, method, progress or iter)
        maps, logits, layer = maps[0], logits[0], seen.layer  # (M, t, h, w), (K,)
        hooked = method != "cam" and network.get_submodule(layer)._forward_hooks
        notes += [f"what hooks of {layer!r} keep for later layers is not followed"] * bool(hooked)
        notes += [f"layer {layer!r} ran {seen.runs} times: this is the last"] * (seen.runs > 1)
        bias = _bias(seen.head, maps, logits, mapped)
        if motion:
            alone = frames_alone(network, inputs, mapped, layer, method, reshape).cpu().numpy()
        grid, energies = tuple(maps.shape[1:]), tap_energies(network)
        reordered = partial(_reordered, network, inputs, layer, seen.reshape)
        locate = partial(measure, network, layer, shape, grid, seen.reshape, energies)
    maps, logits = maps.cpu().numpy(), logits.cpu().numpy()
    if (steps := maps.shape[1]) != frames:
        maps = _over_frames(maps, locate().centres(0, steps), frames)
    close = 1e-5 if inputs.dtype.itemsize > 2 else 1e-2
    probable = len(logits) > 1 and abs(logits.sum() - 1) < close and (logits >= 0).all()
    notes += [SOFTMAX] * bool(probable)
    grid = steps, *maps.shape[2:]
    geometry = cache(lambda: _geometry(locate(), grid, frames, notes, reordered))
    return Explanation(
        frames=clip.frames,
        times=clip.times,
        classes=names,
        logits=np.log(logits.clip(1e-12)) if probable else logits,
        bias=None if probable else bias,
        maps=maps,
        mapped=mapped,
        method=method,
        layer=layer,
        label=names.index(clip.label) if names.count(clip.label) == 1 else None,
        mask=clip.mask,
        alone=alone,
        cells=lambda: geometry()[0],
        footprint=lambda: geometry()[1],
        geometry_note=lambda: geometry()[2],
    )


def frames_alone(
    network: nn.Module,
    inputs: Tensor,
    classes: Sequence[int],
    layer: str | None = None,
    method: str = "cam",
    reshape: Reshape | None = None,
) -> Tensor:
    """Maps (M, T, h, w) of M classes for each frame of a clip (1, 3, T, H, W) alone, as a clip of
    one frame, over their number: by "cam" they sum to the frames' mean logit minus the bias.

    Where a network continues a clip by its last frame, as ours does, or looks at no other frame, it
    is the clip that stands still at that frame. ExplainError where it takes no single frame.
    """
    stills = inputs[0].transpose(0, 1).unsqueeze(2)  # (T, 3, 1, H, W)
    wanted = torch.tensor([classes], device=inputs.device).expand(len(stills), -1)
    try:
        if mixes(network, stills[:1]):
            raise ExplainError("the network mixes the frames of a batch")
        with watching(network, stills, layer, method != "cam", reshape) as seen:
            maps, _ = maps_of(seen, wanted, method)  # (T, M, t, h, w)
    except Exception as error:  # networks raise many kinds
        raise ExplainError(f"motion: no frame can be mapped alone here ({error})") from error
    return maps.sum(2).transpose(0, 1) / len(stills)


def _reordered(network, inputs: Tensor, layer: str, reshape: Reshape | None, axes) -> list[int]:
    """Those axes (0 to 2) along which a layer's cells do not lie as the clip does: where its later
    half turns grey, not its earlier, later cells should change more, along no other axis more."""

    def activations(axis: int, half: slice) -> Tensor:  # (C, t, h, w), that half of the clip grey
        grey = inputs.clone().movedim(axis + 2, 0)
        grey[half] = 0
        with watching(network, grey.movedim(0, axis + 2), layer, reshape=reshape) as seen:
            return seen.activations[0].float().cpu()

    whole, wrong = activations(0, slice(0)), []
    for axis in axes:
        found, mid = [], inputs.shape[axis + 2] // 2
        changed = [(activations(axis, s) - whole).abs() for s in (slice(mid), slice(mid, None))]
        for i, cells in enumerate(whole.shape[1:], start=1):
            ends = torch.linspace(-1, 1, cells) if cells > 1 else torch.zeros(1)
            early, late = (normalize(x.movedim(i, 0).flatten(1).sum(1), 1, 0) for x in changed)
            found.append(float(ends @ (late - early)))
        follows = not any(found) or found[axis] >= max(1e-6, *map(abs, found))
        wrong += [axis] * (whole.shape[axis + 1] > 1 and not follows)
    return wrong


def _geometry(field: ReceptiveField, grid, frames: int, notes: list[str], reordered) -> tuple:
    """The cells' centres as fractions of the frame, what a cell sees, and what to say of them."""
    unknown, along = np.isnan(field.first), ("time", "height", "width")  # (3,)
    for axis in np.flatnonzero(np.array(field.stride) < 0):
        said = f"cells lie the other way round along {along[axis]}"
        raise ExplainError(f"{said}: the network, or reshape=, has to turn them back")
    for axis in reordered(np.flatnonzero(unknown)) if reordered and unknown.any() else ():
        said = f"cells do not change where the clip does along {along[axis]}"
        raise ExplainError(f"{said}: the network reorders it, so no picture is right")
    away = field.centres(0, grid[0]) * frames - np.arange(grid[0]) - 0.5
    if grid[0] == frames > 1 and abs(away).max() > 0.9:  # fewer are shared out by these centres
        said = f"each cell looks {away[0]:+.1f} frames away from its own, as in a causal network"
        raise ExplainError(f'{said}: use method="occlusion", or a reshape= that shifts them')
    if unknown[1:].any():
        notes = [*notes, "where cells look could not be measured: they are spread evenly"]
    elif unknown[0]:
        notes = [*notes, "how far cells look along time could not be measured"]
    cells = tuple(field.centres(i, n).astype(np.float32) for i, n in enumerate(grid) if i)
    return cells, None if unknown.any() else field, "; ".join(notes)


def _mapped(names: list[str], classes) -> list[int]:
    """Indices of the classes to map."""
    one = isinstance(classes, str) or getattr(classes, "shape", 0) == ()  # of numpy and torch, too
    if classes is None:
        classes = range(len(names))
    elif one or not isinstance(classes, Iterable):
        classes = [classes]
    mapped = [class_index(names, cls) for cls in classes]
    if not mapped:
        raise ExplainError("classes is empty: name at least one, or None for all")
    return mapped


def _bias(head: nn.Linear | None, maps: Tensor, logits: Tensor, mapped: Sequence[int]):
    """The head's bias (K,), or None where map plus bias is not the logit."""
    if head is None or head.out_features != len(logits):
        return None
    bias = torch.zeros_like(logits) if head.bias is None else head.bias.detach().float()
    total = maps.sum((1, 2, 3), dtype=torch.float64) + bias[mapped]
    rounded = maps.abs().sum((1, 2, 3))  # what sums of this size may be off by
    tolerance = 1e-4 * ((logits - bias)[mapped].abs() + 0.1 * rounded + 0.01 * logits[mapped].abs())
    adds_up = ((total - logits[mapped]).abs() <= tolerance).all()
    return bias.cpu().numpy() if adds_up else None


def _over_frames(maps: np.ndarray, steps: np.ndarray, frames: int) -> np.ndarray:
    """Share the steps of maps (M, t, h, w) out among T frames: (M, T, h, w) with the same sums."""
    if len(steps) > frames:
        given = f"the layer has {len(steps)} steps, more than {frames} frames"
        raise ExplainError(f"{given}: does reshape= have to change the order of its axes?")
    share = interpolation(steps, frames)  # (T, t)
    nearest = (steps * frames - 0.5).round().clip(0, frames - 1).astype(int)
    lost = np.flatnonzero(share.sum(0) == 0)  # steps centred beyond the first or last frame
    share[nearest[lost], lost] = 1
    return np.einsum("fs,mshw->mfhw", share / share.sum(0), maps).astype(np.float32)


def sampling(network: nn.Module) -> tuple[int, float]:
    """How many frames, and how many of them a second, a network wants of a video."""
    count, fps = getattr(network, "frames", 16), getattr(network, "fps", FPS)
    good = isinstance(count, int | np.integer) and isinstance(fps, int | float | np.number)
    if not good or not (count > 0 and 0 < fps < np.inf):
        raise ExplainError(f"the network wants frames={count!r}, fps={fps!r}: not numbers above 0")
    return count, fps


def _square_clip(clip, size: int, count: int, fps: float) -> Clip:
    """A square `Clip` of whatever names one."""
    if isinstance(clip, str | Path):
        clip = read_clip(clip, count, fps, size=size)
    elif not isinstance(clip, Clip):
        with told("clip: frames (T, H, W, 3) uint8 are needed"):
            clip = np.atleast_1d(np.asarray(clip))
        clip = Clip(clip, np.arange(len(clip)) / fps)
    frames, mask = clip.frames, clip.mask
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        given = f"not {frames.shape} {frames.dtype}; lib.data.read_clip gives such frames"
        raise ExplainError(f"clip: (T, H, W, 3) uint8 is needed, {given}")
    side = min(size, *frames.shape[1:3])
    if mask is not None:
        if np.shape(mask) != frames.shape[:3]:
            raise ExplainError(f"mask: {frames.shape[:3]} is needed like the frames")
        mask = np.repeat(np.asarray(mask)[..., None] * np.uint8(255), 3, axis=3)
        mask = square(mask, side)[..., 0] > 127
    if frames.shape[1:3] != (side, side):
        frames = square(frames, side)
    frames = np.ascontiguousarray(frames)  # it may be played backwards
    return Clip(frames, clip.times, clip.label, mask, clip.note)
