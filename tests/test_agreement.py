"""Our maps beside those of captum, torchcam, pytorch-grad-cam and monai, on 3D networks.

They agree wherever the others compute the same formula. Where they do not, a test names the
difference, shows that the plain maps are apart, and that one change of ours brings them together.
"""

import copy
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import pytorch_grad_cam as gradcam
import torch
from captum.attr import LayerGradCam
from forms import class_maps
from monai import visualize as monai
from scipy.ndimage import zoom
from small import NAMES, Small, seen_by
from torch import Tensor, nn
from torchcam import methods as torchcam
from torchvision.models import resnet, video

from lib import miniature
from lib.explain.clip import explain
from lib.explain.maps import weighted_sum
from lib.model import networks
from lib.model.inflate import inflate


class Case(NamedTuple):
    """A network in evaluation mode, what goes in, and the layers to look at, the last one last."""

    network: nn.Module
    inputs: Tensor  # (1, 3, T, H, W)
    layers: tuple[str, str]


@cache
def small() -> Case:
    torch.manual_seed(1)
    return Case(Small().double().eval(), torch.randn(1, 3, 5, 16, 16).double(), ("relu1", "relu2"))


@cache
def inflated() -> Case:
    torch.manual_seed(0)
    network = inflate(resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=3))
    return Case(network.double().eval(), torch.randn(1, 3, 3, 64, 64).double(), LAYERS)


@cache
def r3d() -> Case:
    torch.manual_seed(0)
    network = video.r3d_18(num_classes=3)
    return Case(network.double().eval(), torch.randn(1, 3, 8, 32, 32).double(), LAYERS)


LAYERS = ("layer3", "layer4")
CLASS = 1


@pytest.fixture(params=[small, inflated, r3d], ids=lambda make: make.__name__)
def case(request) -> Case:
    return request.param()


# --- the maps, each (t, h, w) ---------------------------------------------------------------------


def ours(case: Case, layer: str, method: str = "gradcam") -> Tensor:
    return class_maps(case.network, case.inputs, [CLASS], layer, method)[0][0, 0]


def by_captum(case: Case, layer: str) -> Tensor:
    method = LayerGradCam(case.network, case.network.get_submodule(layer))
    return method.attribute(case.inputs, target=CLASS, relu_attributions=False)[0, 0].detach()


def by_torchcam(case: Case, layer: str, name: str, normalized: bool = False) -> Tensor:
    with getattr(torchcam, name)(case.network, layer) as method:
        return method(CLASS, case.network(case.inputs), normalized=normalized)[0][0].detach()


def by_grad_cam(case: Case, layer: str, name: str, signed: bool = True) -> Tensor:
    """Of pytorch-grad-cam; signed is its map before ReLU, resizing and scaling."""
    module = case.network.get_submodule(layer)
    targets = [gradcam.utils.model_targets.ClassifierOutputTarget(CLASS)]
    with getattr(gradcam, name)(case.network, [module]) as method:
        final = method(case.inputs, targets)
        seen = method.activations_and_grads
        arrays = (seen.activations[0].numpy(), seen.gradients[0].numpy())
        plain = method.get_cam_image(case.inputs, module, targets, *arrays, False)
    return torch.from_numpy(plain if signed else final)[0]


