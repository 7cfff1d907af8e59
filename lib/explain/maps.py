"""From what a layer saw to a map of the evidence: the formulas, signed, in float32.

One forward pass remembers a layer's activations A (N, C, T, h, w), by which the logits can be
differentiated. `maps_of` turns both into maps (N, M, T, h, w) for any batch.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lib.explain.ask import after, ask, told
from lib.explain.explanation import ExplainError, nearest
from lib.explain.volumes import PERHAPS, SEEMS, Reader, Reshape, shape_of
from lib.model.framewise import Clipwise, Framewise
from lib.model.networks import evaluation_mode

UNRELATED = "no gradient at layer {!r}: no logit depends on it, or no_grad, use_reentrant hide it"
NOTHING = "the map at layer {!r} is zero everywhere: no logit depends on it; choose an earlier one"
OneByOne = Callable[[Sequence], Iterable]  # such as tqdm


class Seen(NamedTuple):
    """What one forward pass shows."""

    activations: Tensor  # (N, C, T, h, w)
    logits: Tensor  # (N, K)
    layer: str  # name of the module that gave the activations
    head: nn.Linear | None  # the last linear layer that ran
    reshape: Reshape | None  # what made the activations of the layer's output
    runs: int = 1  # how often it ran: the activations are those of the last time
    leaf: Tensor | None = None  # that output, where the logits can be differentiated by it


@contextmanager
def watching(
    network: nn.Module, inputs: Tensor, layer=None, gradient=False, reshape: Reshape | None = None
) -> Iterator[Seen]:
    """One forward pass of `inputs` (N, 3, T, H, W), remembering a layer's output and the logits.

    layer None is the last module (the outermost, where several give the same tensor) whose output
    is (N, C, T, h, w) with more than one cell, and no Identity that hands on another's. Of a module
    that runs more than once, the last run. `reshape` makes (N, C, T, h, w) of another form, such as
    a transformer's tokens.

    With `gradient`, the activations are a leaf that the logits depend on, cut off from what lies
    below, and float32 at least. Differentiate inside the `with` block: a network that recomputes
    runs again then, and needs its hooks and evaluation mode.
    """
    modules, volume_of = dict(network.named_modules()), Reader(network, inputs, reshape)
    names = dict(network.named_modules(remove_duplicate=False))
    if layer is not None and (not isinstance(layer, str) or layer not in {*names} - {""}):
        raise ExplainError(f"no layer {layer!r}{nearest(str(layer), names)}")
    layer = next((name for name, m in modules.items() if m is names.get(layer)), None)
    if layer is not None and isinstance(modules[layer], nn.Linear) and reshape is None:
        raise ExplainError(f"layer {layer!r} is linear, with no cells in the frame to point at")
    not_alone = tuple(f"{n}." for n, m in modules.items() if isinstance(m, Framewise))
    for name in (n[:-1] for n in not_alone if str(layer).startswith(n)):
        if not any(isinstance(m, Clipwise) for m in modules[name].modules()):
            raise ExplainError(f"layer {layer!r} is given some frames at a time: name {name!r}")
    found, runs = {"head": None}, Counter()

    def remember(name: str, output) -> Tensor | None:
        if isinstance(modules[name], nn.Identity) and output is found.get("given"):
            return None
        runs[name] += 1
        volume, refused = volume_of(output)
        if refused:
            why = f"layer {name!r} gives {shape_of(output)}{refused}"
            if layer is not None or refused in SEEMS:
                raise ExplainError(why)
            if refused is PERHAPS:
                found["perhaps"] = why
            return None
        found.update(layer=name, activations=volume if layer is None else volume.clone())
        found["reshape"] = volume_of.unfold
        if not gradient:
            found["passed"], found["given"] = None if layer is None else output, output
            return None
        if not isinstance(output, Tensor):
            said = "a gradient needs one tensor, so name a layer that gives it"
            raise ExplainError(f"layer {name!r} gives {shape_of(output)}: {said}")
        leaf = output.detach()
        leaf = leaf if leaf.dtype in (torch.float32, torch.float64) else leaf.float()
        found.update(leaf=leaf.requires_grad_(), activations=volume_of(leaf.detach())[0])
        # A copy: an in-place ReLU may follow.
        found["passed"] = found["given"] = leaf.to(output.dtype).clone()
        return found["passed"]

    def settle(_module=None, given: tuple | None = None) -> None:
        """What code makes of it in place, as F.relu can, before another layer sees it, counts."""
        passed = found.get("passed")
        if passed is None or not (given is None or any(x is passed for x in given)):
            return
        found["passed"], now = None, passed.detach() if gradient else passed
        volume = now if found["reshape"] is None else found["reshape"](now)
        if torch.equal(volume, found["activations"].to(volume.dtype)):
            return
        found["activations"] = volume.clone()
        if gradient and passed.requires_grad:
            leaf = found["leaf"] = now.to(found["leaf"].dtype, copy=True).requires_grad_()
            found["activations"] = volume.to(leaf.dtype, copy=True)
            passed.register_hook(lambda g: setattr(leaf, "grad", g.to(leaf.dtype)))

    with evaluation_mode(network) as handles:
        handles += volume_of.hooks()
        for name, module in modules.items():
            linear = isinstance(module, nn.Linear)
            if linear:
                handles.append(after(module, lambda _, module=module: found.update(head=module)))
            if layer or gradient:
                handles.append(module.register_forward_pre_hook(settle))
            if name == layer or not (layer or linear or name.startswith(not_alone)):
                handles.append(after(module, partial(remember, name)))
        with torch.inference_mode(not gradient), torch.set_grad_enabled(gradient):
            logits = ask(network, inputs.clone() if inputs.is_inference() else inputs.detach())
        settle()
        perhaps, *_ = (found.pop(name, None) for name in ("perhaps", "passed", "given"))
        if "activations" not in found:
            where = "no layer ran that" if layer is None else f"layer {layer!r} did not run; none"
            raise ExplainError(perhaps or f"{where} gives (N, C, T, h, w) with more than one cell")
        yield Seen(logits=logits, runs=runs[found["layer"]], **found)


def layers_and_logits(
    network: nn.Module, inputs: Tensor, reshape: Reshape | None = None, refused: dict | None = None
) -> tuple[dict[str, tuple[int, int, int]], Tensor]:
    """What can be explained: the size (T, h, w) of each layer that gives (N, C, T, h, w) with more
    than one cell, in the order they run, and the logits (N, K). Where a module passes on what one
    inside it gave, the outer is named. The others, by name, are put in `refused`, with the reason.
    """
    sizes: dict[str, tuple[int, int, int]] = {}
    volume_of, before = Reader(network, inputs, reshape), ["", None]  # name and output of a layer

    def measure(name: str, output) -> None:
        volume, why = volume_of(output)
        if why:
            if refused is not None:
                refused[name] = f"gives {shape_of(output)}{why}"
            return
        if before[1] is output and before[0].startswith(f"{name}."):
            del sizes[before[0]]
        sizes.pop(name, None)  # of a module that runs more than once, the last run
        sizes[name] = tuple(volume.shape[2:])
        before[:] = name, output

    with evaluation_mode(network) as handles, torch.inference_mode():
        handles += volume_of.hooks()
        for name, module in network.named_modules():
            if name and not isinstance(module, nn.Linear | nn.Identity):
                handles.append(after(module, partial(measure, name)))
        logits = ask(network, inputs)
    return sizes, logits


def maps_of(
    seen: Seen, classes: Tensor, method="cam", progress: OneByOne = iter
) -> tuple[Tensor, Tensor]:
    """Signed maps (N, M, T, h, w) of classes (N, M), and all logits (N, K), float32."""
    if method == "cam":
        maps, logits = class_activation_maps(seen, classes)
    else:
        formula, activations = GRADIENT_METHODS[method], seen.activations.float()
        each = gradients(seen, classes, progress)
        maps = torch.stack([formula(activations, g.float()) for g in each], 1)
        logits = seen.logits.detach().float()
    if not maps.isfinite().all():
        raise ExplainError(f"{method!r} at layer {seen.layer!r} gives numbers that are not finite")
    return maps, logits


def class_activation_maps(seen: Seen, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Class activation maps (N, M, T, h, w) of classes (N, M), and logits (N, K), in closed form.

    With activations A averaged over (T, h, w) and a linear head W, b (Zhou et al. 2016),
    ``logit_k = b_k + sum_c W_kc mean(A_c)``, so ``map_k = sum_c W_kc A_c / (T h w)`` sums to the
    logit minus the bias. ExplainError if that does not give the network's logits.
    """
    head, activations = seen.head, seen.activations.float()
    logits = None
    if head is not None and head.weight.shape == (seen.logits.shape[1], activations.shape[1]):
        weight = head.weight.detach().float()  # (K, C)
        bias = 0 if head.bias is None else head.bias.detach().float()
        means = activations.mean((2, 3, 4))  # (N, C)
        logits = means @ weight.T + bias  # (N, K)
        coarse = max(torch.finfo(x.dtype).eps for x in (seen.logits, head.weight))
        evidence = (seen.logits.detach() - bias).abs()  # (N, K)
        rounded = means.abs() @ weight.abs().T  # what sums of this size may be off by
        fine = 1e-4 * evidence + 1e-5 * rounded
        tolerance = torch.maximum(fine, coarse * (4 * evidence + rounded + logits.abs()))
    if logits is None or ((logits - seen.logits).abs() > tolerance).any():
        pooled = f"average pooling of layer {seen.layer!r} and the last linear layer"
        needs = 'do not give this network\'s logits, as method="cam" needs; use method="gradcam"'
        raise ExplainError(f"{pooled} {needs}")
    return class_maps(activations, weight[classes]), logits


