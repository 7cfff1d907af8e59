"""Formulas against numbers worked out by hand, and the video networks that people have."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from forms import class_maps
from small import seen_by
from torch import nn
from torchvision.models import video

from lib.explain.clip import explain
from lib.explain.explanation import ExplainError
from lib.explain.maps import (
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    weighted_sum,
)


def test_weights_and_map_by_hand():
    # Two channels on one step of 1x2x2 cells.
    activations = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 2.0]]).view(1, 2, 1, 2, 2)
    gradient = torch.tensor([[1.0, 1.0, 2.0, 0.0], [-4.0, 0.0, -4.0, 0.0]]).view(1, 2, 1, 2, 2)
    weights = torch.tensor([[1.0, -2.0]])  # the mean gradient of each channel
    expected = weighted_sum(activations, weights)
    assert expected.tolist() == [[[[1.0, 0.0], [3.0, 0.0]]]]
    assert torch.equal(grad_cam(activations, gradient), expected)


def test_other_formulas_by_hand():
    # One channel on one step of 1x2x2 cells. g^2 = 1, 4, 0, 1 and g^3 = 1, 8, 0, -1; A sums to 10.
    activations = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 2, 2)
    gradient = torch.tensor([1.0, 2.0, 0.0, -1.0]).view(1, 1, 1, 2, 2)
    # alpha = 1/12, 4/88, 0, -1/8; only positive gradients count: w = 1/12 + 2 * 4/88
    weight = 1 / 12 + 2 * 4 / 88
    assert grad_cam_plus_plus(activations, gradient).flatten().tolist() == pytest.approx(
        [weight, 2 * weight, 3 * weight, 4 * weight]
    )
    assert hires_cam(activations, gradient).flatten().tolist() == [1.0, 4.0, 0.0, -4.0]
    assert layer_cam(activations, gradient).flatten().tolist() == [1.0, 4.0, 0.0, 0.0]
    assert grad_cam(activations, gradient).flatten().tolist() == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [("conv1", [[11.25, 13.5], [20.25, 22.5]]), ("relu1", [[0.0, 4.0], [28.0, 32.5]])],
)
def test_captum_published_values(layer, expected):
    """The values captum's own tests ask for on BasicModel_ConvNet_One_Conv, in one time step."""

    class OneConvolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv3d(1, 2, (1, 3, 3))
            self.relu1 = nn.ReLU(inplace=True)
            self.fc1 = nn.Linear(8, 4)
            self.conv1.weight.data.fill_(1)
            self.conv1.bias.data = torch.tensor([-50.0, -75.0])
            self.fc1.weight.data = torch.cat([torch.ones(4, 5), -torch.ones(4, 3)], 1)
            self.fc1.bias.data.zero_()

        def forward(self, x):
            return self.fc1(self.relu1(self.conv1(x)).flatten(1)).relu()

    volume = torch.arange(16.0).view(1, 1, 1, 4, 4)
    seen = seen_by(OneConvolution(), volume, layer, gradient=True)
    (gradient,) = torch.autograd.grad(seen.logits[0, 0], seen.leaf)
    result = grad_cam(seen.activations, gradient)
    assert result[0, 0].tolist() == expected


@pytest.mark.parametrize("method", ["cam", "gradcam", "gradcam++", "hirescam", "layercam"])
def test_batch_is_the_clips_one_by_one_with_classes_of_their_own(network, method):
    batch = torch.randn(3, 3, 4, 12, 12)
    classes = torch.tensor([[1, 0], [2, 1], [0, 0]])
    layer = None if method == "cam" else "relu1"
    together, _ = class_maps(network, batch, classes, layer, method)
    for clip, own, maps in zip(batch, classes, together):
        alone, _ = class_maps(network, clip[None], own, layer, method)
        torch.testing.assert_close(maps, alone[0])


# --- other people's networks ----------------------------------------------------------------------


def normalised(frames):
    """(T, H, W, 3) uint8 to (1, 3, T, H, W)."""
    return torch.from_numpy(frames).float().permute(3, 0, 1, 2).unsqueeze(0) / 127.5 - 1


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)