def by_monai(case: Case, layer: str, name: str, **options) -> Tensor:
    """Of a copy: its hooks stay on the network. As it is computed, not resized or scaled."""
    as_it_is = dict(upsampler=lambda size: lambda x: x, postprocessing=lambda x: x)
    method = getattr(monai, name)(copy.deepcopy(case.network), layer, **(as_it_is | options))
    return method(case.inputs, class_idx=[CLASS] if name == "CAM" else CLASS)[0, 0].detach()


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference as a share of the peak, each map first divided by its own peak."""
    a, b = (x.double() / x.abs().max() for x in (a, b))
    return float((a - b).abs().max())


def agree(a: Tensor, b: Tensor) -> bool:
    """In numbers, not just in shape: a difference in scale counts too."""
    return b.abs().max() > 0 and float((a - b).abs().max() / b.abs().max()) < 1e-5


# --- the same -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
def test_captum(case, which):
    layer = case.layers[which]
    assert agree(ours(case, layer), by_captum(case, layer))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("method", "name"), [("gradcam", "GradCAM"), ("layercam", "LayerCAM")])
def test_torchcam(case, which, method, name):
    layer = case.layers[which]
    assert agree(ours(case, layer, method).relu(), by_torchcam(case, layer, name))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("method", "name"),
    [("gradcam", "GradCAM"), ("hirescam", "HiResCAM"), ("layercam", "LayerCAM")],
)
def test_pytorch_grad_cam(case, which, method, name):
    layer = case.layers[which]
    assert agree(ours(case, layer, method), by_grad_cam(case, layer, name))


@pytest.mark.parametrize("which", [0, 1])
def test_monai(case, which):
    layer = case.layers[which]
    assert agree(ours(case, layer).relu(), by_monai(case, layer, "GradCAM"))


def test_all_give_the_closed_form_at_the_last_layer(case):
    """Under average pooling and a linear head, CAM and Grad-CAM are one map."""
    layer = case.layers[-1]
    closed = ours(case, layer, "cam")
    assert agree(closed, by_captum(case, layer))
    assert agree(closed, by_grad_cam(case, layer, "GradCAM"))
    assert agree(closed.relu(), by_torchcam(case, layer, "GradCAM"))
    assert agree(closed.relu(), by_monai(case, layer, "GradCAM"))


@pytest.mark.parametrize("layer", ["conv1", "bn1", "relu1", "conv2", "relu2"])
@pytest.mark.parametrize("hidden", [0, 1])
def test_explain_agrees_with_captum(frames, layer, hidden):
    torch.manual_seed(1)
    network = Small(hidden=hidden, inplace=False).double().eval()
    reference = LayerGradCam(network, getattr(network, layer))
    inputs = network.preprocess(frames).double()
    result = explain(network, frames, layer=layer, method="gradcam")
    for k in range(3):
        theirs = reference.attribute(inputs, target=k, relu_attributions=False)[0, 0]
        assert np.abs(result.map(k) - theirs.detach().numpy()).max() < 1e-6


def test_explain_agrees_with_captum_on_an_inflated_network():
    torch.manual_seed(0)
    network = inflate(resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=3)).eval()
    clip = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    inputs = Small.preprocess(clip)
    for layer in ("layer4", "layer3"):
        result = explain(
            network, clip, 1, layer, "gradcam", preprocess=Small.preprocess, class_names=NAMES
        )
        theirs = LayerGradCam(network, network.get_submodule(layer)).attribute(
            inputs, target=1, relu_attributions=False
        )[0, 0]
        assert np.abs(result.map(1) - theirs.detach().numpy()).max() < 1e-6
    closed = explain(network, clip, 1, preprocess=Small.preprocess, class_names=NAMES)
    assert closed.layer == "layer4"
    last = explain(
        network, clip, 1, method="gradcam", preprocess=Small.preprocess, class_names=NAMES
    )
    np.testing.assert_allclose(closed.maps, last.maps, atol=1e-6)


@pytest.mark.parametrize("layer", ["blocks", "blocks.3"])
def test_explain_agrees_with_captum_on_the_network_that_ships(layer):
    network = networks.load()
    drawn = miniature.draw("test", 3, seed=2, times=np.arange(16) / 4)
    k = miniature.CLASSES.index(drawn.label)
    result = explain(network, drawn.frames, k, layer, "gradcam")
    reference = LayerGradCam(network, network.get_submodule(layer))
    inputs = network.preprocess(drawn.frames)
    theirs = reference.attribute(inputs, target=k, relu_attributions=False)[0, 0].detach()
    assert np.abs(result.map(k) - theirs.numpy()).max() < 1e-6
    closed = explain(network, drawn.frames)
    assert abs(closed.ledger(k).sum() + closed.bias[k] - closed.logits[k]) < 1e-4


# --- Grad-CAM++ -----------------------------------------------------------------------------------


def plus_plus(case: Case, layer: str, denominator: str, tiny: float) -> Tensor:
    """Grad-CAM++ with a denominator like another library's."""
    seen = seen_by(case.network, case.inputs, layer, gradient=True)
    (g,) = torch.autograd.grad(seen.logits[0, CLASS], seen.leaf)
    a, cells = seen.activations, (2, 3, 4)
    alpha = g**2
    if denominator == "sum(A) g^3":
        alpha = alpha / (2 * g**2 + a.sum(cells, keepdim=True) * g**3 + tiny)
    if denominator == "sum(A g^3)":
        alpha = alpha / (2 * g**2 + (a * g**3).sum(cells, keepdim=True) + tiny)
    return weighted_sum(a, (alpha * g.relu()).sum(cells))[0]


def test_grad_cam_plus_plus_denominator_differs_from_grad_cam_library():
    """It adds 1e-6 below. Each of a clip's many cells has so small a gradient that g^2 is less."""
    for case in (small(), r3d()):
        theirs = by_grad_cam(case, case.layers[0], "GradCAMPlusPlus")
        assert apart(ours(case, case.layers[0], "gradcam++"), theirs) > 0.02
        assert agree(plus_plus(case, case.layers[0], "sum(A) g^3", 1e-6), theirs)


def test_grad_cam_plus_plus_of_torchcam_forgets_the_denominator():
    """`alpha[mask].div_(...)` divides a copy: its weights are the sum of relu(g)^3."""
    for case in (small(), r3d()):
        theirs = by_torchcam(case, case.layers[0], "GradCAMpp")
        assert apart(ours(case, case.layers[0], "gradcam++").relu(), theirs) > 0.02
        assert agree(plus_plus(case, case.layers[0], "1", 0).relu(), theirs)


