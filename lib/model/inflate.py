"""A 2D network in, a 3D network out (Carreira & Zisserman 2017, arXiv 1705.07750).

A kernel w (out, in, k, k) grows a temporal axis, (out, in, t, k, k):

    mean    every time step gets w / t     a clip that stands still gives the 2D response
    centre  the middle step gets w, the others 0     every clip starts as its frames one by one

With zero padding in time the first identity fails near the ends of the clip; the second never does.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

#: Which convolutions grow in time: a rule's name, or a function of (module name, convolution).
Where = str | Callable[[str, nn.Conv2d], bool]

RULES: dict[str, Callable[[str, nn.Conv2d], bool]] = {
    "all": lambda name, conv: True,
    "spatial": lambda name, conv: max(conv.kernel_size) > 1,
    "first": lambda name, conv: name.endswith(("conv1", "conv_pw", "conv_stem")),
    "none": lambda name, conv: False,
}

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Dropout, nn.Linear, nn.Identity, nn.Flatten)
_FRAMEWISE = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)


class Framewise(nn.Module):
    """A 2D module run on every frame of a clip: (N, C, T, H, W) in and out.

    Batch norm counts the same values either way: its mean over N*T frames is that over N clips. In
    evaluation on a CPU a few frames at a time go through a row of layers: what passes between them
    stays in its cache.
    """

    at_once = 8

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)  # (N*T, C, H, W), no copy if channels come last
        if x.is_cpu and not self.training and self.frames_are_apart():
            starts = range(0, len(frames), self.at_once)
            y = torch.cat([self.module(frames[i : i + self.at_once]) for i in starts])
        else:
            y = self.module(frames)
        return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)  # (N, C', T, H', W')

    def frames_are_apart(self) -> bool:
        """Whether a row of layers has no norm whose mean is that of the frames at hand."""
        norms = (m for m in self.module.modules() if isinstance(m, _BatchNorm))
        return isinstance(self.module, nn.Sequential) and not any(
            norm.training or norm.running_mean is None for norm in norms
        )


class SamePadConv3d(nn.Conv3d):
    """A 3D convolution with TensorFlow's "SAME" padding in space, as timm's `Conv2dSame` pads."""

    def forward(self, x: Tensor) -> Tensor:
        pad = []
        for size, k, s, d in zip(
            x.shape[:-3:-1], self.kernel_size[::-1], self.stride[::-1], self.dilation[::-1]
        ):
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            pad += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pad))


def inflate(
    net2d: nn.Module, kernel: int = 3, init: str = "centre", where: Where = "all"
) -> nn.Module:
    """A 3D copy of a 2D CNN: takes clips (N, 3, T, H, W), keeps T throughout, gives logits (N, K).

    Args:
        net2d: built of convolutions, batch norms, pools and pointwise layers, such as torchvision's
            ResNets and timm's EfficientNet-Lite; it is left as it is.
        kernel: temporal kernel size, odd; padding (kernel - 1) / 2, stride 1.
        init: "mean" or "centre".
        where: "all"; "spatial", kernels wider than 1x1; "first", the first convolution and the
            first of each block; "none"; or a function of (name, convolution). The others stay 2D
            and see the frames one by one.

    Raises:
        ValueError: for an even kernel, an unknown `init` or `where`.
        TypeError: naming the layers that have no 3D form here.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: a temporal kernel needs an odd size, such as 3")
    if init not in ("mean", "centre"):
        raise ValueError(f"init={init!r}: choose 'mean' or 'centre'")
    if isinstance(where, str) and where not in RULES:
        raise ValueError(f"where={where!r}: choose {', '.join(map(repr, RULES))} or a function")
    chosen = RULES[where] if isinstance(where, str) else where
    unknown: list[str] = []

    def grow(module: nn.Module, name: str) -> nn.Module:
        if isinstance(module, nn.Conv2d) and chosen(name, module):
            return _conv(module, kernel, init)
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            return nn.AdaptiveAvgPool3d(1)  # the clip's mean, not each frame's
        if isinstance(module, _POINTWISE):
            return module
        inside = dict(module.named_modules(prefix=name))
        if name and not any(_grows(n, m, chosen) for n, m in inside.items()):
            if not isinstance(module, _FRAMEWISE) and not list(module.children()):
                unknown.append(f"{name} ({type(module).__name__})")
            return Framewise(module)
        for child_name, child in module.named_children():
            setattr(module, child_name, grow(child, f"{name}.{child_name}".lstrip(".")))
        return module

    net3d = grow(copy.deepcopy(net2d), "")
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise TypeError(
            f"cannot inflate {', '.join(unknown[:3])}{more}: only convolutions, norms and pools"
        )
    return net3d


def inflate_weight(weight: Tensor, kernel: int, init: str) -> Tensor:
    """Kernel (out, in, k, k) to (out, in, kernel, k, k)."""
    if init == "mean":
        return (weight / kernel).unsqueeze(2).repeat(1, 1, kernel, 1, 1)
    grown = weight.new_zeros(*weight.shape[:2], kernel, *weight.shape[2:])
    grown[:, :, kernel // 2] = weight
    return grown


def _grows(name: str, module: nn.Module, chosen: Callable) -> bool:
    """Whether the clip's frames meet in this layer."""
    if isinstance(module, nn.Conv2d):
        return chosen(name, module)
    return isinstance(module, nn.AdaptiveAvgPool2d | nn.Linear | nn.Flatten)


def _conv(conv: nn.Conv2d, kernel: int, init: str) -> nn.Conv3d:
    same = type(conv).__name__ == "Conv2dSame"
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise TypeError(f"cannot inflate padding {conv.padding!r} of mode {conv.padding_mode!r}")
    grown = (SamePadConv3d if same else nn.Conv3d)(
        conv.in_channels,
        conv.out_channels,
        (kernel, *conv.kernel_size),
        stride=(1, *conv.stride),
        padding=(kernel // 2, 0, 0) if same else (kernel // 2, *conv.padding),
        dilation=(1, *conv.dilation),
        groups=conv.groups,
        bias=conv.bias is not None,
    ).to(conv.weight)
    with torch.no_grad():
        grown.weight.copy_(inflate_weight(conv.weight, kernel, init))
        if conv.bias is not None:
            grown.bias.copy_(conv.bias)
    return grown


def parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def macs(network: nn.Module, *shape: int) -> int:
    """Multiply-accumulates of all convolutions and linear layers on one input of this shape.

    Counted on PyTorch's "meta" device, so it costs neither time nor memory.
    """
    from torch.utils.flop_counter import FlopCounterMode

    ghost = copy.deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        ghost(torch.empty(shape, device="meta"))
    return counter.get_total_flops() // 2
