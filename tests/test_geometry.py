"""Where cells look: centres worked out by hand, and where gradients really lie."""

import numpy as np
import pytest
import skimage.data
import timm
import torch
from small import same, state
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.models.video import r3d_18

from lib.explain.clip import explain
from lib.explain.geometry import cells, footprint, steps
from lib.model import networks
from lib.model.inflate import inflate


def pixels(fractions, size):
    return np.asarray(fractions) * size - 0.5


class Pad(nn.Module):
    def __init__(self, pad):
        super().__init__()
        self.pad = pad

    def forward(self, x):
        return F.pad(x, self.pad)


def conv(k, s, p):
    return nn.Conv3d(3, 3, (1, k, k), stride=(1, s, s), padding=(0, p, p))


GEOMETRIES = {  # layers, input size, stride and first centre in pixels, worked out by hand
    "k3 s1 p1": ([conv(3, 1, 1)], 8, 1, 0),
    "k3 s2 p1": ([conv(3, 2, 1)], 8, 2, 0),
    "k4 s4 p0": ([conv(4, 4, 0)], 16, 4, 1.5),
    "k3 s2, padded after": ([Pad((0, 1, 0, 1)), conv(3, 2, 0)], 8, 2, 1),
    "two of these": ([Pad((0, 1, 0, 1)), conv(3, 2, 0)] * 2, 16, 4, 3),
    "k5 p2, max pool 2": ([conv(5, 1, 2), nn.MaxPool3d((1, 2, 2))], 8, 2, 0.5),
    "k7 s2 p3, max pool 3 s2 p1": (
        [
            conv(7, 2, 3),
            nn.BatchNorm3d(3),
            nn.ReLU6(True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ],
        32,
        4,
        0,
    ),
    "max pool 2, ceil mode": ([nn.MaxPool3d((1, 2, 2), ceil_mode=True)], 7, 2, 0.5),
    "dilated": (
        [nn.Conv3d(3, 3, (1, 3, 3), stride=(1, 2, 2), dilation=(1, 2, 2))],
        12,
        2,
        2,
    ),
    "depthwise, same": ([nn.Conv3d(3, 6, (1, 3, 3), padding="same", groups=3)], 8, 1, 0),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_centres_by_hand(name):
    layers, size, stride, first = GEOMETRIES[name]
    network = nn.Sequential(*layers)
    last = str(len(layers) - 1)
    y, x = cells(network, last, (size, 2 * size))
    np.testing.assert_allclose(pixels(y, size), first + stride * np.arange(len(y)), atol=1e-6)
    np.testing.assert_allclose(pixels(x, 2 * size), first + stride * np.arange(len(x)), atol=1e-6)
    with torch.no_grad():
        shape = network(torch.zeros(1, 3, 1, size, 2 * size)).shape
    assert (len(y), len(x)) == shape[-2:]


def test_centres_are_those_of_counted_paths():
    """The same centroid from a gradient: weights 1, the middle cell of an input large enough."""
    torch.manual_seed(0)

    class Branches(nn.Module):  # unlike centres that have to be averaged
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(3, 2, 1), nn.Sequential(Pad((1, 2, 1, 2)), conv(5, 2, 0))
            self.c, self.act = conv(3, 1, 1), nn.SiLU()

        def forward(self, x):
            return self.act(self.c(self.a(x) + self.b(x)))

    network, size = nn.Sequential(Branches()), 64
    measured = pixels(cells(network, "0", size)[0], size)
    branches = network[0].double()
    branches.act = nn.Identity()
    for parameter in branches.parameters():
        parameter.data.fill_(1.0 if parameter.ndim > 1 else 0.0)
    for module in (branches.a, branches.b[1]):  # plain means, as a and b differ in kernel size
        module.weight.data /= module.weight[0].numel()
    image = torch.zeros(1, 3, 1, size, size, dtype=torch.float64, requires_grad=True)
    output = branches(image)
    middle = output.shape[-2] // 2
    (paths,) = torch.autograd.grad(output[0, 0, 0, middle, middle], image)
    rows = paths.sum((0, 1, 2, 4))
    centroid = (rows * torch.arange(size)).sum() / rows.sum()
    assert measured[middle] == pytest.approx(float(centroid), abs=1e-6)
    assert measured[middle] == pytest.approx(2 * middle + 0.5, abs=1e-6)  # mean of 0 and 1


def test_learned_taps_by_hand():
    network = nn.Sequential(conv(3, 2, 1))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[:, :, 0, 1, 0] = 1.0
        network[0].weight[:, :, 0, 1, 2] = 2.0
    y, x = cells(network, "0", 8, taps="learned")
    np.testing.assert_allclose(pixels(y, 8), [0, 2, 4, 6], atol=1e-6)
    # energies 1 and 4 one pixel to the left and to the right
    np.testing.assert_allclose(pixels(x, 8), [0.6, 2.6, 4.6, 6.6], atol=1e-6)
    with torch.no_grad():
        network[0].weight[:, :, 0, 1, 2] = 1.0
    _, x = cells(network, "0", 8, taps="learned")  # measured again
    np.testing.assert_allclose(pixels(x, 8), [0, 2, 4, 6], atol=1e-6)
    with pytest.raises(ValueError, match="learned"):
        cells(network, "0", 8, taps="trained")


def test_learned_taps_predict_where_gradients_lie():
    """EfficientNet-Lite0 with ImageNet weights: by its padding, cell i is centred on 32 i + 31; the
    kernels lean back to about 32 i + 17.6. Gradients of photographs, each of them also upside
    down, lie near there."""
    network, size, cell = networks.efficientnet_lite0(), 320, 5
    inflated = inflate(network, where="none")
    equal, learned = (
        pixels(cells(inflated, "bn2", size, taps=taps)[0], size)[cell]
        for taps in ("equal", "learned")
    )
    assert equal == pytest.approx(32 * cell + 31, abs=1e-3)
    rows = torch.arange(float(size))
    centroids = []
    for name in ("coffee", "astronaut", "grass", "brick", "gravel"):
        image = getattr(skimage.data, name)()[:size, :size]
        image = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
        for mirrored in (image, image[::-1]):
            x = torch.from_numpy(mirrored.copy()).float().div(127.5).sub(1).movedim(-1, 0)[None]
            x.requires_grad_()
            activations = network.forward_features(x)[:, :, cell, cell]
            (gradient,) = torch.autograd.grad(activations.square().sum(), x)
            energy = gradient.square().sum((0, 1, 3))
            centroids.append(float((energy * rows).sum() / energy.sum()))
    assert abs(learned - np.mean(centroids)) < 0.5 * abs(equal - np.mean(centroids))


def test_inflated_resnet50_stands_on_multiples_of_32():
    network = inflate(resnet50(num_classes=2))
    for name, stride in (("layer4", 32), ("layer3", 16)):
        y, x = cells(network, name, 224)
        np.testing.assert_allclose(pixels(y, 224), stride * np.arange(224 // stride), atol=1e-6)
        np.testing.assert_allclose(x, y, atol=1e-9)


def test_inflated_efficientnet_with_uneven_padding():
    network = inflate(timm.create_model("tf_efficientnet_lite0", num_classes=2))
    y, _ = cells(network, "bn2", 128)
    # Five strided layers, each padded by one less before than after: cell i looks at 2i + 1 below.
    np.testing.assert_allclose(pixels(y, 128), 31 + 32 * np.arange(4), atol=1e-6)
    y, _ = cells(network, "bn2", 129)  # an odd size is padded evenly by the first, of five
    np.testing.assert_allclose(pixels(y, 129), 32 * np.arange(5), atol=1e-6)


def test_steps_of_strided_time():
    network = r3d_18(num_classes=2)
    np.testing.assert_allclose(pixels(steps(network, "layer4", 16), 16), [0, 8], atol=1e-6)
    y, _ = cells(network, "layer4", 112)
    np.testing.assert_allclose(pixels(y, 112), 16 * np.arange(7), atol=1e-6)


def test_measuring_leaves_the_network_alone(network):
    network.train()
    before = state(network)
    cells(network, "relu2", 16)
    assert same(before, state(network))


def test_geometry_is_measured_once(network, frames):
    explain(network, frames)
    calls = []
    network.conv1.register_forward_hook(lambda *_: calls.append(1))
    explain(network, frames)
    assert len(calls) == 1  # the forward pass, nothing more


def test_half_cells_where_nothing_can_be_measured():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose3d(3, 4, (1, 2, 2), stride=(1, 2, 2))
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.up(x).mean((2, 3, 4)))

    network = Tokens()
    y, x = cells(network, "up", 4, grid=(8, 8))
    np.testing.assert_allclose(y, (np.arange(8) + 0.5) / 8)
    with pytest.raises(ValueError, match="grid"):
        cells(network, "up", 4)
    np.testing.assert_allclose(steps(network, "up", 6, 3), [1 / 6, 3 / 6, 5 / 6])


# --- how far a cell looks -------------------------------------------------------------------------


def time3(**options):
    return nn.Conv3d(3, 3, (3, 1, 1), padding=(1, 0, 0), **options)


FOOTPRINTS = {  # layers, axis, and by hand: stride, size, and the run that holds 90% of the paths
    "k3": ([conv(3, 1, 1)], 1, 1, 3, 3),
    "two of k3: 1 2 3 2 1, of 9": ([conv(3, 1, 1)] * 2, 2, 1, 5, 5),
    # 1 3 6 7 6 3 1, of 27: the middle five are 25 / 27
    "three of k3": ([conv(3, 1, 1)] * 3, 1, 1, 7, 5),
    "along time": ([time3()] * 2, 0, 1, 5, 5),
    "not across time": ([conv(3, 1, 1)] * 2, 0, 1, 1, 1),
    "k4 s4 p0": ([conv(4, 4, 0)], 2, 4, 4, 4),
    "dilated by 2": (
        [nn.Conv3d(3, 3, (1, 3, 3), padding=(0, 2, 2), dilation=(1, 2, 2))],
        1,
        1,
        5,
        5,
    ),
    "k3 s2, then k3: 3 + 2 * 2": ([conv(3, 2, 1), conv(3, 1, 1)], 1, 2, 7, 7),
    # the second pool spans two outputs of the first, 2 places apart
    "two pools": ([nn.MaxPool3d((1, 2, 2)), nn.AvgPool3d((1, 2, 2))], 2, 4, 4, 4),
    "padded on one side": ([Pad((0, 1, 0, 1)), conv(3, 2, 0)], 1, 2, 3, 3),
}


@pytest.mark.parametrize("name", FOOTPRINTS)
def test_footprints_by_hand(name):
    layers, axis, stride, size, effective = FOOTPRINTS[name]
    found = footprint(nn.Sequential(*layers), str(len(layers) - 1), (8, 32, 32), "equal")
    assert found.stride[axis] == pytest.approx(stride, abs=1e-5)
    assert (found.size[axis], found.effective[axis]) == (size, effective)


def test_a_footprint_lies_around_the_centre_of_learned_taps():
    """Energies 1, 0, 4: the centroid is 4/5 of the way from one pixel to the other."""
    layer = conv(3, 2, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[..., 1, 0], layer.weight[..., 1, 2] = 1.0, 2.0
    found = footprint(nn.Sequential(layer), "0", (1, 8, 8))
    assert found.field[1] == found.core[1] == pytest.approx((0.5, 0.5))
    assert found.field[2] == found.core[2] == pytest.approx((0.5 + 1.6, 0.5 + 0.4))
    assert found.half[2] == pytest.approx((0.5 - 0.4, 0.5 + 0.4))  # 4/5 of the paths: one pixel
    with torch.no_grad():
        layer.weight[..., 1, 0] = 2.0
    assert footprint(nn.Sequential(layer), "0", (1, 8, 8)).field[2] == pytest.approx((1.5, 1.5))


@pytest.mark.parametrize(("early", "size"), [(False, 427), (True, 483)])
def test_footprint_of_resnet50(early, size):
    """7 by 7 at stride 2, a 3 by 3 pool, then 3, 4, 6 and 3 kernels of 3 by 3: what they add is
    2 x the distance of their inputs. It is 32, after 16, in all but the first of the last stage:
    7 + 2*2 + 3*8 + (8 + 3*16) + (16 + 5*32) + (32 + 2*64) = 427. He et al. (2015, arXiv 1512.03385)
    stride earlier, in the 1 by 1 before: 7 + 2*2 + 3*8 + 4*16 + 6*32 + 3*64 = 483."""
    network = resnet50(num_classes=2)
    for stage in (network.layer2, network.layer3, network.layer4) if early else ():
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    found = footprint(inflate(network), "layer4", (16, 224, 224), "equal")
    # 3 frames once in each of 16 blocks' three kernels, and in the first convolution: 49 of them
    assert found.size == (2 * 49 + 1, size, size)
    assert found.stride == pytest.approx((1, 32, 32), abs=1e-5)
    assert found.effective[1] < size / 3  # most of it is never seen (Luo et al. 2016)


def test_temporal_reach_of_the_network_that_ships():
    """Five kernels of three frames in a row."""
    found = footprint(networks.load(), "bn2", (16, 128, 128))
    assert found.size[0] == 11 and found.effective[0] < 11
    assert found.stride == pytest.approx((1, 16, 16), abs=1e-5)
    assert "11 of 16 frames" in repr(found)


def test_a_global_gate_reaches_everything_and_hardly_matters():
    class Gate(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3, 4), keepdim=True).sigmoid()

    found = footprint(nn.Sequential(conv(3, 1, 1), Gate()), "1", (4, 8, 8), "equal")
    assert found.size == (np.inf,) * 3 and found.effective == (1, 3, 3)
    assert repr(found) == (
        "a cell sees all 4 frames (half within 1, 90% within 1) "
        "and all 8x8 pixels (each way half within 2x2, 90% within 3x3)"
    )


def test_no_footprint_where_nothing_can_be_measured():
    network = nn.Sequential(nn.ConvTranspose3d(3, 4, (1, 2, 2), stride=(1, 2, 2)), nn.Flatten())
    with torch.no_grad():
        network[0].weight.copy_(
            torch.linspace(-1, 0.5, network[0].weight.numel()).view(3, 4, 1, 2, 2)
        )
    assert footprint(network, "0", (4, 8, 8)) is None
    assert footprint(network, "1", (4, 8, 8)) is None


def test_no_footprint_of_a_network_for_one_size_only():
    class Strict(nn.Module):
        def forward(self, x):
            assert x.shape[-2:] == (8, 8)
            return x

    network = nn.Sequential(Strict(), conv(3, 1, 1))
    assert footprint(network, "1", (4, 8, 8)) is None
    y, _ = cells(network, "1", 8)  # where it looks can still be told
    np.testing.assert_allclose(pixels(y, 8), np.arange(8), atol=1e-6)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_footprints_leave_the_network_alone(network, context):
    network.train()
    before = state(network)
    with context():
        inside = footprint(network, "relu2", (5, 16, 16))
    assert same(before, state(network))
    assert inside.size == (5, 7, 7)
    runs = []
    network.conv1.register_forward_hook(lambda *_: runs.append(1))
    assert footprint(network, "relu2", (5, 16, 16)) == inside and not runs  # measured once
