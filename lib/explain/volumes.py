"""What a layer gives, read as a volume (N, C, T, h, w), and what is wrong with it."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from lib.model.framewise import Framewise

CHANNELS_LAST = ", channels last, it seems: name a layer, and reshape=lambda x: x.movedim(-1, 1)"
TIME_FIRST = ", time first, it seems: name a layer, and reshape=lambda x: x.transpose(1, 2)"
TOKENS = ", tokens, it seems: name a layer, and a reshape= that leaves out a class token and makes "
TOKENS += "(N, C, T, h, w) of the others"
SEEMS = CHANNELS_LAST, TOKENS, TIME_FIRST  # of axes in another order
FOLDED = ", not one row a clip: heads or frames are folded into its first dimension"
PERHAPS = "; frames folded into the batch? No convolution was given them, one a row, as they came "
PERHAPS += "in: if they are in order, pass reshape=lambda x: x[None].transpose(1, 2)"
Reshape = Callable[[Tensor], Tensor]


@lru_cache(maxsize=16)
def frames_of(clips: int, reshape: Reshape | None = None) -> Reshape:
    """Makes (N, C, T, h, w) of frames (N T, C, h, w), which `reshape` may have to make first."""
    unfold = lambda x: x.unflatten(0, (clips, -1)).transpose(1, 2) if x.ndim == 4 else x  # noqa: E731
    return unfold if reshape is None else lambda x: unfold(reshape(x))


class Reader:
    """A function from what a layer gives to (N, C, T, h, w), and to what is wrong with it or "".

    Where the channels lie is told by the layer with weights that ran last, if its `hooks` are on
    the network. So is whether frames are folded into the batch, as in TSM: a convolution is given
    the frames of the inputs, one a row. Then `unfold` is what a layer's output wants.
    """

    def __init__(self, network: nn.Module, inputs: Tensor, reshape: Reshape | None):
        self.network, self.inputs, self.reshape, self.unfold = network, inputs, reshape, reshape
        kinds = "LayerNorm", "RMSNorm"
        norms = (m for m in network.modules() if type(m).__name__.endswith(kinds))
        known = (getattr(m, "normalized_shape", getattr(m, "weight", None)) for m in norms)
        self.widths = {tuple(getattr(x, "shape", x)) for x in known if x is not None}
        self.channels: int | None = None  # of the last convolution; None after another layer
        self.width: int | None = None  # of the last axis, after a layer that works on that
        self.filters: int | None = None  # of the last convolution, if it gave pictures

    def hooks(self) -> list:
        """Handles of hooks that note which layers ran."""
        apart = {m for f in self.network.modules() if isinstance(f, Framewise) for m in f.modules()}

        def note(module: nn.Module, given, output) -> None:
            unknown = self.unfold is self.reshape and module not in apart
            if isinstance(module, nn.Conv2d) and given and unknown:
                frames = self.inputs.transpose(1, 2)  # (N, T, 3, H, W)
                if given[0].shape == (frames.shape[:2].numel(), *frames.shape[2:]):
                    if torch.equal(given[0].to(frames), frames.flatten(0, 1)):
                        self.unfold = frames_of(len(frames), self.reshape)
            sizes = (5,) if self.unfold is self.reshape else (4, 5)
            if isinstance(output, Tensor) and output.ndim in sizes:
                first = isinstance(module, _ConvNd | _BatchNorm)
                self.channels = output.shape[1] if first else None
                self.width = None if first else output.shape[-1]
            if isinstance(module, _ConvNd) and isinstance(output, Tensor):
                self.filters = output.shape[1] if output.ndim == 4 else None

        telling = _ConvNd | _BatchNorm | nn.LayerNorm | nn.RMSNorm | nn.Linear
        modules = (m for m in self.network.modules() if isinstance(m, telling))
        return [module.register_forward_hook(note) for module in modules]

    def __call__(self, output) -> tuple[Tensor | None, str]:
        reshape, inputs = self.reshape, self.inputs
        if reshape is not None:
            try:
                output = reshape(output)
            except Exception as error:  # of any kind
                return None, f", which reshape refuses: {error}"
        is_tensor = isinstance(output, Tensor) and output.is_floating_point()
        if reshape is None and is_tensor and output.ndim == 3 and output.shape[2:] in self.widths:
            if output.shape[1] > inputs.shape[2] + 1:  # more than one for each frame
                return None, TOKENS
        if is_tensor and output.ndim == 4 and output.shape[2:].numel() > 1:
            known, frames = self.unfold is not reshape, len(inputs) * inputs.shape[2]
            if len(output) == frames and (known or frames > len(inputs)):
                if not known:
                    return None, PERHAPS
                output = frames_of(len(inputs))(output)
        if not is_tensor or output.ndim != 5 or output.shape[3:].numel() < 2:
            return None, "; choose one that gives (N, C, T, h, w) with more than one cell"
        last = output.shape[-1:] in self.widths and output.shape[1] != self.channels
        last = last or output.shape[-1] == self.width != output.shape[1]
        if reshape is None and last:
            return None, CHANNELS_LAST
        time_first = output.shape[1:3] == (inputs.shape[2], self.filters)
        if reshape is None and time_first and output.shape[1] != self.filters:
            return None, TIME_FIRST
        if len(output) != len(inputs):
            return None, FOLDED
        return output, ""


def shape_of(output) -> str:
    """For an error: a tensor's shape, or the class of what is none."""
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
