"""A network of one's own that wants its clips in another form, as `explain` takes it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

FORMS = {  # what each makes of clips (N, 3, T, H, W)
    "N3THW": lambda x: x,
    "NT3HW": lambda x: x.transpose(1, 2),  # as in mmaction2 and transformers
    "N(T3)HW": lambda x: x.transpose(1, 2).flatten(1, 2),  # frames as channels: TSN, TSM
    "(NT)3HW": lambda x: x.transpose(1, 2).flatten(0, 1),  # frames in the batch: of pictures
}
ABOUT = "classes preprocess frames fps default_layer default_method reshape".split()


class Own(nn.Module):
    """Takes (N, 3, T, H, W) and gives logits (N, K), whatever form a `model` wants and gives.

    pathways: how many times fewer frames each of them sees, where the model wants a list: (4, 1)
    for SlowFast, T / 4 of T frames, from first to last, then all. No layer sees both, so name one;
    steps of the slow one are drawn at most half a step off. The model may give logits of each clip
    or each frame, (N T, K), then averaged; a tuple that begins with them; an object or dict with
    `logits`. about: what `explain` reads.
    """

    def __init__(self, model: nn.Module, form="N3THW", pathways: Sequence[int] = (), **about):
        super().__init__()
        if unknown := about.keys() - {*ABOUT}:
            raise ValueError(f"no argument {', '.join(unknown)}: there are {', '.join(ABOUT)}")
        listed = isinstance(pathways, tuple | list)
        if not listed or not all(type(k) is int and k > 0 for k in pathways):
            raise ValueError(f"pathways={pathways!r}: a list of whole numbers above 0 is needed")
        if not isinstance(form, str) or form not in FORMS or (pathways and form != "N3THW"):
            raise ValueError(f"{form}: choose from {', '.join(FORMS)}; with pathways, the first")
        if pathways and "default_layer" not in about:
            raise ValueError("pathways: default_layer says whose map is meant; the maps add up")
        vars(self).update(about, form=form, pathways=pathways)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        n, t, x = x.shape[0], x.shape[2], FORMS[self.form](x).contiguous()  # for its `view`
        if self.pathways:
            x = [x[:, :, torch.linspace(0, t - 1, t // k).long()] for k in self.pathways]
        y = self.model(x)
        y = y.get("logits", y) if isinstance(y, Mapping) else getattr(y, "logits", y)
        y = y[0] if isinstance(y, tuple | list) else y
        y = y[None] if isinstance(y, Tensor) and y.ndim == n == 1 else y  # squeezed
        if isinstance(y, Tensor) and len(y) not in (n, n * t):
            raise ValueError(f"{len(y)} rows of logits, clips ({n}, 3, {t}, ...): other `frames`?")
        return y.unflatten(0, (n, t)).mean(1) if isinstance(y, Tensor) and len(y) > n else y
