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
from torch.overrides import TorchFunctionMode

#: Which convolutions grow in time, by (module name, convolution). The last two are of EfficientNet:
#: those that widen a block of its last two stages, and all of these stages and of the head.
RULES: dict[str, Callable[[str, nn.Conv2d], bool]] = {
    "all": lambda name, conv: True,
    "spatial": lambda name, conv: max(conv.kernel_size) > 1,
    "first": lambda name, conv: name.endswith(("conv1", "conv_pw", "conv_stem")),
    "none": lambda name, conv: False,
    "late": lambda name, conv: RULES["upper"](name, conv) and name.endswith("conv_pw"),
    "upper": lambda name, conv: name.startswith(("blocks.5.", "blocks.6.", "conv_head")),
}

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Dropout, nn.Linear, nn.Identity, nn.Flatten)
_FRAMEWISE = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)


class Framewise(nn.Module):
    """A 2D module run on every frame of a clip: (N, C, T, H, W) in and out.

    Batch norm counts the same values either way: its mean over N*T frames is that over N clips. In
    evaluation on a CPU, a sequence of layers takes a few frames at a time, so that what passes
    between the layers stays in the processor's cache.
    """

    at_once = 8

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.training = module.training

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)  # (N*T, C, H, W), no copy if channels come last
        if x.is_cpu and not self.training and self.frames_are_apart():
            y = torch.cat([self.module(some) for some in frames.split(self.at_once)])
        else:
            y = self.module(frames)
        return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)  # (N, C', T, H', W')

    def frames_are_apart(self) -> bool:
        """Whether this is a sequence of layers, none of which normalises by the batch it sees."""
        norms = (m for m in self.module.modules() if isinstance(m, _BatchNorm))
        return isinstance(self.module, nn.Sequential) and not any(
            norm.training or norm.running_mean is None for norm in norms
        )


