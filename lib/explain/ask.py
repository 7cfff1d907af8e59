"""Ask a network about a clip: what goes in, and what has to come out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from textwrap import shorten

import numpy as np
import torch
from torch import Tensor, nn

from lib.explain.explanation import ExplainError
from lib.explain.volumes import shape_of
from lib.model.networks import evaluation_mode

MOST = 5  # classes that a network of many is asked about, one by one


def network_inputs(network: nn.Module, frames: np.ndarray, preprocess=None) -> Tensor:
    """Frames (T, H, W, 3) uint8 as (1, 3, T, H, W), where and in the precision that the network
    wants them; `preprocess` None is the network's own."""
    preprocess = preprocess or getattr(network, "preprocess", None)
    if preprocess is None:
        raise ExplainError("the network has no preprocess: pass preprocess=, frames to input")
    with told(f"preprocess refuses frames {frames.shape}"):
        inputs = preprocess(frames)
    if not isinstance(inputs, Tensor):
        given = type(inputs).__name__
        raise ExplainError(f"preprocess gives {given}; a tensor (1, 3, T, H, W) is needed")
    inputs = inputs.unsqueeze(0) if inputs.ndim == 4 else inputs
    if inputs.ndim != 5 or inputs.shape[:2] != (1, 3):
        raise ExplainError(f"preprocess gives {tuple(inputs.shape)}; (1, 3, T, H, W) is needed")
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise ExplainError("made by torch.jit, without layers to look at: give what it is made of")
    for name, x in chain(network.named_parameters(), network.named_buffers()):
        if nn.parameter.is_lazy(x):
            raise ExplainError(f"{name} has no shape yet: run the network on a clip first")
        if x.is_meta:
            raise ExplainError(f"{name} is on the meta device, without numbers: load weights first")
        if x.is_inference():
            made = f"{name} was made under torch.inference_mode, and gradients refuse it"
            remedy = "make the network outside, or explain copy.deepcopy(network)"
            raise ExplainError(f"{made}: {remedy}")
    parameter = next((p for p in network.parameters() if p.is_floating_point()), inputs)
    return inputs.to(parameter.device, parameter.dtype)


def ask(network: nn.Module, inputs: Tensor) -> Tensor:
    """The logits (N, K) of a network in evaluation mode. Raises ExplainError where it refuses the
    inputs, in its own words, where it draws random numbers, and for what is not finite logits, with
    where that begins."""
    remedy = ": another size, `frames` or dtype, or a form of lib.model.own.Own?"
    before = _random_states(inputs)
    with told(f"the network refuses clips {tuple(inputs.shape)} {inputs.dtype}", remedy):
        logits = network(inputs)
    if not all(map(torch.equal, before, _random_states(inputs))):
        always = "as by dropout that is always on: no two of its maps are alike"
        raise ExplainError(f"the network draws random numbers, {always}; explain a copy without it")
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        given = f"the network gives {shape_of(logits)}; logits (N, K) are needed"
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


def _random_states(inputs: Tensor) -> list[Tensor]:
    """What PyTorch draws its next random numbers from."""
    on_gpu = [torch.cuda.get_rng_state(inputs.device)] if inputs.is_cuda else []
    return [torch.get_rng_state(), *on_gpu]


def names_of(network: nn.Module, class_names, count: int) -> list[str]:
    """Names of all `count` classes: those given, or else the network's own, or else numbers."""
    names = getattr(network, "classes", None) if class_names is None else class_names
    if isinstance(names, Mapping):  # as of transformers: id2label
        names = [names.get(k, names.get(str(k))) for k in range(count)]
    if isinstance(names, str) or not isinstance(names, Iterable | None):
        raise ExplainError(f"class names {names!r}: a list with a name for each class is needed")
    names = [f"class {k}" for k in range(count)] if names is None else list(names)
    if len(names) != count:
        raise ExplainError(f"{len(names)} class names for {count} logits: pass class_names=")
    if None in names:
        raise ExplainError(f"class {names.index(None)} has no name: name all {count} of them")
    return list(map(str, names))


def most_probable(network: nn.Module, inputs: Tensor, most: int = MOST) -> list[int]:
    """Indices of the classes with the highest logits of one clip (1, 3, T, H, W), highest first:
    what a gradient method, one class after another, shows of a network of many classes."""
    with evaluation_mode(network), torch.inference_mode():
        logits = ask(network, inputs)
    return logits[0].topk(min(most, logits.shape[1])).indices.tolist()


def mixes(network: nn.Module, inputs: Tensor) -> bool:
    """Whether clips of a batch see each other, as where batch norm keeps no statistics: another
    clip beside this one (1, 3, T, H, W) changes its logits, or is refused."""
    close = 1e-3 if inputs.dtype.itemsize > 2 else 3e-2
    with evaluation_mode(network), torch.inference_mode(), suppress(ExplainError):
        beside = ask(network, torch.cat([inputs, -inputs]))
        alone = ask(network, inputs)
        return len(beside) != 2 or bool((beside - alone)[0].abs().max() > close * alone.abs().max())
    return True


def after(module: nn.Module, look: Callable):
    """Have `look` shown the module's output after it has run; what it returns takes its place."""
    return module.register_forward_hook(lambda _module, _arguments, output: look(output))