def adds_up(result):
    total = result.maps.sum((1, 2, 3), dtype=np.float64) + result.bias[result.mapped]
    return np.allclose(total, result.logits[result.mapped], atol=1e-4)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_torchvision_residual_networks(name, noise):
    torch.manual_seed(0)
    network = getattr(video, name)(num_classes=5)
    closed = explain(network, noise, preprocess=normalised)
    assert closed.layer == "layer4" and closed.maps.shape == (5, 8, 4, 4)
    assert adds_up(closed)
    last = explain(network, noise, [0, 3], method="gradcam", preprocess=normalised)
    np.testing.assert_allclose(last.maps, closed.maps[[0, 3]], atol=1e-5)
    for method in ("gradcam++", "hirescam", "layercam"):
        earlier = explain(network, noise, 3, "layer3", method, preprocess=normalised)
        assert earlier.maps.shape[2:] == (8, 8) and np.abs(earlier.maps).max() > 0


def test_torchvision_s3d(noise):
    """Its head is a convolution: no closed form, and the error says what to use."""
    torch.manual_seed(0)
    network, noise = video.s3d(num_classes=5), noise.repeat(2, 0).repeat(4, 1).repeat(4, 2)
    noise = noise[:, :224, :224]  # whatever is left then of its pooling is one cell
    with pytest.raises(ExplainError, match="gradcam"):
        explain(network, noise, preprocess=normalised)
    result = explain(network, noise, 2, method="gradcam", preprocess=normalised)
    assert result.maps.shape == (1, 16, 7, 7) and np.abs(result.maps).max() > 0


def test_torchvision_swin_through_its_tokens(noise):
    torch.manual_seed(0)
    network = video.swin3d_t(num_classes=5)
    with pytest.raises(ExplainError, match="reshape="):
        explain(network, noise, preprocess=normalised)
    tokens = dict(layer="norm", reshape=lambda x: x.movedim(-1, 1), preprocess=normalised)
    closed = explain(network, noise, **tokens)
    assert closed.maps.shape == (5, 8, 2, 2) and adds_up(closed)
    last = explain(network, noise, 1, method="gradcam", **tokens)
    np.testing.assert_allclose(last.maps[0], closed.map(1), atol=1e-5)


class InPlace(nn.Module):
    """Its ReLU is code, in place, after a norm; a layer follows it, or none."""

    def __init__(self, dropout: bool):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.Linear(4, 2)
        self.drop = nn.Dropout() if dropout else None

    def forward(self, x):
        x = self.norm(self.conv(x))
        nn.functional.relu(x, inplace=True)
        x = self.drop(x) if self.drop else x
        return self.fc(x.mean((2, 3, 4)))


@pytest.mark.parametrize("dropout", [False, True])
def test_code_that_changes_a_layers_output_in_place_counts_as_the_layers(dropout):
    """Under average pooling and a linear head, Grad-CAM is the closed form, by whatever name."""
    torch.manual_seed(0)
    network, inputs = InPlace(dropout).eval(), torch.randn(1, 3, 4, 6, 6)
    for layer in ("norm", None) if not dropout else ("norm",):
        closed, seen = class_maps(network, inputs, [0, 1], layer)
        by_gradient, _ = class_maps(network, inputs, [0, 1], layer, "gradcam")
        assert seen.layer == "norm" and (seen.activations >= 0).all()
        torch.testing.assert_close(by_gradient, closed)


