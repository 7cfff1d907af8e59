"""A 2D network in, a 3D network out (Carreira & Zisserman 2017, arXiv 1705.07750).

A kernel w (out, in, k, k) grows a temporal axis, (out, in, t, k, k):

    mean        every time step gets w / t     a clip that stands still gives the 2D response
    centre      the middle step gets w, the others 0     every clip starts as its frames one by one
    difference  as centre, and another output channel's w one step later, -w one step earlier
                                             the same on a clip that stands still, yet what moves
                                             is seen from the first update

With zero padding in time these identities fail near the ends of the clip, all but the second. With
padding "replicate" none fails, and what a clip that stands still gives is the same at every step.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

Rule = Callable[[str, nn.Conv2d], bool]  # of a module's name and the convolution

#: Which convolutions grow in time. The last three are of EfficientNet-Lite0: the convolutions that
#: widen a block of its last two stages; all of these stages and of the head; and the wide kernels
#: of the blocks that stand in their place in the book's default network.
RULES: dict[str, Rule] = {
    "all": lambda name, conv: True,
    "spatial": lambda name, conv: max(conv.kernel_size) > 1,
    "first": lambda name, conv: name.endswith(("conv1", "conv_pw", "conv_stem")),
    "none": lambda name, conv: False,
    "late": lambda name, conv: RULES["upper"](name, conv) and name.endswith("conv_pw"),
    "upper": lambda name, conv: name.startswith(("blocks.5.", "blocks.6.", "conv_head")),
    "attention": lambda name, conv: name.startswith("blocks.5.") and name.endswith((".0", "conv2")),
}

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Dropout, nn.Identity, nn.Flatten)
_FRAMEWISE = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)


class Framewise(nn.Module):
    """A 2D module run on every frame of a clip: (N, C, T, H, W) in and out.

    Batch norm counts the same values either way: its mean over N*T frames is that over N clips. In
    evaluation on a CPU, a sequence of layers takes a few frames at a time, which suits its cache.
    """

    at_once = 8

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

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
        by_batch = any(norm.training or norm.running_mean is None for norm in norms)
        return isinstance(self.module, nn.Sequential) and not by_batch


class PaddedConv3d(nn.Conv3d):
    """A 3D convolution that pads by itself. In time: by repeating the first and the last frame. In
    space: as TensorFlow's "SAME" does, and timm's `Conv2dSame`."""

    in_time = in_space = False

    def forward(self, x: Tensor) -> Tensor:
        if self.in_time:
            reach = self.kernel_size[0] // 2
            x = torch.cat([x[:, :, :1]] * reach + [x] + [x[:, :, -1:]] * reach, 2)
        if self.in_space:
            from timm.layers import pad_same

            x = pad_same(x, self.kernel_size[1:], self.stride[1:], self.dilation[1:])
        return super().forward(x)


def inflate(
    net2d: nn.Module,
    kernel: int = 3,
    init: str = "centre",
    where: str | Rule = "all",
    padding: str = "zeros",
) -> nn.Module:
    """A 3D copy of a 2D CNN: takes clips (N, 3, T, H, W), keeps T throughout, gives logits (N, K).

    Args:
        net2d: built of convolutions, batch norms, pools and pointwise layers, such as torchvision's
            ResNets and timm's EfficientNet-Lite; it is left as it is.
        kernel: temporal kernel size, odd; padding (kernel - 1) / 2, stride 1.
        init: "mean", "centre" or "difference".
        where: "all"; "spatial", kernels wider than 1x1; "first", the first convolution and the
            first of each block; "none"; another of `RULES`; or a function of (name, convolution).
            The others stay 2D and see the frames one by one.
        padding: what lies beyond the ends of the clip, "zeros" as in the article, or "replicate",
            the first and the last frame.

    A TypeError names the layers that have no 3D form here.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: a temporal kernel needs an odd size, such as 3")
    if init not in ("mean", "centre", "difference"):
        raise ValueError(f"init={init!r}: choose 'mean', 'centre' or 'difference'")
    if init == "difference" and kernel == 1:
        raise ValueError("init='difference' needs a kernel of at least 3")
    if padding not in ("zeros", "replicate"):
        raise ValueError(f"padding={padding!r}: choose 'zeros' or 'replicate'")
    if isinstance(where, str) and where not in RULES:
        raise ValueError(f"where={where!r}: choose {', '.join(map(repr, RULES))} or a function")
    chosen = RULES[where] if isinstance(where, str) else where
    refused = []

    def grow(module: nn.Module, name: str) -> nn.Module | None:
        form = module
        if isinstance(module, nn.Conv2d) and chosen(name, module):
            form = _conv(module, kernel, init, padding)
        elif type(module) is nn.Conv2d and module.kernel_size == (1, 1) and name:
            form = _conv(module, 1, "centre", "zeros")
        elif type(module) is nn.BatchNorm2d and name and _plain(module, nn.BatchNorm2d):
            form = _norm(module)
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            form = nn.AdaptiveAvgPool3d(1) if _plain(module, nn.AdaptiveAvgPool2d) else None
        elif isinstance(module, nn.Linear) or type(module) in _POINTWISE:
            return module
        elif name and not any(_meets(n, m, chosen) for n, m in module.named_modules(prefix=name)):
            known = isinstance(module, _FRAMEWISE) or list(module.children())
            form = Framewise(module) if known else None
        for child_name, child in module.named_children() if form is module else ():
            setattr(module, child_name, grow(child, f"{name}.{child_name}".lstrip(".")))
        if form is None:
            refused.append(f"{name or 'it'} ({type(module).__name__})")
        return form

    net3d = grow(copy.deepcopy(net2d), "")
    if refused:
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise TypeError(
            f"cannot inflate {', '.join(refused[:3])}{more}: only convolutions, norms and pools "
            "that do nothing else and have no hooks; `where` can leave a convolution 2D"
        )
    if where != "none" and not any(isinstance(module, nn.Conv3d) for module in net3d.modules()):
        raise ValueError(f"where={where!r} chooses no convolution of this network: say 'none'?")
    return net3d


