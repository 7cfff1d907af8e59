"""Layers of inflated networks: a 2D module that runs on every frame, and the other way round."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map_only


class Framewise(nn.Module):
    """A 2D module run on every frame of a clip: (N, C, T, H, W) in and out. Where it gives vectors
    (N*T, K), their means over the frames, (N, K). What has no time any more passes as it is.

    Batch norm counts the same values either way: its mean over N*T frames is that over N clips. In
    evaluation on a CPU, a sequence of layers takes a few frames at a time, which suits its cache.
    """

    at_once = 8

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.training = module.training

    def forward(self, x):
        clip = next((leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)), None)
        if clip is None or clip.ndim < 4:
            return self.module(x)
        n, t = clip.shape[0], clip.shape[2]
        for module in self.module.modules():
            if isinstance(module, Clipwise):
                module.clips = n, t
        frames = _fold(x)  # (N*T, C, H, W), no copy if channels come last
        if clip.is_cpu and not self.training and self.frames_are_apart():
            y = torch.cat([self.module(some) for some in frames.split(self.at_once)])
        else:
            y = self.module(frames)
        y = _unfold(y, n, t)
        return tree_map_only(Tensor, lambda y: y.mean(2) if y.ndim == 3 else y, y)

    def frames_are_apart(self) -> bool:
        """Whether this is a sequence of layers, none of which normalises by the batch it sees."""
        inside = list(self.module.modules())
        norms = (m for m in inside if isinstance(m, _BatchNorm))
        by_batch = any(norm.training or norm.running_mean is None for norm in norms)
        meet = any(isinstance(m, Clipwise) for m in inside)
        return isinstance(self.module, nn.Sequential) and not by_batch and not meet


class Clipwise(nn.Module):
    """A 3D module inside a `Framewise` one, which says how many clips and frames its frames are:
    (N*T, C, H, W) in and out."""

    clips: tuple[int, int]  # N, T

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.training = module.training

    def forward(self, x):
        return _fold(self.module(_unfold(x, *self.clips)))


def _fold(x):
    """Clips (N, C, T, ...) to frames (N*T, C, ...), of one tensor or of several."""
    return tree_map_only(Tensor, lambda x: x.transpose(1, 2).flatten(0, 1), x)


def _unfold(x, n: int, t: int):
    """Frames (N*T, C, ...) to clips (N, C, T, ...), of one tensor or of several."""
    return tree_map_only(Tensor, lambda x: x.unflatten(0, (n, t)).transpose(1, 2), x)


class GlobalPool(nn.AdaptiveAvgPool3d):
    """The mean over time and space, (N, C, T, H, W) to (N, C, 1, 1): from here on all is 2D."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(2)


class TwoStages(nn.Sequential):
    """Stages of which the first halves the sides, and beside what they give what they were given,
    averaged over 2 by 2 places: (N, C, 2 h, 2 w) in, (N, D + C, h, w) out. What has been through
    fewer layers has seen less of the picture around."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), avg_pool2d(x, 2, ceil_mode=True)], 1)


class SeeMotion(nn.Module):
    """Runs a `body` on features and how they change, and weighs what it gives by how much each
    place of the clip moves: (N, C, T, h, w) in, what the body makes of (N, 2 C, T, h, w) out.

    The change of a feature is to the next frame, twice over; of the last frame, and of a picture
    (N, C, h, w), it is 0. The weights are `movement` to the `power` (0: all places alike), over
    their mean: attention pooling (Ilse et al. 2018, arXiv 1802.04712) with nothing learned in it.
    The activations carry them: under average pooling, class activation maps sum to the logit.
    """

    power = 3

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            return self.body(torch.cat([x, torch.zeros_like(x)], 1))
        later = torch.cat([x[:, :, 1:], x[:, :, -1:]], 2)
        y = self.body(torch.cat([x, 2 * (later - x)], 1))  # (N, D, T, h, w)
        weights = movement(x.float()) ** self.power
        return y * (weights / weights.mean((2, 3, 4), keepdim=True)).to(y.dtype)


def movement(x: Tensor) -> Tensor:
    """How much each place moves, (N, 1, T, h, w), of features x (N, C, T, h, w): how far they are
    from their mean over the clip, as in background subtraction. Over its root mean square over all
    places; the same everywhere where nothing moves."""
    x = x - x[:, :, :1]  # exactly 0 where nothing moves
    apart = (x - x.mean(2, keepdim=True)).square().mean(1, keepdim=True)
    return (apart / apart.mean((2, 3, 4), True).clamp_min(1e-6) + 1e-6).sqrt()
