"""Counting the paths that lead from a network's input to a cell."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Energies = dict[str, Tensor]


def tap_energies(network: nn.Module) -> Energies:
    """What the paths depend on beside the network's form: for each kernel, the sum of its squared
    weights over the channels. Kept, they can be used after the weights have changed."""
    return {
        name: torch.linalg.vector_norm(x.detach().float(), dim=(0, 1)).square()
        for name, x in tensors(network)
        if x.is_floating_point() and x.ndim > 2 and x.shape[2:].numel() > 1
    }


def tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All parameters and buffers, by name."""
    return chain(network.named_parameters(), network.named_buffers())


class PathCount(TorchFunctionMode):
    """Inside it, a gradient counts paths (as Luo et al. 2016, arXiv 1701.04128): a convolution or
    pool is a weighted mean over its window, a norm the identity, and beyond a border all is as at
    it. A tap of a convolution weighs its energy, since a gradient of random signs spreads like
    that: see `test_learned_taps_predict_where_gradients_lie`."""

    def __init__(self, network: nn.Module, energies: Energies, changed: bool):
        super().__init__()
        self.energies = {id(x): energies[name] for name, x in tensors(network) if name in energies}
        self.changed = changed  # whether the weights have other energies by now

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        if name in ("conv1d", "conv2d", "conv3d"):
            return self.convolution(*args, **kwargs)
        if name.startswith("max_pool"):
            return _max_pool(*args, **kwargs)
        if name.startswith("avg_pool"):
            return _average_pool(*args, **kwargs)
        if name.startswith("adaptive_max_pool"):
            return getattr(F, name.replace("max", "avg"))(*args[:2])
        if name in ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"):
            return args[0]
        if name == "linear":
            return args[0].mean(-1, keepdim=True).repeat_interleave(len(args[1]), -1)
        if name == "pad" and len(args[1]) <= 2 * (args[0].ndim - 2) and min(args[1]) >= 0:
            pads = list(zip(args[1][::2], args[1][1::2]))[::-1]  # the first is of the last axis
            return _mean(args[0], torch.ones([1] * len(pads)), 1, pads)
        if name in ("scaled_dot_product_attention", "multi_head_attention_forward"):
            raise NotImplementedError("attention reaches everything")
        return function(*args, **kwargs)

    def convolution(self, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        """A mean over the window, weighted by energies, the same for every channel of a group."""
        energy = self.energies.get(id(weight))
        if energy is None:
            if self.changed and weight.shape[2:].numel() > 1:
                raise NotImplementedError("computed from weights that have changed since")
            energy = weight.detach().float().square().sum((0, 1))
        pads = padding
        if padding == "same":
            reach = [d * (k - 1) for d, k in zip(_each(dilation, energy.ndim), energy.shape)]
            pads = [(r // 2, r - r // 2) for r in reach]
        x = x.unflatten(1, (groups, -1)).mean(2)  # (N, groups, ...)
        energy = energy if energy.any() else torch.ones_like(energy)
        x = _mean(x, energy, stride, 0 if padding == "valid" else pads, dilation)
        return x.repeat_interleave(len(weight) // groups, 1)


def _max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *_, **__):
    n, strides = x.ndim - 2, stride or kernel_size
    pads = zip(_each(padding, n), _each(strides, n))  # with ceil_mode also past the end
    pads = [(p, p + ceil_mode * (step - 1)) for p, step in pads]
    return _mean(x, torch.ones(_each(kernel_size, n)), strides, pads, dilation)


def _average_pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, *_, **__) -> Tensor:
    return _max_pool(x, kernel_size, stride, padding, 1, ceil_mode)


def _mean(x: Tensor, weights: Tensor, stride, padding, dilation=1) -> Tensor:
    """A weighted mean over sliding windows of the last axes, one after the other. Beyond a border,
    x goes on as it is there. padding: numbers, or pairs (before, after)."""
    n = weights.ndim
    settings = zip(weights.shape, *(_each(value, n) for value in (stride, padding, dilation)))
    for i, (k, step, pad, spread) in enumerate(settings):
        before, after = _each(pad, 2)
        if (k, step, before, after) != (1, 1, 0, 0):
            length = x.shape[i - n]
            count = (length + before + after - spread * (k - 1) - 1) // step + 1
            cells, taps = np.ogrid[:count, :k]
            places = (cells * step + taps * spread - before).clip(0, length - 1)  # (count, k)
            share = weights.double().movedim(i, 0).reshape(k, -1).sum(1)
            share = (share / share.sum()).to(x).expand(count, k)
            mean = x.new_zeros(count, length)
            mean.scatter_add_(1, torch.from_numpy(places).to(x.device), share)
            x = (x.transpose(i - n, -1) @ mean.T).transpose(i - n, -1)
    return x


def _each(value, n: int) -> Sequence:
    """A value for each of n axes, of one that may be for all."""
    return [value] * n if isinstance(value, int) else list(value) * (n if len(value) == 1 else 1)
