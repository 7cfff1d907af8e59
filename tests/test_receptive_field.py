"""Where cells look: centres worked out by hand, and where gradients really lie."""

import copy
from functools import partial

import numpy as np
import pytest
import skimage.data
import timm
import torch
from small import Small, same, state
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.models.video import r3d_18

from lib.explain.clip import explain
from lib.explain.explanation import ExplainError
from lib.explain.receptive_field import measure
from lib.model import networks
from lib.model.inflate import inflate
from lib.viewer.viewer import html


def pixels(fractions, size):
    return np.asarray(fractions) * size - 0.5


def grid_of(network, layer, shape):
    """How many cells a layer has."""
    found = {}
    hook = lambda _m, _a, output: found.update(grid=tuple(output.shape[2:]))  # noqa: E731
    handle = network.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, *shape))
    handle.remove()
    return found["grid"]


def receptive_field(network, layer, shape, grid=None):
    """What a cell of a layer sees, with the grid that the network gives for that shape."""
    found = measure(network, layer, shape, grid or grid_of(network, layer, shape))
    return None if np.isnan(found.first).any() else found


def cell_centres(network, layer, shape, grid):
    """Centres (t,), (y,), (x,) as fractions of the clip."""
    field = measure(network, layer, shape, grid)
    return [field.centres(axis, cells) for axis, cells in enumerate(grid)]


def cells(network, layer, size, frames=1):
    """Centres of rows and columns, as fractions of a frame of `size`."""
    shape = (frames, *((size, size) if isinstance(size, int) else size))
    grid = grid_of(network, layer, shape)
    assert not np.isnan(measure(network, layer, shape, grid).first[1:]).any()
    return tuple(cell_centres(network, layer, shape, grid)[1:])


def effective(field):
    """Extent along each axis of what holds 90% of the paths."""
    return tuple(np.sum(field.core, 1).round(6))


def even(network):
    """The same network with kernels that weigh every tap alike."""
    for parameter in network.parameters():
        parameter.data.fill_(1.0)
    return network


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
    network = even(nn.Sequential(*layers))
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

    network, size = even(nn.Sequential(Branches())), 64
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
    y, x = cells(network, "0", 8)
    np.testing.assert_allclose(pixels(y, 8), [0, 2, 4, 6], atol=1e-6)
    # energies 1 and 4 one pixel to the left and to the right
    np.testing.assert_allclose(pixels(x, 8), [0.6, 2.6, 4.6, 6.6], atol=1e-6)
    with torch.no_grad():
        network[0].weight[:, :, 0, 1, 2] = 1.0
    _, x = cells(network, "0", 8)  # measured again
    np.testing.assert_allclose(pixels(x, 8), [0, 2, 4, 6], atol=1e-6)
    network[0].weight.data[:, :, 0, 1, 2] = 2.0  # of which autograd is not told
    _, x = cells(network, "0", 8)
    np.testing.assert_allclose(pixels(x, 8), [0.6, 2.6, 4.6, 6.6], atol=1e-6)


