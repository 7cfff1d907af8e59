"""From what a layer saw to a map of the evidence: the formulas, signed, in float32.

One forward pass remembers a layer's activations A (N, C, T, h, w) and, where a method needs it,
lets the logits be differentiated by them. `class_maps` turns both into maps (N, M, T, h, w), for
any batch and for other classes in every sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lib.explain.explanation import ExplainError, nearest
from lib.model.inflate import Framewise
from lib.model.networks import evaluation_mode

Reshape = Callable[[Tensor], Tensor]
Progress = Callable[[Sequence], Iterable]


class Seen(NamedTuple):
    """What one forward pass shows."""

    activations: Tensor  # (N, C, T, h, w)
    logits: Tensor  # (N, K)
    layer: str  # name of the module that gave the activations
    head: nn.Linear | None  # the last linear layer that ran
    leaf: Tensor | None = None  # the layer's output, where the logits can be differentiated by it


def activations_and_logits(
    network: nn.Module,
    inputs: Tensor,
    layer: str | None = None,
    gradient: bool = False,
    reshape: Reshape | None = None,
) -> Seen:
    """One forward pass of `inputs` (N, 3, T, H, W), remembering a layer's output and the logits.

    layer None is the last module (the outermost, where several give the same tensor) whose output
    is (N, C, T, h, w) with more than one cell. Of a module that runs more than once, the last run.
    `reshape` makes (N, C, T, h, w) of an output that has another form, such as a transformer's
    tokens.

    With `gradient`, the activations are a leaf that the logits depend on, for torch.autograd.grad;
    they are cut off from what lies below, which is neither differentiated nor kept. Leaves of half
    precision are widened to float32. Hooks are gone and modes restored when this returns or raises.
    """
    targets = dict(network.named_modules())
    if layer is not None:
        if layer not in targets or not layer:
            raise ExplainError(f"no layer {layer!r}{nearest(layer, targets)}")
        if isinstance(targets[layer], nn.Linear) and reshape is None:
            raise ExplainError(f"layer {layer!r} is linear, with no place in the frame to point at")
    token_sizes = {
        module.normalized_shape for module in targets.values() if isinstance(module, nn.LayerNorm)
    }
    single_frames = tuple(f"{n}." for n, m in targets.items() if isinstance(m, Framewise))
    found: dict = {"head": None}

    def remember(name: str):
        def hook(_module, _args, output):
            if reshape is None and _is_volume(output) and output.shape[-1:] in token_sizes:
                raise ExplainError(
                    f"layer {name!r} gives {_shape(output)}, whose channels seem to come last; "
                    "name a layer and pass reshape=lambda x: x.movedim(-1, 1), or what makes "
                    "(N, C, T, h, w) of it"
                )
            try:
                volume = output if reshape is None or name != layer else reshape(output)
            except (RuntimeError, IndexError, AttributeError) as error:
                raise ExplainError(f"reshape of {_shape(output)} fails: {error}") from error
            if not _is_volume(volume):
                if name == layer:
                    raise ExplainError(
                        f"layer {name!r} gives {_shape(volume)}; choose one that gives "
                        "(N, C, T, h, w) with more than one cell"
                    )
                return None
            if not gradient:
                found.update(layer=name, activations=volume if layer is None else volume.clone())
                return None
            leaf = output.detach()
            leaf = leaf if leaf.dtype in (torch.float32, torch.float64) else leaf.float()
            found.update(layer=name, leaf=leaf.requires_grad_())
            found["activations"] = leaf.detach() if reshape is None else reshape(leaf.detach())
            return leaf.to(output.dtype).clone()  # a copy: an in-place ReLU may follow

        return hook

    def remember_head(module, _args, _output):
        found["head"] = module

    with (
        evaluation_mode(network) as handles,
        torch.inference_mode(not gradient),
        torch.set_grad_enabled(gradient),
    ):
        for name, module in targets.items():
            if isinstance(module, nn.Linear):
                handles.append(module.register_forward_hook(remember_head))
            elif layer is None and name and not name.startswith(single_frames):
                handles.append(module.register_forward_hook(remember(name)))
            if name == layer:
                handles.append(module.register_forward_hook(remember(name)))
        logits = network(inputs.clone() if inputs.is_inference() else inputs)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ExplainError(f"the network gives {_shape(logits)}; logits (N, K) are needed")
    if not logits.isfinite().all():
        raise ExplainError("the network's logits are not finite; check its weights and preprocess")
    if "activations" not in found:
        where = "no layer ran that" if layer is None else f"layer {layer!r} did not run; none"
        raise ExplainError(f"{where} gives (N, C, T, h, w) with more than one cell")
    return Seen(logits=logits, **found)


def layers_and_logits(
    network: nn.Module, inputs: Tensor, reshape: Reshape | None = None
) -> tuple[dict[str, tuple[int, int, int]], Tensor]:
    """What can be explained: the size (T, h, w) of each layer that gives (N, C, T, h, w) with more
    than one cell, in the order they run, and the logits (N, K).

    inputs: (N, 3, T, H, W). Where a module passes on what one inside it gave, the outer is named.
    """
    targets = dict(network.named_modules())
    tokens = {m.normalized_shape for m in targets.values() if isinstance(m, nn.LayerNorm)}
    sizes: dict[str, tuple[int, int, int]] = {}
    last: list = ["", None]  # name and output of the layer before

    def measure(name: str):
        def hook(_module, _args, output):
            try:
                volume = output if reshape is None else reshape(output)
            except (RuntimeError, IndexError, AttributeError):
                return
            if not _is_volume(volume) or (reshape is None and volume.shape[-1:] in tokens):
                return
            if last[1] is output and last[0].startswith(f"{name}."):
                del sizes[last[0]]
            sizes.pop(name, None)  # of a module that runs more than once, the last run
            sizes[name] = tuple(volume.shape[2:])
            last[:] = name, output

        return hook

    with evaluation_mode(network) as handles, torch.inference_mode():
        for name, module in targets.items():
            if name and not isinstance(module, nn.Linear | nn.Identity):
                handles.append(module.register_forward_hook(measure(name)))
        logits = network(inputs)
    return sizes, logits


def class_maps(
    network: nn.Module,
    inputs: Tensor,
    classes: Tensor | Sequence[int],
    layer: str | None = None,
    method: str = "cam",
    weights: str = "clip",
    reshape: Reshape | None = None,
) -> tuple[Tensor, Seen]:
    """Signed maps (N, M, T, h, w) float32 of `classes`, and what the forward pass showed.

    inputs: (N, 3, T, H, W). classes: indices (M,) for all samples, or (N, M), each sample's own.
    method: "cam", or one of `GRADIENT_METHODS`; weights: as in `channel_weights`. The others as in
    `activations_and_logits`.
    """
    seen = activations_and_logits(network, inputs, layer, method != "cam", reshape)
    classes = torch.as_tensor(classes, device=inputs.device)
    classes = classes.expand(len(inputs), -1) if classes.ndim == 1 else classes  # (N, M)
    maps, _ = maps_of(seen, classes, method, weights, reshape)
    return maps, seen


def maps_of(
    seen: Seen,
    classes: Tensor,
    method: str = "cam",
    weights: str = "clip",
    reshape: Reshape | None = None,
    progress: Progress = iter,
) -> tuple[Tensor, Tensor]:
    """Signed maps (N, M, T, h, w) of classes (N, M), and all logits (N, K), float32."""
    if method == "cam":
        return class_activation_maps(seen, classes)
    formula, activations = GRADIENT_METHODS[method], seen.activations.float()
    each = gradients(seen, classes, reshape, progress)
    maps = [formula(activations, gradient.float(), weights) for gradient in each]
    return torch.stack(maps, 1), seen.logits.detach().float()


def class_activation_maps(seen: Seen, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Class activation maps (N, M, T, h, w) of classes (N, M), and logits (N, K), in closed form.

    With activations A averaged over (T, h, w) and a linear head W, b (Zhou et al. 2016),
    ``logit_k = b_k + sum_c W_kc mean(A_c)``, so ``map_k = sum_c W_kc A_c / (T h w)`` sums to the
    logit minus the bias. The head is computed again in float32 and held against the network's
    logits; ExplainError if they differ, for then the head is something else.
    """
    head, activations = seen.head, seen.activations.float()
    logits = None
    if head is not None and head.weight.shape == (seen.logits.shape[1], activations.shape[1]):
        weight = head.weight.detach().float()  # (K, C)
        bias = 0 if head.bias is None else head.bias.detach().float()
        logits = activations.mean((2, 3, 4)) @ weight.T + bias  # (N, K)
        half = torch.finfo(seen.logits.dtype).bits < 32 or head.weight.dtype.itemsize < 4
        tolerance = (5e-2 if half else 1e-4) * max(1.0, float(seen.logits.detach().abs().max()))
    if logits is None or (logits - seen.logits).abs().max() > tolerance:
        raise ExplainError(
            f"average pooling of layer {seen.layer!r} and the last linear layer do not give this "
            'network\'s logits, as method="cam" needs; use method="gradcam"'
        )
    volume = activations[0, 0].numel()
    return torch.einsum("nmc,ncthw->nmthw", weight[classes] / volume, activations), logits