def class_maps(activations: Tensor, weights: Tensor) -> Tensor:
    """``sum_c W_kc A_c / (T h w)`` (N, M, T, h, w): activations A (N, C, T, h, w), and the head's
    weights W of each class to map (N, M, C)."""
    return torch.einsum("nmc,ncthw->nmthw", weights / activations[0, 0].numel(), activations)


def gradients(seen: Seen, classes: Tensor, progress: OneByOne = iter) -> Iterator[Tensor]:
    """For each column of classes (N, M): the gradient (N, C, T, h, w) of every sample's own logit
    by the activations. `progress` is given the columns and yields them."""
    # In float16 small gradients become 0 and large ones infinite: the first factor that fits.
    factors = (1024, 1, 1 / 1024) if seen.logits.dtype == torch.float16 else (1,)
    any_depends = False
    with torch.inference_mode(False), torch.enable_grad():
        for column in progress(classes.clone().unbind(1)):  # (N,)
            # In evaluation mode samples do not mix: one backward pass is enough for all.
            logit = seen.logits.gather(1, column.unsqueeze(1)).sum()
            for factor in factors:
                seen.leaf.grad = None
                if logit.requires_grad:
                    with told(f"no gradient at layer {seen.layer!r}"):
                        (logit * factor).backward(retain_graph=True)
                if seen.leaf.grad is None:
                    raise ExplainError(UNRELATED.format(seen.layer))
                gradient = seen.leaf.grad / factor
                if gradient.isfinite().all():
                    break
            else:
                which = f"at layer {seen.layer!r} of logit {column.unique().tolist()}"
                raise ExplainError(f"the gradient {which} is not finite")
            gradient = gradient if seen.reshape is None else seen.reshape(gradient)
            any_depends = any_depends or bool(gradient.any())
            yield gradient
    if not any_depends:
        raise ExplainError(NOTHING.format(seen.layer))


