"""Ask a network about a clip: what goes in, and what has to come out."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from textwrap import shorten

import numpy as np
import torch
from torch import Tensor, nn

from lib.explain.explanation import ExplainError
from lib.explain.volumes import shape_of
from lib.model.networks import Preprocess, evaluation_mode

MOST = 5  # classes that a network of many is asked about, one by one


def network_inputs(network: nn.Module, frames: np.ndarray, preprocess=None) -> Tensor:
    """Frames (T, H, W, 3) uint8 as (1, 3, T, H, W), where and in the precision that the network
    wants them; `preprocess` None is the network's own."""
    if not isinstance(network, nn.Module):
        raise ExplainError(f"network: {network!r:.60} is no module; lib.model.hub.load takes names")
    preprocess = preprocess or getattr(network, "preprocess", None)
    if preprocess is None:
        raise ExplainError("no preprocess: pass preprocess=, or put the network in lib.model.Own")
    with told(f"preprocess refuses frames {frames.shape}"), steady("preprocess"):
        inputs = preprocess(frames)
    is_tensor = isinstance(inputs, Tensor)
    inputs = inputs.unsqueeze(0) if is_tensor and inputs.ndim == 4 else inputs
    if not is_tensor or inputs.ndim != 5 or inputs.shape[:2] != (1, 3):
        raise ExplainError(f"preprocess gives {shape_of(inputs)}; (1, 3, T, H, W) is needed")
    if any(isinstance(m, torch.jit.ScriptModule) or "eval" in vars(m) for m in network.modules()):
        raise ExplainError("made by torch.jit or .export, without layers: give what it is made of")
    for name, x in chain(network.named_parameters(), network.named_buffers()):
        if nn.parameter.is_lazy(x):
            raise ExplainError(f"{name} has no shape yet: run the network on a clip first")
        if x.is_meta:
            raise ExplainError(f"{name} is on the meta device, without numbers: load weights first")
        if x.is_inference():
            remedy = "make the network outside, or explain copy.deepcopy(network)"
            raise ExplainError(f"{name} was made under torch.inference_mode: {remedy}")
    parameter = next((p for p in network.parameters() if p.is_floating_point()), inputs)
    return inputs.to(parameter.device, parameter.dtype)