def test_learned_taps_predict_where_gradients_lie():
    """EfficientNet-Lite0 with ImageNet weights: by its padding, cell i is centred on 32 i + 31; the
    kernels lean back to about 32 i + 17.6. Gradients of photographs, each of them also upside
    down, lie near there."""
    network, size, cell = networks.efficientnet_lite0(), 320, 5
    inflated = inflate(network, where="none")
    learned = pixels(cells(inflated, "bn2", size)[0], size)[cell]
    equal = pixels(cells(even(inflated), "bn2", size)[0], size)[cell]
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
    network = even(inflate(resnet50(num_classes=2)))
    for name, stride in (("layer4", 32), ("layer3", 16)):
        y, x = cells(network, name, 224)
        np.testing.assert_allclose(pixels(y, 224), stride * np.arange(224 // stride), atol=1e-6)
        np.testing.assert_allclose(x, y, atol=1e-9)


def test_inflated_efficientnet_with_uneven_padding():
    network = even(inflate(timm.create_model("tf_efficientnet_lite0", num_classes=2)))
    y, _ = cells(network, "bn2", 128)
    # Five strided layers, each padded by one less before than after: cell i looks at 2i + 1 below.
    np.testing.assert_allclose(pixels(y, 128), 31 + 32 * np.arange(4), atol=1e-6)
    y, _ = cells(network, "bn2", 129)  # an odd size is padded evenly by the first, of five
    np.testing.assert_allclose(pixels(y, 129), 32 * np.arange(5), atol=1e-6)


def test_steps_of_strided_time():
    network = even(r3d_18(num_classes=2))
    t, y, _ = cell_centres(network, "layer4", (16, 112, 112), (2, 7, 7))
    np.testing.assert_allclose(pixels(t, 16), [0, 8], atol=1e-6)
    np.testing.assert_allclose(pixels(y, 112), 16 * np.arange(7), atol=1e-6)


def test_strides_that_do_not_divide_the_longer_input():
    """TensorFlow pads by what is left over: the longer input has to leave over the same."""

    class Same(nn.Conv3d):
        def forward(self, x):
            total = max(0, (-(-x.shape[-1] // 5) - 1) * 5 + 9 - x.shape[-1])
            return super().forward(F.pad(x, (total // 2, total - total // 2)))

    network = even(nn.Sequential(Same(3, 3, (1, 1, 9), (1, 1, 5))))
    for size, first in ((20, 2), (21, 0), (22, 1), (23, 1)):  # padded by 4, 8, 7 and 6 pixels
        _, x = cells(network, "0", size)
        np.testing.assert_allclose(pixels(x, size), first + 5 * np.arange(len(x)), atol=1e-6)


def test_measuring_leaves_the_network_alone(network):
    network.train()
    before = state(network)
    measure(network, "relu2", (5, 16, 16), (5, 4, 4))
    assert same(before, state(network))


def test_explaining_measures_nothing_until_asked_and_then_once(network, frames):
    calls = []
    network.conv1.register_forward_hook(lambda *_: calls.append(1))
    first, second = explain(network, frames), explain(network, frames)
    assert len(calls) == 2  # the forward passes, nothing more
    assert first.footprint.stride == (1, 4, 4)
    measured = len(calls)
    assert measured > 2 and second.footprint == first.footprint
    np.testing.assert_array_equal(second.cells, first.cells)
    assert len(calls) == measured and first.geometry_note == second.geometry_note == ""


def test_half_cells_where_nothing_can_be_measured(frames):
    class Tokens(nn.Module):
        preprocess, classes = staticmethod(Small.preprocess), ["a", "b"]

        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose3d(3, 4, (1, 2, 2), stride=(1, 2, 2))
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.up(x).mean((2, 3, 4)))

    network = Tokens()
    t, y, _ = cell_centres(network, "up", (6, 4, 4), (3, 8, 8))
    np.testing.assert_allclose(y, (np.arange(8) + 0.5) / 8)
    np.testing.assert_allclose(t, [1 / 6, 3 / 6, 5 / 6])
    found = explain(network, frames)
    np.testing.assert_allclose(found.cells[0], (np.arange(32) + 0.5) / 32, atol=1e-6)
    assert found.footprint is None and "where cells look" in found.geometry_note
    assert found.geometry_note in html(found)  # in its caption, too


def test_half_cells_under_an_adaptive_pool():
    """Its cells grow with the input: those of a longer one say nothing."""
    network = nn.Sequential(conv(3, 1, 1), nn.AdaptiveAvgPool3d((None, 2, 2)))
    assert receptive_field(network, "1", (4, 8, 8)) is None
    _, y, _ = cell_centres(network, "1", (4, 8, 8), (4, 2, 2))
    np.testing.assert_allclose(y, [1 / 4, 3 / 4])


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_compiled_network_is_measured_as_it_is_written(frames, network, wrapped):
    plain, compiled = explain(network.eval(), frames), copy.deepcopy(network)
    if wrapped:
        compiled = torch.compile(compiled, backend="eager")
    else:
        compiled.compile(backend="eager")
    options = dict(preprocess=network.preprocess, class_names=network.classes)
    for _ in range(2):
        found = explain(compiled, frames, **options)
        np.testing.assert_allclose(found.maps, plain.maps, atol=1e-6)
        np.testing.assert_array_equal(found.cells, plain.cells)
        assert found.footprint == plain.footprint and found.geometry_note == ""
        with torch.no_grad():
            compiled(network.preprocess(frames))  # from now on there is compiled code


class Folded(nn.Module):
    """Frames in the batch, as in TSN; with a shift along time between the layers, as in TSM."""

    preprocess, classes = staticmethod(Small.preprocess), ["a", "b"]

    def __init__(self, shift):
        super().__init__()
        self.shift = shift
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.last = nn.Conv2d(8, 8, 3, 2, 1)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        n, _, frames = x.shape[:3]
        x = self.stem(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (n, frames))  # (N, T, C, h, w)
        if self.shift:
            moved = torch.zeros_like(x[:, :, :2])
            moved[:, :-1] = x[:, 1:, :2]
            x = torch.cat([moved, x[:, :, 2:]], 2)
        x = self.last(x.flatten(0, 1))  # (N*T, C, h, w)
        return self.fc(x.mean((2, 3)).unflatten(0, (n, frames)).mean(1))


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("shift", [False, True])
def test_frames_folded_into_the_batch(shift, fixed):
    torch.manual_seed(0)
    network = even(Folded(shift))
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    unfold = lambda x: x.unflatten(0, (-1, 8 if fixed else len(x))).transpose(1, 2)  # noqa: E731
    found = explain(network, frames, layer="last", reshape=unfold)
    assert found.maps.shape == (2, 8, 8, 8) and found.bias is not None
    np.testing.assert_allclose(pixels(found.cells[0], 32), 4 * np.arange(8), atol=1e-5)
    assert found.geometry_note == ""
    assert found.footprint.size == (2 if shift else 1, 7, 7)


class Two(nn.Sequential):
    preprocess, classes = staticmethod(Small.preprocess), ["a", "b"]

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(conv(3, 2, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2))


def test_cells_are_those_of_the_weights_that_were_explained(frames):
    expected, network = explain(Two(), frames).cells, Two()
    before = explain(network, frames)
    network[0].weight.data[..., 0] = 0  # of which autograd is not told
    np.testing.assert_array_equal(before.cells, expected)
    after = explain(network, frames)
    assert after.cells[1][0] > expected[1][0] + 0.01  # the kernel leans to the right now
    with torch.no_grad():
        network[0].weight[..., 2] = 0
    np.testing.assert_allclose(pixels(explain(network, frames).cells[1], 16), 2 * np.arange(8))
    assert before.geometry_note == after.geometry_note == ""


def test_computed_weights_weigh_evenly(frames):
    """They cannot be kept, and may have changed when a cell's centre is asked for."""
    network = Two()
    nn.utils.parametrizations.weight_norm(network[0])
    network[0].parametrizations.weight.original1.data[..., 2] = 0
    found = explain(network, frames)
    assert found.footprint.size == (1, 3, 3) and found.geometry_note == ""
    np.testing.assert_allclose(pixels(found.cells[1], 16), 2 * np.arange(8), atol=1e-5)


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
    layers, axis, stride, size, most = FOOTPRINTS[name]
    network = even(nn.Sequential(*layers))
    found = receptive_field(network, str(len(layers) - 1), (8, 32, 32))
    assert found.stride[axis] == pytest.approx(stride, abs=1e-5)
    assert (found.size[axis], effective(found)[axis]) == (size, most)


def test_a_footprint_lies_around_the_centre_of_learned_taps():
    """Energies 1, 0, 4: the centroid is 4/5 of the way from one pixel to the other."""
    layer = conv(3, 2, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[..., 1, 0], layer.weight[..., 1, 2] = 1.0, 2.0
    found = receptive_field(nn.Sequential(layer), "0", (1, 8, 8))
    assert found.field[1] == found.core[1] == pytest.approx((0.5, 0.5))
    assert found.field[2] == found.core[2] == pytest.approx((0.5 + 1.6, 0.5 + 0.4))
    assert found.half[2] == pytest.approx((0.5 - 0.4, 0.5 + 0.4))  # 4/5 of the paths: one pixel
    with torch.no_grad():
        layer.weight[..., 1, 0] = 2.0
    assert receptive_field(nn.Sequential(layer), "0", (1, 8, 8)).field[2] == pytest.approx(
        (1.5, 1.5)
    )


@pytest.mark.parametrize(("early", "size"), [(False, 427), (True, 483)])
def test_footprint_of_resnet50(early, size):
    """7 by 7 at stride 2, a 3 by 3 pool, then 3, 4, 6 and 3 kernels of 3 by 3: what they add is
    2 x the distance of their inputs. It is 32, after 16, in all but the first of the last stage:
    7 + 2*2 + 3*8 + (8 + 3*16) + (16 + 5*32) + (32 + 2*64) = 427. He et al. (2015, arXiv 1512.03385)
    stride earlier, in the 1 by 1 before: 7 + 2*2 + 3*8 + 4*16 + 6*32 + 3*64 = 483."""
    network = resnet50(num_classes=2)
    for stage in (network.layer2, network.layer3, network.layer4) if early else ():
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    found = receptive_field(even(inflate(network)), "layer4", (16, 224, 224), (16, 7, 7))
    # 3 frames once in each of 16 blocks' three kernels, and in the first convolution: 49 of them
    assert found.size == (2 * 49 + 1, size, size)
    assert found.stride == pytest.approx((1, 32, 32), abs=1e-5)
    assert effective(found)[1] < size / 3  # most of it is never seen (Luo et al. 2016)


def test_temporal_reach_of_the_network_that_ships():
    """Four kernels of three frames in a row, and of the last of these the change to the next."""
    found = receptive_field(networks.load(), "blocks", (16, 192, 192), (16, 12, 12))
    assert found.size[0] == 10 and effective(found)[0] < 10
    assert found.stride == pytest.approx((1, 16, 16), abs=1e-5)
    assert "10 of 16 frames" in repr(found)


def test_a_global_gate_reaches_everything_and_hardly_matters():
    class Gate(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3, 4), keepdim=True).sigmoid()

    found = receptive_field(even(nn.Sequential(conv(3, 1, 1), Gate())), "1", (4, 8, 8))
    assert found.size == (np.inf,) * 3 and effective(found) == (1, 3, 3)
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
    assert receptive_field(network, "0", (4, 8, 8)) is None
    assert receptive_field(network, "1", (4, 8, 8), (1, 1, 1)) is None


def test_a_network_for_one_size_only():
    class Strict(nn.Module):
        def forward(self, x):
            assert x.shape[-2:] == (8, 8)
            return x

    network = even(nn.Sequential(Strict(), conv(3, 1, 1)))
    assert receptive_field(network, "1", (4, 8, 8)).size == (1, 3, 3)
    y, _ = cells(network, "1", 8)
    np.testing.assert_allclose(pixels(y, 8), np.arange(8), atol=1e-6)
    wide = even(nn.Sequential(Strict(), conv(9, 1, 4)))  # the border is too near to tell
    assert receptive_field(wide, "1", (4, 8, 8)) is None


@pytest.mark.parametrize("fused", [False, True])
def test_no_receptive_field_of_attention(fused):
    class Attention(nn.Module):
        def forward(self, x):
            tokens = x.flatten(2).movedim(1, -1)  # (N, T*h*w, C)
            if fused:
                seen = F.scaled_dot_product_attention(tokens, tokens, tokens)
            else:
                seen = (tokens @ tokens.mT).softmax(-1) @ tokens
            return x + seen.movedim(-1, 1).view_as(x)

    network = nn.Sequential(conv(4, 4, 0), Attention())
    assert receptive_field(network, "1", (2, 32, 32)) is None


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_footprints_leave_the_network_alone(network, context):
    network.train()
    before = state(network)
    with context():
        inside = receptive_field(network, "relu2", (5, 16, 16), (5, 4, 4))
    assert same(before, state(network))
    assert inside.size == (5, 7, 7)
    runs = []
    network.conv1.register_forward_hook(lambda *_: runs.append(1))
    assert (
        receptive_field(network, "relu2", (5, 16, 16), (5, 4, 4)) == inside and not runs
    )  # measured once


class Placed(Small):
    """Adds a table of places, which it makes anew for a longer clip and keeps."""

    table = None

    def forward(self, x):
        if self.table is None or x.shape[2] > len(self.table):
            self.table = torch.arange(x.shape[2]).float().neg().exp()
        x = self.features(x) + self.table[: x.shape[2], None, None]
        return self.classifier(x.mean((2, 3, 4)))


def test_a_table_as_long_as_the_measured_clip_is_not_kept(frames):
    network = Placed().eval()
    first = explain(network, frames, 0, method="gradcam")
    assert first.footprint is not None and network.table is None
    again = explain(network, frames, 0, method="gradcam")
    np.testing.assert_array_equal(again.logits, first.logits)


def test_another_dilation_is_measured_anew(network, frames):
    assert explain(network, frames).footprint.size == (5, 7, 7)
    network.conv2.dilation = network.conv2.padding = (1, 2, 2)
    assert explain(network, frames).footprint.size == (5, 11, 11)


class Lagging(Small):
    """As a causal network: a cell sees the frame that is `lag` frames before its own."""

    def __init__(self, lag):
        super().__init__()
        self.lag, self.seen = lag, nn.Conv3d(3, 8, (lag + 1, 3, 3), stride=(1, 2, 2))
        self.seen.weight.data[:, :, 1:] = 0

    def features(self, x):
        return self.relu2(self.seen(F.pad(x, (0, 0, 0, 0, self.lag, 0))))


@pytest.mark.parametrize("lag", [1, 4])
def test_cells_of_other_frames_are_not_drawn_on_their_own(frames, lag):
    found = explain(Lagging(lag).eval(), frames, 0)
    for draw in partial(found.ledger, 0), lambda: found.cells, found._repr_html_:
        with pytest.raises(ExplainError, match="frames away from its own, as in a causal") as error:
            draw()
        assert f"each cell looks -{lag}.0 frames away" in str(error.value)
    assert explain(Lagging(0).eval(), frames, 0).ledger(0).shape == (5,)