def test_grad_cam_plus_plus_of_monai_sums_another_product():
    """Sum of A g^3, not of A; 1e-7 below; and all of it times exp(logit)."""
    for case in (small(), r3d()):
        theirs = by_monai(case, case.layers[0], "GradCAMpp")
        assert apart(ours(case, case.layers[0], "gradcam++").relu(), theirs) > 0.02
        factor = case.network(case.inputs)[0, CLASS].exp().detach()
        assert agree(plus_plus(case, case.layers[0], "sum(A g^3)", 1e-7).relu() * factor, theirs)


# --- scale, resizing, the sign --------------------------------------------------------------------


def stretched(x: Tensor, tiny: float) -> Tensor:
    """From its own least to its own most: 0..1."""
    x = x - x.min()
    return x / (tiny + x.max())


def test_grad_cam_library_resizes_with_the_corners_on_the_corners(case):
    """A cubic spline from corner to corner, overshooting, then each map from its 0 to its 1. Cells
    are centred half a cell within, or where strides and padding put them:
    `lib.explain.receptive_field`."""
    layer = case.layers[0]
    theirs = by_grad_cam(case, layer, "GradCAM", signed=False)
    maps, size = ours(case, layer).relu(), case.inputs.shape[2:]
    within = nn.functional.interpolate(maps[None, None], size, mode="trilinear")[0, 0]
    assert apart(within, theirs) > 0.1
    factors = [n / m for n, m in zip(size, maps.shape)]
    resized = torch.from_numpy(zoom(stretched(maps, 1e-7).numpy(), factors))
    assert agree(stretched(resized.relu(), 1e-7), theirs)


def test_torchcam_stretches_every_map_to_0_and_1(case):
    """After that no two maps can be compared, and no sum is a logit."""
    theirs = by_torchcam(case, case.layers[0], "GradCAM", normalized=True)
    maps = ours(case, case.layers[0])
    assert not agree(maps.relu(), theirs)
    assert agree(stretched(maps.relu(), 1e-8), theirs)


def test_monai_turns_the_map_over():
    """Its default scaling puts the strongest evidence at 0, and what has none at 1."""
    case = small()
    theirs = by_monai(
        case, "relu1", "GradCAM", postprocessing=monai.class_activation_maps.default_normalizer
    )
    maps = ours(case, "relu1").relu()
    assert apart(maps, theirs) > 0.5
    assert agree(1 - stretched(maps, 0), theirs)


def test_monai_cam_holds_the_bias_in_every_cell(case):
    """The head asked at every cell: T h w times our map, plus the bias."""
    theirs = by_monai(case, case.layers[-1], "CAM", fc_layers=head(case.network))
    maps = ours(case, case.layers[-1], "cam")
    bias = case.network.get_submodule(head(case.network)).bias[CLASS].detach()
    assert not agree(maps, theirs)
    assert agree(maps * maps.numel() + bias, theirs)


def head(network: nn.Module) -> str:
    return "classifier" if hasattr(network, "classifier") else "fc"


# --- an in-place ReLU after the layer -------------------------------------------------------------


@pytest.fixture
def in_place() -> Case:
    case = small()
    return case._replace(layers=("bn1", "bn2"))


def safe(case: Case) -> Case:
    """The same network with ReLUs that leave their input as it was."""
    network = copy.deepcopy(case.network)
    network.relu1.inplace = network.relu2.inplace = False
    return case._replace(network=network)


@pytest.mark.parametrize("layer", ["bn1", "bn2"])
def test_an_in_place_relu_changes_nothing_here_nor_in_captum(in_place, layer):
    assert agree(ours(in_place, layer), ours(safe(in_place), layer))
    assert agree(by_captum(in_place, layer), ours(in_place, layer))


@pytest.mark.parametrize("layer", ["bn1", "bn2"])
def test_an_in_place_relu_overwrites_what_others_remember(in_place, layer):
    maps = ours(in_place, layer)
    assert apart(maps, by_grad_cam(in_place, layer, "GradCAM")) > 0.1
    assert agree(maps, by_grad_cam(safe(in_place), layer, "GradCAM"))
    assert apart(maps.relu(), by_torchcam(in_place, layer, "GradCAM")) > 0.1
    assert agree(maps.relu(), by_torchcam(safe(in_place), layer, "GradCAM"))


def test_an_in_place_relu_stops_monai(in_place):
    with pytest.raises(RuntimeError, match="inplace"):
        by_monai(in_place, "bn1", "GradCAM")
    theirs = by_monai(safe(in_place), "bn1", "GradCAM")
    assert agree(ours(in_place, "bn1").relu(), theirs)