class SamePadConv3d(nn.Conv3d):
    """A 3D convolution with TensorFlow's "SAME" padding in space, as timm's `Conv2dSame` pads."""

    def forward(self, x: Tensor) -> Tensor:
        pad = []
        for axis in (2, 1):  # the width first, as `pad` wants it
            size, step = x.shape[axis + 2], self.stride[axis]
            reach = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            total = max((-(-size // step) - 1) * step + reach - size, 0)
            pad += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pad))


def inflate(
    net2d: nn.Module,
    kernel: int = 3,
    init: str = "centre",
    where: str | Callable[[str, nn.Conv2d], bool] = "all",
) -> nn.Module:
    """A 3D copy of a 2D CNN: takes clips (N, 3, T, H, W), keeps T throughout, gives logits (N, K).

    A convolution that computes its kernel, as weight-standardised ones do, grows from the kernel
    that it computes now.

    Args:
        net2d: built of convolutions, batch norms, pools and pointwise layers, such as torchvision's
            ResNets and timm's EfficientNet-Lite; it is left as it is.
        kernel: temporal kernel size, odd; padding (kernel - 1) / 2, stride 1.
        init: "mean" or "centre".
        where: "all"; "spatial", kernels wider than 1x1; "first", the first convolution and the
            first of each block; "none"; another name of `RULES`; or a function of (name,
            convolution). The others stay 2D and see the frames one by one.

    Raises:
        ValueError: for an even kernel, an unknown `init` or `where`, or where nothing would grow.
        TypeError: naming the layers that have no 3D form here.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: a temporal kernel needs an odd size, such as 3")
    if init not in ("mean", "centre"):
        raise ValueError(f"init={init!r}: choose 'mean' or 'centre'")
    if isinstance(where, str) and where not in RULES:
        raise ValueError(f"where={where!r}: choose {', '.join(map(repr, RULES))} or a function")
    chosen = RULES[where] if isinstance(where, str) else where
    refused: list[str] = []

    def grow(module: nn.Module, name: str) -> nn.Module:
        grown = module
        if isinstance(module, nn.Conv2d) and chosen(name, module):
            grown = _conv(module, kernel, init)
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            plain = type(module) is nn.AdaptiveAvgPool2d and not _hooked(module)
            grown = nn.AdaptiveAvgPool3d(1) if plain else None  # the clip's mean, not each frame's
        elif isinstance(module, nn.Linear) or type(module) in _POINTWISE:
            pass
        elif name and not any(_meets(n, m, chosen) for n, m in module.named_modules(prefix=name)):
            known = isinstance(module, _FRAMEWISE) or list(module.children())
            grown = Framewise(module) if known else None
        else:
            for child_name, child in module.named_children():
                setattr(module, child_name, grow(child, f"{name}.{child_name}".lstrip(".")))
        if grown is None:
            refused.append(f"{name or 'the network'} ({type(module).__name__})")
        return grown

    net3d = grow(copy.deepcopy(net2d), "")
    if refused:
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise TypeError(
            f"cannot inflate {', '.join(refused[:3])}{more}: only convolutions, norms and pools "
            "that do nothing else and have no hooks; with `where` a convolution can stay 2D"
        )
    if where != "none" and not any(isinstance(module, nn.Conv3d) for module in net3d.modules()):
        raise ValueError(f"where={where!r} chooses no convolution of this network: say 'none'?")
    return net3d


def inflate_weight(weight: Tensor, kernel: int, init: str) -> Tensor:
    """Kernel (out, in, k, k) to (out, in, kernel, k, k)."""
    if init == "mean":
        return (weight / kernel).unsqueeze(2).repeat(1, 1, kernel, 1, 1)
    grown = weight.new_zeros(*weight.shape[:2], kernel, *weight.shape[2:])
    grown[:, :, kernel // 2] = weight
    return grown


def _meets(name: str, module: nn.Module, chosen: Callable) -> bool:
    """Whether the clip's frames meet in this layer."""
    if isinstance(module, nn.Conv2d):
        return chosen(name, module)
    return isinstance(module, nn.AdaptiveAvgPool2d | nn.Linear | nn.Flatten)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


class _Watch(TorchFunctionMode):
    """Keeps the kernel with which a 2D convolution ran inside it."""

    kernel: Tensor | None = None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.conv2d:
            self.kernel = args[1] if len(args) > 1 else kwargs["weight"]
        return function(*args, **kwargs or {})


@torch.no_grad()
def _conv(conv: nn.Conv2d, kernel: int, init: str) -> nn.Conv3d | None:
    """Its 3D form; None where there is none that answers a clip that stands still as it does."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str) or _hooked(conv):
        return None
    training, conv = conv.training, conv.eval()
    with _Watch() as watch:
        conv(_picture(conv, 4))
    weight = conv.weight if watch.kernel is None else watch.kernel
    same = type(conv).__name__.endswith("Same") and not any(conv.padding)
    grown = (SamePadConv3d if same else nn.Conv3d)(
        conv.in_channels,
        conv.out_channels,
        (kernel, *conv.kernel_size),
        stride=(1, *conv.stride),
        padding=(kernel // 2, *conv.padding),
        dilation=(1, *conv.dilation),
        groups=conv.groups,
        bias=conv.bias is not None,
    ).to(weight)
    grown.weight.copy_(inflate_weight(weight, kernel, init))
    if conv.bias is not None:
        grown.bias.copy_(conv.bias)
    grown.requires_grad_(any(parameter.requires_grad for parameter in conv.parameters()))
    sure = type(conv) is nn.Conv2d or weight.is_meta or _agree(grown, conv)
    return grown.train(training) if sure else None


def _picture(conv: nn.Conv2d, margin: int) -> Tensor:
    """An uneven input for it, (1, C, side, side), a few pixels larger than its kernel."""
    side = margin + max(k * d for k, d in zip(conv.kernel_size, conv.dilation))
    values = torch.arange(conv.in_channels * side**2).sin()
    return values.view(1, -1, side, side).to(conv.weight)


def _agree(grown: nn.Conv3d, conv: nn.Conv2d) -> bool:
    """Whether they answer the same to a picture and to a clip of it, away from the clip's ends."""
    picture, steps = _picture(conv, 5), grown.kernel_size[0]
    wanted = conv(picture)
    found = grown(picture.unsqueeze(2).expand(-1, -1, steps, -1, -1))[:, :, steps // 2]
    within = max(2e-3, 4 * torch.finfo(wanted.dtype).eps)
    return bool((found - wanted).abs().max() <= within * wanted.abs().max())


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