class Wide(nn.Module):
    """Convolutions whose cells are as many as a norm elsewhere has channels."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv3d(3, 4, 1), norm, nn.Linear(4, 2)

    def forward(self, x):
        x = self.conv(x)
        last = self.norm(x.movedim(1, -1))  # (N, T, h, w, C)
        return self.fc(last.mean((1, 2, 3)))


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.RMSNorm(4)], ids=str)
def test_which_axis_has_the_channels_is_told_by_the_layer_that_ran(norm):
    network, inputs = Wide(norm), torch.randn(1, 3, 2, 4, 4)
    assert seen_by(network, inputs, "conv").activations.shape == (1, 4, 2, 4, 4)
    with pytest.raises(ExplainError, match="channels last"):
        seen_by(network, inputs, "norm")


class Pair(nn.Module):
    def forward(self, x):
        return x, x.mean()


class Otherwise(Wide):
    """What `explain` meets in other people's networks."""

    preprocess = staticmethod(lambda frames: torch.zeros(1, 3, 2, 4, 4))

    def __init__(self, out: Callable = lambda logits: logits):
        super().__init__(nn.Identity())
        self.pair, self.out = Pair(), out

    def forward(self, x):
        return self.out(super().forward(self.pair(x)[0]))


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return Otherwise()


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        (Otherwise(lambda logits: {"logits": logits}), dict(method="occlusion"), "dict.*module"),
        (Otherwise().to("meta"), dict(method="cam"), "conv.weight is on the meta device"),
        (made_in_inference_mode(), dict(method="cam"), "conv.weight was made under.*deepcopy"),
        (Otherwise(), dict(layer="pair"), "'pair' gives tuple"),
        (Otherwise(), dict(layer="pair", reshape=lambda x: x[0], method="gradcam"), "one tensor"),
    ],
    ids=["dict", "meta", "inference", "tuple", "tuple-gradient"],
)
def test_what_cannot_be_explained_is_said_with_the_remedy(network, options, said):
    with pytest.raises(ExplainError, match=said):
        explain(network, np.zeros((2, 4, 4, 3), np.uint8), **options)


class ChannelsLast(nn.Module):
    """A linear layer on the last axis, as in a transformer, without a norm that would tell."""

    def __init__(self):
        super().__init__()
        self.conv, self.mix = nn.Conv3d(3, 6, (1, 8, 8), (1, 8, 8)), nn.Linear(6, 6)
        self.act, self.head = nn.GELU(), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.act(self.mix(self.conv(x).movedim(1, -1))).mean((1, 2, 3)))


class TimeFirst(nn.Module):
    """Gives (N, T, C, h, w): a stage that runs on one frame after another."""

    def __init__(self):
        super().__init__()
        self.conv, self.join, self.head = nn.Conv2d(3, 6, 8, 8), nn.Softplus(), nn.Linear(6, 2)

    def forward(self, x):
        each = torch.stack([self.conv(frame) for frame in x.unbind(2)], 1)  # (N, T, C, h, w)
        return self.head(self.join(each).mean((1, 3, 4)))


@pytest.mark.parametrize(
    ("make", "said", "reshape"),
    [
        (ChannelsLast, "channels last", lambda x: x.movedim(-1, 1)),
        (TimeFirst, "time first", lambda x: x.transpose(1, 2)),
    ],
)
def test_axes_in_another_order_are_refused_and_right_with_a_reshape(make, said, reshape, noise):
    torch.manual_seed(0)
    network, layer = make(), ["act", "join"][make is TimeFirst]
    for options in {}, dict(method="gradcam"), dict(layer=layer, method="gradcam"):
        with pytest.raises(ExplainError, match=said):
            explain(network, noise, preprocess=normalised, **options)
    found = explain(network, noise, layer=layer, reshape=reshape, preprocess=normalised)
    assert adds_up(found) and found.maps.shape == (2, 8, 8, 8)


def test_cam_is_refused_where_small_logits_come_from_another_pooling(noise):
    class Peak(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv3d(3, 8, 3), nn.Linear(8, 4, bias=False)
            nn.init.normal_(self.head.weight, std=1e-5)

        def forward(self, x):
            return self.head(self.conv(x).amax((2, 3, 4)))

    torch.manual_seed(0)
    network = Peak()
    with pytest.raises(ExplainError, match="gradcam"):
        explain(network, noise, preprocess=normalised)
    assert explain(network, noise, 0, method="gradcam", preprocess=normalised).bias is None
