"""What a network may not do with a clip, and what it is told then."""

import numpy as np
import pytest
import torch
from small import NAMES, Small
from torch import nn

from lib.explain import Explanation, explain
from lib.explain.explanation import ExplainError
from lib.model.own import Own


class Turns(Small):
    """Sees the clip the other way round along an axis."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, x):
        return super().forward(x.flip(self.axis))


@pytest.mark.parametrize("axis, along", [(2, "time"), (3, "height"), (4, "width")])
def test_a_clip_turned_round_inside_is_not_drawn_the_wrong_way(frames, axis, along):
    found = explain(Turns(axis), frames, 0)
    with pytest.raises(ExplainError, match=rf"round along {along}: .* x.flip\({axis}\)"):
        found._repr_html_()
    mended = explain(Turns(axis), frames, 0, "relu2", "gradcam", reshape=lambda x: x.flip(axis))
    assert mended.footprint.stride == explain(Small(), frames, 0).footprint.stride


def test_a_layer_that_runs_twice_says_so(frames):
    class Twice(Small):
        def forward(self, x):
            return (super().forward(x) + super().forward(x / 2)) / 2

    found = explain(Twice(), frames, 0, "conv2", "gradcam")
    assert "layer 'conv2' ran 2 times: this is the last" in found.geometry_note
    assert "ran" not in explain(Small(), frames, 0, "conv2", "gradcam").geometry_note


class Mixing(Small):
    def __init__(self):
        super().__init__()
        self.bn1 = nn.BatchNorm3d(6, track_running_stats=False)


def test_clips_that_see_each_other_are_covered_one_by_one(frames):
    network = Mixing().eval()
    found = explain(network, frames, 0, method="occlusion", window=(5, 8, 8), stride=(5, 8, 8))
    inputs = network.preprocess(found.frames)
    covered = inputs.clone()
    covered[:, :, :, :8, :8] = 0
    with torch.inference_mode():
        lost = (network(inputs) - network(covered))[0, 0].item()
    assert found.maps[0, :, 0, 0].sum() == pytest.approx(lost, abs=1e-5)
    with pytest.raises(ExplainError, match="batch norm keeps no statistics"):
        explain(network, frames, 0, method="gradcam", motion=True)


class Lazy(nn.Module):
    preprocess, classes = staticmethod(Small.preprocess), NAMES

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.LazyConv3d(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3, 4)))


class TwoKinds(Small):
    def __init__(self):
        super().__init__()
        self.classifier.half()


class TooSmall(Small):
    def __init__(self):
        super().__init__()
        self.conv2 = nn.Conv3d(6, 8, (3, 99, 99))


def scripted():
    network = torch.jit.trace(Small().eval(), torch.rand(1, 3, 8, 32, 32))
    network.preprocess, network.classes = Small.preprocess, NAMES
    return network


@pytest.mark.parametrize(
    "make, told",
    [
        (Lazy, "conv.weight has no shape yet: run the network on a clip first"),
        (scripted, "made by torch.jit, without layers to look at"),
        (TwoKinds, "the network refuses clips .* must have the same dtype"),
        (TooSmall, "refuses clips .* can't be greater than actual input size"),
        (lambda: Own(Small(), "NT3HW", preprocess=Small.preprocess), "to have 3 channels, but got"),
    ],
    ids="lazy scripted two-kinds too-small wrong-form".split(),
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["cam", "gradcam", "occlusion"])
def test_what_the_network_refuses_is_said_in_its_words(frames, make, told, method):
    with pytest.raises(ExplainError, match=told):
        explain(make(), frames, 0, method=method)


def test_logits_of_one_clip_may_be_squeezed(frames):
    class Squeezed(Small):
        def forward(self, x):
            return super().forward(x).squeeze()

    network = Squeezed().eval()
    found = explain(Own(network, preprocess=Small.preprocess, classes=NAMES), frames, 0)
    with torch.inference_mode():
        assert found.logits == pytest.approx(network(network.preprocess(found.frames)).numpy())


def test_maps_made_elsewhere_in_plain_python():
    frames, maps = np.zeros((2, 8, 8, 3), np.uint8), np.ones((2, 4, 4))
    for mapped in (1, "b"):
        assert Explanation.of(list(frames), maps, ["a", "b"], [2.0, 1.0], mapped).mapped == [1]
    with pytest.raises(ExplainError, match=r"maps \(1, 1, 2, 4, 4\): need \(T, h, w\)"):
        Explanation.of(frames, maps[None, None], ["a", "b"], [2.0, 1.0])


def test_an_unknown_argument_is_named():
    with pytest.raises(ValueError, match="no argument clases: there are classes, preprocess"):
        Own(Small(), clases=NAMES)
