"""What is covered is what is lost."""

from functools import partial

import numpy as np
import pytest
import torch
from small import Small
from torch import nn

from lib.explain.clip import explain
from lib.explain.explanation import ExplainError


def test_occlusion_by_hand(frames):
    """A network that sums up one corner of one frame loses that sum where the corner is covered."""

    class Corner(nn.Module):
        preprocess, classes = staticmethod(Small.preprocess), ["corner", "nothing"]

        def forward(self, x):
            corner = x[:, :, 1, :4, :4].sum((1, 2, 3))
            return torch.stack([corner, 0 * corner], 1)

    result = explain(Corner(), frames, method="occlusion", window=(1, 4, 4), stride=(1, 4, 4))
    assert result.maps.shape == (2, 5, 4, 4) and result.layer == "input"
    expected = np.zeros((2, 5, 4, 4), np.float32)
    expected[0, 1, 0, 0] = result.logits[0]
    np.testing.assert_allclose(result.maps, expected, atol=1e-4)
    np.testing.assert_allclose(result.cells[0], [0.125, 0.375, 0.625, 0.875])
    with pytest.raises(ExplainError, match="window"):
        explain(Corner(), frames, method="occlusion", window=(9, 4, 4))
    with pytest.raises(ExplainError, match="no layer"):
        explain(Corner(), frames, layer="x", method="occlusion")


@pytest.mark.parametrize("logits", [(2,), (2, 3, 1), (2, 3, 4, 4)])
def test_occlusion_refuses_what_the_other_methods_refuse(frames, logits):
    class Odd(Small):
        def forward(self, x):
            return super().forward(x).new_zeros(logits)

    for method in ("cam", "occlusion"):
        with pytest.raises(ExplainError, match=r"logits \(N, K\) are needed"):
            explain(Odd(), frames, method=method)
        with pytest.raises(ExplainError, match="2 class names for 3"):
            explain(Small(), frames, method=method, class_names=["a", "b"])
        with pytest.raises(ExplainError, match="there are 3"):
            explain(Small(), frames, 3, method=method)


class Remembering(Small):
    """Adds what it saw of the last clip."""

    last = None

    def forward(self, x):
        seen = self.features(x).mean((2, 3, 4))
        given = seen if self.last is None else seen + self.last[:1]
        self.last = seen
        return self.classifier(given)


def test_clips_seen_before_change_nothing(frames):
    network, forgetful = Remembering().eval(), Small().eval()
    forgetful.load_state_dict(network.state_dict())
    window = dict(window=np.array([2, 8, 8], np.int8), stride=np.array([1, 4, 4], np.int8))
    asked = partial(explain, method="occlusion", **window)
    first, again, expected = (asked(n, frames).maps for n in (network, network, forgetful))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, expected, atol=1e-5)