def inflate_weight(weight: Tensor, kernel: int, init: str) -> Tensor:
    """Kernel (out, in, k, k) to (out, in, kernel, k, k)."""
    if init == "mean":
        return (weight / kernel).unsqueeze(2).repeat(1, 1, kernel, 1, 1)
    grown = F.pad(weight.unsqueeze(2), (0, 0, 0, 0, kernel // 2, kernel // 2))
    if init == "difference":
        grown += (grown.roll(1, 2) - grown.roll(-1, 2)).roll(1, 0)
    return grown


def _meets(name: str, module: nn.Module, chosen: Rule) -> bool:
    """Whether the clip's frames meet in this layer."""
    if isinstance(module, nn.Conv2d):
        return chosen(name, module)
    return isinstance(module, nn.AdaptiveAvgPool2d | nn.Linear | nn.Flatten)


def _plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module does what its kind does, and nothing of its own."""
    changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module).forward is kind.forward and not changed


@torch.no_grad()
def _conv(conv: nn.Conv2d, kernel: int, init: str, padding: str) -> nn.Conv3d | None:
    """Its 3D form, from the kernel that it uses if a parametrization computes one; None where there
    is none, as for a subclass that changes the kernel, the input or the output in its `forward`."""
    same = type(conv).__name__ == "Conv2dSame"
    plain = _plain(conv, type(conv) if same else nn.Conv2d) and conv.padding_mode == "zeros"
    own = type(conv)._conv_forward is not nn.Conv2d._conv_forward
    if not plain or own or isinstance(conv.padding, str):
        return None
    weight = conv.eval().weight  # in training, a spectral norm would change it here
    in_time = padding == "replicate"
    shape = dict(stride=(1, *conv.stride), padding=(0 if in_time else kernel // 2, *conv.padding))
    shape |= dict(dilation=(1, *conv.dilation), groups=conv.groups, bias=conv.bias is not None)
    kind = PaddedConv3d if same or in_time else nn.Conv3d
    grown = kind(conv.in_channels, conv.out_channels, (kernel, *conv.kernel_size), **shape)
    if kind is PaddedConv3d:
        grown.in_time, grown.in_space = in_time, same
    grown.to(weight).weight.copy_(inflate_weight(weight, kernel, init))
    if conv.bias is not None:
        grown.bias.copy_(conv.bias)
    return grown


def _norm(norm: nn.BatchNorm2d) -> nn.BatchNorm3d:
    """Its 3D form, with its weights and statistics."""
    form = nn.BatchNorm3d(norm.num_features)
    form.__dict__.update(norm.__dict__)
    return form


def parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def macs(network: nn.Module, *shape: int) -> int:
    """Multiply-accumulates of all convolutions and linear layers on one input of this shape,
    counted on PyTorch's "meta" device: it costs neither time nor memory."""
    from torch.utils.flop_counter import FlopCounterMode

    ghost = copy.deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        ghost(torch.empty(shape, device="meta"))
    return counter.get_total_flops() // 2