# --- the formulas: activations A and gradient g (N, C, T, h, w) to a map (N, T, h, w) -------------


def grad_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """``sum_c mean(g_c) A_c``: Selvaraju et al. 2017, equations 1 and 2 without the ReLU."""
    return weighted_sum(activations, gradient.mean((2, 3, 4)))


def grad_cam_plus_plus(activations: Tensor, gradient: Tensor) -> Tensor:
    """Chattopadhyay et al. 2018 (arXiv 1710.11063), equation 19, over a volume.

    ``w_c = sum alpha_c relu(g_c)``, ``alpha_c = g^2 / (2 g^2 + sum(A_c) g^3)``. The sum in the
    denominator runs over A alone, as in the paper; some libraries sum ``A g^3`` instead. Its
    weights are never negative: what speaks against a class is not seen by it.
    """
    square = gradient**2
    denominator = 2 * square + activations.sum((2, 3, 4), keepdim=True) * gradient**3
    alpha = torch.where(denominator != 0, square / denominator, 0)
    return weighted_sum(activations, (alpha * gradient.relu()).sum((2, 3, 4)))


def hires_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """``sum_c g_c A_c``, cell by cell: Draelos and Carin 2020 (arXiv 2011.08891)."""
    return (gradient * activations).sum(1)


def layer_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """``sum_c relu(g_c) A_c``, cell by cell: Jiang et al. 2021, IEEE TIP 30."""
    return (gradient.relu() * activations).sum(1)


GRADIENT_METHODS = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
    "hirescam": hires_cam,
    "layercam": layer_cam,
}


def weighted_sum(activations: Tensor, weights: Tensor) -> Tensor:
    """``sum_c w_c A_c`` (N, T, h, w): activations A (N, C, T, h, w), weights (N, C)."""
    return torch.einsum("nc,ncthw->nthw", weights, activations)