def crops(preprocess: Callable, shape: Sequence[int]) -> bool:
    """Whether `preprocess` keeps an edge of the frames (T, S, S, 3) from the network. ExplainError
    where it turns them over, or gives other frames: a map would lie in the wrong place."""
    (count, side), edge = shape[:2], max(2, shape[1] // 64)
    if isinstance(preprocess, Preprocess) or side < 16:
        return False
    framed, shaded, moving = np.zeros((3, *shape), np.uint8)
    framed[:, :edge] = framed[:, -edge:] = framed[:, :, :edge] = framed[:, :, -edge:] = 255
    down, across = np.mgrid[:side, :side] / side  # the left is brighter, the top more so
    shaded += (240 - 150 * down - 90 * across).astype(np.uint8)[None, ..., None]
    for frame, x in zip(moving, np.linspace(0.3, 0.7, count) * side):
        frame[:, round(x) - side // 16 : round(x) + side // 16] = 200  # a bar that moves right
    try:
        probes = [preprocess(x).float().flatten(0, -4).mean(0) for x in (framed, shaded, moving)]
    except Exception:  # it asks more of frames than these have
        return True
    seen, shade, bars = probes[0].mean(0), probes[1].mean(0), probes[2].mean(1)  # (T, W)
    seen = (seen - seen[len(seen) // 2, seen.shape[1] // 2]).abs()  # whatever it normalises by
    edges = [line.mean() for line in (*seen[[0, -1]], *seen.T[[0, -1]])]
    cut = not min(edges) > 0.2 * max(edges)
    bars = bars - bars.median(1, keepdim=True).values
    shade = shade if bars.sum() >= 0 else -shade  # of colours turned round
    fall = [x[: len(x) // 2].mean() - x[len(x) // 2 :].mean() for x in (shade, shade.T)]
    if fall[1] < 0 or fall[0] < fall[1]:
        raise ExplainError("preprocess mirrors or turns the frames: do that to the clip instead")
    places = bars.abs() @ torch.linspace(0, 1, bars.shape[1]).to(bars) / bars.abs().sum(1)
    given = (places - 0.3) / 0.4 * (count - 1)  # the number of each frame
    step = count / len(given)
    even = (torch.arange(len(given)) + 0.5).to(given) * step - 0.5
    apart = (given - even)[given.isfinite()].abs()
    in_order = (given[given.isfinite()].diff() > -1e-3 * count).all()
    moved = not cut and (apart > max(0.6, step / 2) + count / (0.4 * side)).any()
    if count > 1 and (moved or not in_order):
        raise ExplainError("preprocess leaves out or reorders frames: do that to the clip instead")
    return cut


def ask(network: nn.Module, inputs: Tensor) -> Tensor:
    """The logits (N, K) of a network in evaluation mode. Raises ExplainError where it refuses the
    inputs, in its own words, where it draws random numbers, and for what is not finite logits, with
    where that begins."""
    remedy = ": another size, `frames` or dtype, or a form of lib.model.own.Own?"
    refuses = f"the network refuses clips {tuple(inputs.shape)} {inputs.dtype}"
    with told(refuses, remedy), steady("the network"):
        logits = network(inputs)
    plain = isinstance(logits, Tensor) and logits.layout == torch.strided and not logits.is_meta
    if not plain or not logits.is_floating_point() or logits.ndim != 2 or not logits.shape[1]:
        given = f"the network gives {shape_of(logits)}; logits (N, K) are needed, as floats"
        raise ExplainError(f"{given}: put it in a module whose forward returns them")
    if logits.isfinite().all():
        return logits
    wrong = [] if inputs.isfinite().all() else ["the input, which preprocess gives"]

    def look(name: str, output) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            wrong.append(f"layer {name!r}")

    with evaluation_mode(network) as handles, torch.inference_mode():
        for name, module in network.named_modules():
            handles.append(after(module, partial(look, name)))
        network(inputs)
    first = [*wrong, "what comes after all layers"][0]
    raise ExplainError(f"the logits are not finite; the first that is not finite is {first}")


@contextmanager
def told(what: str, remedy: str = "") -> Iterator[None]:
    """Whatever code that is not ours raises inside leaves as an ExplainError: `what`, and why."""
    try:
        yield
    except (ExplainError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of any kind
        why = shorten(f"{type(error).__name__}: {error}", 300)
        raise ExplainError(f"{what} ({why}){remedy}") from error


@contextmanager
def steady(who: str) -> Iterator[None]:
    """ExplainError where `who` draws a number from what Python, NumPy and PyTorch share."""

    def states() -> list:
        on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        each = [x.numpy().tobytes() for x in (torch.get_rng_state(), *on_gpus)]
        return [random.getstate(), repr(np.random.get_state()), *each]

    before = states()
    yield
    if any(then != now for then, now in zip(before, states())):  # a GPU may have come into use
        remedy = "as in training, or by dropout that is always on: explain a copy without it"
        raise ExplainError(f"{who} draws random numbers, {remedy}")


def names_of(network: nn.Module, class_names, count: int) -> list[str]:
    """Names of all `count` classes: those given, or else the network's own, or else numbers."""
    names = getattr(network, "classes", None) if class_names is None else class_names
    if isinstance(names, Mapping):  # as of transformers: id2label
        names = [names.get(k, names.get(str(k))) for k in range(count)]
    if isinstance(names, str | Set) or not isinstance(names, Iterable | None):
        raise ExplainError(f"class names {names!r}: a list with a name for each class is needed")
    names = [f"class {k}" for k in range(count)] if names is None else list(names)
    if len(names) != count:
        given = f"{len(names)} class names for {count} logits"
        raise ExplainError(f"{given}: pass class_names=, or classes= of Own")
    if None in names:
        raise ExplainError(f"class {names.index(None)} has no name: name all {count} of them")
    return list(map(str, names))


def most_probable(network: nn.Module, inputs: Tensor, most: int = MOST) -> list[int]:
    """Indices of the classes with the highest logits of one clip (1, 3, T, H, W), highest first:
    what a gradient method, one class after another, shows of a network of many classes."""
    logits = asked(network, inputs)
    return logits[0].topk(min(most, logits.shape[1])).indices.tolist()


def asked(network: nn.Module, inputs: Tensor) -> Tensor:
    """The logits (N, K), without gradients; the network forgets the clips."""
    with evaluation_mode(network), torch.inference_mode():
        return ask(network, inputs)


def mixes(network: nn.Module, inputs: Tensor) -> bool:
    """Whether clips of a batch see each other, as where batch norm keeps no statistics: another
    clip beside this one (1, 3, T, H, W) changes its logits, or is refused."""
    close, alone = 1e-3 if inputs.dtype.itemsize > 2 else 3e-2, asked(network, inputs)[0]
    with suppress(ExplainError):
        both = asked(network, torch.cat([inputs, inputs / 2]))
        return len(both) != 2 or bool((both[0] - alone).abs().max() > close * alone.abs().max())
    return True


def after(module: nn.Module, look: Callable):
    """Have `look` shown the module's output after it has run; what it returns takes its place."""
    return module.register_forward_hook(lambda _module, _arguments, output: look(output))