def gradients(
    seen: Seen, classes: Tensor, reshape: Reshape | None = None, progress: Progress = iter
) -> Iterator[Tensor]:
    """For each column of classes (N, M): the gradient (N, C, T, h, w) of every sample's own logit
    by the activations. `progress` is given the columns and yields them one by one."""
    lift = 1024.0 if seen.logits.dtype == torch.float16 else 1.0  # or small gradients become 0
    with torch.inference_mode(False), torch.enable_grad():
        for column in progress(classes.clone().unbind(1)):  # (N,)
            # In evaluation mode samples do not mix: one backward serves them all.
            logit = seen.logits.gather(1, column.unsqueeze(1)).sum() * lift
            gradient = None
            if logit.requires_grad:
                (gradient,) = torch.autograd.grad(
                    logit, seen.leaf, retain_graph=True, allow_unused=True
                )
            if gradient is None:
                raise ExplainError(f"the logits do not depend on layer {seen.layer!r}")
            gradient = gradient / lift
            yield gradient if reshape is None else reshape(gradient)


# --- the formulas: activations A and gradient g (N, C, T, h, w) to a map (N, T, h, w) -------------


def grad_cam(activations: Tensor, gradient: Tensor, over: str = "clip") -> Tensor:
    """``sum_c mean(g_c) A_c``: Selvaraju et al. 2017, equations 1 and 2 without the ReLU."""
    return weighted_sum(activations, channel_weights(gradient, over))


