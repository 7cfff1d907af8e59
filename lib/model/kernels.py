"""One layer at a time: the 3D form of a convolution, of its weights, and of a batch norm."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def inflate_weight(weight: Tensor, kernel: int, init: str) -> Tensor:
    """Kernel (out, in, k, k) to (out, in, kernel, k, k)."""
    if init == "random":  # as a new layer of PyTorch begins
        grown = weight.new_empty(*weight.shape[:2], kernel, *weight.shape[2:])
        return nn.init.kaiming_uniform_(grown, a=5**0.5)
    if init == "mean":
        return (weight / kernel).unsqueeze(2).repeat(1, 1, kernel, 1, 1)
    grown = F.pad(weight.unsqueeze(2), (0, 0, 0, 0, kernel // 2, kernel // 2))
    if init == "difference":
        grown += (grown.roll(1, 2) - grown.roll(-1, 2)).roll(1, 0) * (kernel > 1)
    return grown


@torch.no_grad()
def conv3d(conv: nn.Conv2d, kernel: int, init: str, padding: str) -> nn.Conv3d | None:
    """Its 3D form, from the kernel that it uses if a parametrization computes one; None where there
    is none, as for a subclass that changes the kernel, the input or the output in its `forward`."""
    same = type(conv).__name__ == "Conv2dSame"
    plain = is_plain(conv, type(conv) if same else nn.Conv2d) and conv.padding_mode == "zeros"
    own = type(conv)._conv_forward is not nn.Conv2d._conv_forward
    if not plain or own or isinstance(conv.padding, str):
        return None
    training, in_time = conv.training, padding == "replicate"
    weight = conv.eval().weight  # in training, a spectral norm would change it here
    shape = dict(stride=(1, *conv.stride), padding=(0 if in_time else kernel // 2, *conv.padding))
    shape |= dict(dilation=(1, *conv.dilation), groups=conv.groups, bias=conv.bias is not None)
    kind = PaddedConv3d if same or in_time else nn.Conv3d
    grown = kind(conv.in_channels, conv.out_channels, (kernel, *conv.kernel_size), **shape)
    if kind is PaddedConv3d:
        grown.in_time, grown.in_space = in_time, same
    grown.to(weight).weight.copy_(inflate_weight(weight, kernel, init))
    learns = [p.requires_grad for name, p in conv.named_parameters() if name != "bias"]
    grown.weight.requires_grad_(any(learns))
    if isinstance(conv.bias, nn.Parameter):
        grown.bias = conv.bias
    elif conv.bias is not None:
        grown.bias.copy_(conv.bias)
    return grown.train(training)


def norm3d(norm: nn.BatchNorm2d) -> nn.BatchNorm3d:
    """Its 3D form, with its weights and statistics."""
    form = nn.BatchNorm3d(norm.num_features)
    form.__dict__.update(norm.__dict__)
    return form


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module does what its kind does, and nothing of its own."""
    changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module).forward is kind.forward and not changed