def grad_cam_plus_plus(activations: Tensor, gradient: Tensor, over: str = "clip") -> Tensor:
    """Chattopadhyay et al. 2018 (arXiv 1710.11063), equation 19, over a volume.

    ``w_c = sum alpha_c relu(g_c)``, ``alpha_c = g^2 / (2 g^2 + sum(A_c) g^3)``. The sum in the
    denominator runs over A alone, as in the paper; some libraries sum ``A g^3`` instead. Its
    weights are never negative: what speaks against a class is not seen by it.
    """
    cells = (2, 3, 4) if over == "clip" else (3, 4)
    square = gradient**2
    denominator = 2 * square + activations.sum(cells, keepdim=True) * gradient**3
    alpha = torch.where(denominator != 0, square / denominator, 0)
    return weighted_sum(activations, (alpha * gradient.relu()).sum(cells))


def hires_cam(activations: Tensor, gradient: Tensor, over: str = "clip") -> Tensor:
    """``sum_c g_c A_c``, cell by cell: Draelos and Carin 2020 (arXiv 2011.08891)."""
    return (gradient * activations).sum(1)


def layer_cam(activations: Tensor, gradient: Tensor, over: str = "clip") -> Tensor:
    """``sum_c relu(g_c) A_c``, cell by cell: Jiang et al. 2021, IEEE TIP 30."""
    return (gradient.relu() * activations).sum(1)


GRADIENT_METHODS = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
    "hirescam": hires_cam,
    "layercam": layer_cam,
}


def channel_weights(gradient: Tensor, over: str = "clip") -> Tensor:
    """Grad-CAM's channel weights: the gradient (N, C, T, h, w) of a logit, averaged over time and
    space for the "clip" (N, C), or over space alone for each "frame" (N, C, T)."""
    return gradient.mean((2, 3, 4) if over == "clip" else (3, 4))


def weighted_sum(activations: Tensor, weights: Tensor) -> Tensor:
    """``sum_c w_c A_c`` (N, T, h, w): activations (N, C, T, h, w), weights (N, C) or (N, C, T)."""
    if weights.ndim == 2:
        weights = weights.unsqueeze(2)
    weights = weights.expand(-1, -1, activations.shape[2])  # (N, C, T)
    return torch.einsum("nct,ncthw->nthw", weights, activations)


def _is_volume(output) -> bool:
    return isinstance(output, Tensor) and output.ndim == 5 and output.shape[3:].numel() > 1


def _shape(output) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
