"""What a network may not do with a clip, and what it is told then."""

from functools import partial

import numpy as np
import pytest
import torch
from small import NAMES, Small
from torch import nn

from lib.explain import Explanation, explain
from lib.explain.explanation import ExplainError
from lib.model import load
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
    for look in (found._repr_html_, lambda: found.ledger(0)):
        with pytest.raises(ExplainError, match=f"round along {along}: the network"):
            look()
    mended = explain(Turns(axis), frames, 0, "relu2", "gradcam", reshape=lambda x: x.flip(axis))
    assert mended.footprint.stride == explain(Small(), frames, 0).footprint.stride


INSIDE = {  # what a network may do to a clip (N, C, T, H, W) before it looks
    "rows and columns exchanged": lambda x: x.transpose(3, 4),
    "the end first": lambda x: x.roll(x.shape[2] // 2, 2),
    "columns rolled": lambda x: x.roll(x.shape[4] // 2, 4),
    "the beginning alone": lambda x: x[:, :, :3],
    "the brightest first": lambda x: x[:, :, x.mean((0, 1, 3, 4)).argsort(descending=True)],
}


@pytest.mark.parametrize("inside", INSIDE)
def test_a_clip_reordered_inside_is_not_drawn(inside):
    class Reorders(Small):
        def forward(self, x):
            return super().forward(INSIDE[inside](x))

    torch.manual_seed(0)
    ramp = np.linspace(40, 200, 8, dtype=np.uint8)[:, None, None, None]  # each frame is brighter
    noise = np.random.default_rng(0).integers(0, 30, (8, 32, 32, 3), np.uint8)
    with pytest.raises(ExplainError, match="do not change where the clip does along"):
        explain(Reorders(), ramp + noise, 0, method="gradcam").cells  # noqa: B018


def test_a_layer_that_runs_twice_says_so(frames):
    class Twice(Small):
        def forward(self, x):
            return (super().forward(x) + super().forward(x[..., ::2])) / 2

    for layer in (None, "conv2"):
        found = explain(Twice(), frames, 0, layer, "gradcam")
        assert f"layer {found.layer!r} ran 2 times: this is the last" in found.geometry_note
    assert "ran" not in explain(Small(), frames, 0, "conv2", "gradcam").geometry_note


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cam_in_half_precision_refuses_another_pooling(frames, dtype):
    class Uneven(Small):
        def forward(self, x):
            y = self.features(x).mean((3, 4))  # (N, C, T)
            share = torch.linspace(-0.6, 0.6, y.shape[2]).softmax(0).to(y)
            return self.classifier((y * share).sum(2))

    torch.manual_seed(0)
    network = Uneven().eval()
    network.classifier.weight.data *= 20
    ramp = (frames * np.linspace(0.3, 1, len(frames))[:, None, None, None]).astype(np.uint8)
    with pytest.raises(ExplainError, match="average pooling"):
        explain(network.to(dtype), ramp, 0)


def test_a_layer_that_is_given_some_frames_at_a_time_is_refused(frames):
    with pytest.raises(ExplainError, match="'blocks.1.module.1' is given some .*: name 'blocks.1'"):
        explain(load(), frames, 0, "blocks.1.module.1", "gradcam")


def test_complex_numbers_are_not_rounded(frames):
    class Waves(Small):
        def __init__(self):
            super().__init__()
            self.waves = torch.nn.Module()
            self.waves.forward = lambda x: torch.fft.rfftn(x, dim=(2, 3, 4))

        def forward(self, x):
            y = self.features(x)
            y = torch.fft.irfftn(self.waves(y), y.shape[2:], dim=(2, 3, 4))
            return self.classifier(y.mean((2, 3, 4)))

    network = Waves().eval()
    found = explain(network, frames, 0, "conv1", "gradcam")
    with torch.inference_mode():
        logits = network(network.preprocess(found.frames))[0]
    assert found.logits == pytest.approx(logits.numpy(), abs=1e-6)
    with pytest.raises(ExplainError, match="layer 'waves' gives"):
        explain(network, frames, 0, "waves", "gradcam")


def test_steps_before_the_first_frame_keep_their_sum():
    class Causal(nn.Module):
        preprocess, classes = staticmethod(Small.preprocess), NAMES

        def __init__(self):
            super().__init__()
            strides = (2, 1, 1)
            convs = [nn.Conv3d(c, 4, 3, (s, 1, 1), (0, 1, 1)) for c, s in zip((3, 4, 4), strides)]
            self.convs, self.fc = nn.ModuleList(convs), nn.Linear(4, 3)

        def forward(self, x):
            for conv in self.convs:
                x = conv(nn.functional.pad(x, (0, 0, 0, 0, 2, 0)))
            return self.fc(x.mean((2, 3, 4)))

    frames = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3), np.uint8)
    found = explain(Causal().eval(), frames, 0)
    assert found.map(0).sum() + found.bias[0] == pytest.approx(found.logits[0], abs=1e-5)


def test_a_clip_may_be_given_backwards(frames):
    network = load()
    there, back = (explain(network, x, 0) for x in (frames[::-1].copy(), frames[::-1]))
    np.testing.assert_array_equal(there.maps, back.maps)


@pytest.mark.parametrize("sides", [4, (4, 8), (2, 4, 4, 4)])
def test_a_window_has_three_sides(frames, sides):
    for given in (dict(window=sides), dict(stride=sides)):
        with pytest.raises(ExplainError, match="three numbers each"):
            explain(Small(), frames, 0, method="occlusion", **given)


def test_a_window_is_of_whole_numbers(frames):
    for given in (dict(window=(1.5, 2, 2)), dict(stride=np.array([1.0, 2, 2]))):
        with pytest.raises(ExplainError, match="three numbers each"):
            explain(Small(), frames, 0, method="occlusion", **given)
    stride = np.array([5, 8, 8])
    found = explain(Small(), frames, 0, method="occlusion", window=(5, 8, 8), stride=stride)
    assert found.cells[0].shape == (2,)


@pytest.mark.parametrize("clip", [None, 3, [1, 2], np.zeros((2, 4, 4))])
def test_what_is_no_clip_is_refused(clip):
    with pytest.raises(ExplainError, match=r"clip: \(T, H, W, 3\) uint8 is needed"):
        explain(Small(), clip)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_frames_are_mapped_alone_in_half_precision(dtype):
    torch.manual_seed(0)
    frames = np.random.default_rng(0).integers(0, 255, (8, 48, 48, 3), np.uint8)
    found = explain(Small().eval().to(dtype), frames, motion=True)
    assert found.alone.shape == found.maps.shape


def test_pixels_may_have_to_be_above_zero(frames):
    """Clips of a batch are told apart without any that the network cannot take."""

    class Logarithm(Small):
        def forward(self, x):
            return super().forward((x + 2).log())

    assert explain(Logarithm().eval(), frames, 0, method="gradcam", motion=True).alone.any()


def test_time_before_channels_is_not_guessed_where_both_fit():
    class Joined(nn.Module):
        preprocess, classes = staticmethod(Small.preprocess), NAMES

        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Conv3d(3, 8, 3, 2, 1) for _ in range(2))
            self.relu, self.fc = nn.ReLU(), nn.Linear(16, 3)

        def forward(self, x):
            return self.fc(self.relu(torch.cat([self.a(x), self.b(x)], 1)).mean((2, 3, 4)))

    frames = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), np.uint8)
    assert explain(Joined().eval(), frames, 0).maps.shape == (1, 16, 16, 16)


class Unkept(Small):
    def __init__(self):
        super().__init__()
        self.bn1 = nn.BatchNorm3d(6, track_running_stats=False)


class Functional(Small):
    def forward(self, x):
        return super().forward(nn.functional.batch_norm(x, None, None, training=True))


class Averages(Small):
    def forward(self, x):
        return super().forward(x).mean(0, keepdim=True)


@pytest.mark.parametrize("kind", [Unkept, Functional, Averages])
def test_clips_that_see_each_other_are_covered_one_by_one(frames, kind):
    network = kind().eval()
    found = explain(network, frames, 0, method="occlusion", window=(5, 8, 8), stride=(5, 8, 8))
    inputs = network.preprocess(found.frames)
    covered = inputs.clone()
    covered[:, :, :, :8, :8] = 0
    with torch.inference_mode():
        lost = (network(inputs) - network(covered))[0, 0].item()
    assert found.maps[0, :, 0, 0].sum() == pytest.approx(lost, abs=1e-5)
    with pytest.raises(ExplainError, match="motion: .*the network mixes the frames of a batch"):
        explain(network, frames, 0, method="gradcam", motion=True)


class Always(Small):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, training=True))


class Switched(Small):
    def forward(self, x):
        self.drop.train()
        return super().forward(x)


@pytest.mark.parametrize("kind", [Always, Switched])
@pytest.mark.parametrize("method", ["cam", "gradcam", "occlusion"])
def test_a_network_that_draws_random_numbers_is_refused(frames, kind, method):
    with pytest.raises(ExplainError, match="draws random numbers, .*dropout that is always on"):
        explain(kind().eval(), frames, 0, method=method)


def test_what_the_networks_own_hook_keeps_is_told(frames):
    network, kept = Small().eval(), []
    assert not explain(network, frames, 0, "conv2", "gradcam").geometry_note
    network.conv2.register_forward_hook(lambda *given: kept.append(given[2]))
    note = explain(network, frames, 0, "conv2", "gradcam").geometry_note
    assert note == "what hooks of 'conv2' keep for later layers is not followed"


def test_a_module_has_the_maps_of_its_first_name_by_every_name(frames):
    network = Small().eval()
    network.again = network.conv2
    first, again = (explain(network, frames, 0, n, "gradcam") for n in ("conv2", "again"))
    np.testing.assert_array_equal(first.maps, again.maps)


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return 2 * x


class Doubles(Small):
    def features(self, x):
        return NoBackward.apply(super().features(x))


def test_what_has_no_backward_pass_is_said_in_its_words(frames):
    with pytest.raises(ExplainError, match="no gradient at layer 'conv2' .NotImplementedError: "):
        explain(Doubles().eval(), frames, 0, "conv2", "gradcam")


def test_frames_folded_into_the_batch_are_mapped_alone(frames):
    class Pictures(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.conv(x).mean((2, 3)))

    network = Own(Pictures(), "(NT)3HW", preprocess=Small.preprocess, classes=NAMES).eval()
    found = explain(network, frames, 0, method="gradcam", motion=True)
    np.testing.assert_allclose(found.alone[0], found.maps[0], atol=1e-6)  # it sees no motion
    assert explain(network, frames[:1], 0, method="gradcam").maps.shape == (1, 1, 8, 8)


def by_clip(x):
    return (x - x.mean()) / x.std()


def by_frame(x):
    return (x - x.mean((3, 4), keepdim=True)) / x.std((3, 4), keepdim=True)


def padded(x, count):
    """The last frame so many times more."""
    return torch.cat([x, x[:, :, -1:].repeat(1, 1, count, 1, 1)], 2)


def fixed(frames):
    if len(frames) != 16:
        raise KeyError("16 frames")
    return Small.preprocess(frames)


@pytest.mark.parametrize(
    "preprocess, told",
    [
        (lambda x: by_clip(Small.preprocess(x)), ""),
        (lambda x: by_frame(Small.preprocess(x)), ""),
        (lambda x: -Small.preprocess(x), ""),
        (lambda x: Small.preprocess(x[::2]), ""),
        (lambda x: Small.preprocess(x[::4]), ""),
        (lambda x: Small.preprocess(x).diff(dim=2), "|crops, or cannot be followed"),
        (lambda x: Small.preprocess(x)[:, :, :, 2:-2, 2:-2], "|crops, or cannot be followed"),
        (lambda x: padded(Small.preprocess(x), 5), "leaves out or reorders frames"),
        (lambda x: Small.preprocess(x)[:, :, 2:], "leaves out or reorders frames"),
        (lambda x: Small.preprocess(x)[:, :, :-2], "leaves out or reorders frames"),
        (lambda x: Small.preprocess(x[:, ::-1])[:, :, :, 3:-3, 3:-3], "mirrors or turns"),
        (lambda x: Small.preprocess(x)[..., 3:-3, 3:-3].transpose(3, 4), "mirrors or turns"),
        (lambda x: Small.preprocess(x).transpose(3, 4), "mirrors or turns the frames"),
        (lambda x: Small.preprocess(x) + torch.rand(1), "preprocess draws random numbers"),
        (lambda x: Small.preprocess(x) + np.random.rand(), "preprocess draws random numbers"),
        (lambda x: by_clip(Small.preprocess(x[::-1])), "leaves out or reorders frames"),
        (lambda x: by_clip(Small.preprocess(x[:2])), "leaves out or reorders frames"),
        (lambda x: by_frame(Small.preprocess(x[3:])), "leaves out or reorders frames"),
        (lambda x: Small.preprocess(x[::-1, 3:-3, 3:-3]), "leaves out or reorders frames"),
        (lambda x: by_clip(Small.preprocess(x[:, ::-1])), "mirrors or turns the frames"),
        (fixed, r"preprocess refuses frames \(5, 16, 16, 3\) \(KeyError: '16 frames'\)"),
    ],
)
def test_a_preprocess_is_followed_whatever_it_normalises(frames, preprocess, told):
    ask = partial(explain, Small().eval(), frames, 0, "conv2", "gradcam", preprocess=preprocess)
    if not told or told[0] == "|":
        assert ("preprocess" in ask().geometry_note) == bool(told)
        return
    with pytest.raises(ExplainError, match=told):
        ask()


@pytest.mark.parametrize(
    "wrong, told",
    [
        (dict(size=0), "size=0: a whole number of pixels"),
        (dict(size=-8), "size=-8: a whole number of pixels"),
        (dict(size=2.5), "size=2.5: a whole number of pixels"),
        (dict(class_names=3), "class names 3: a list"),
        (dict(class_names="abc"), "class names 'abc': a list"),
        (dict(class_names={*NAMES}), "class names .*: a list"),
        (dict(reshape=lambda x: {}[0], layer="conv2"), "which reshape refuses: 0"),
    ],
)
def test_a_wrong_argument_is_named(frames, wrong, told):
    with pytest.raises(ExplainError, match=told):
        explain(Small().eval(), frames, 0, method="gradcam", **wrong)


@pytest.mark.parametrize("network", [None, "r3d_18", Small, lambda x: x])
@pytest.mark.parametrize("method", ["cam", "gradcam", "occlusion"])
def test_what_is_no_network_is_named(frames, network, method):
    with pytest.raises(ExplainError, match="^network: .* is no module; lib.model.hub.load takes"):
        explain(network, frames, method=method, preprocess=Small.preprocess)


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
        (scripted, "made by torch.jit or .export, without layers"),
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


def on_meta(x):
    return x.to("meta")


@pytest.mark.parametrize(
    "change",
    [torch.Tensor.int, torch.Tensor.bool, torch.Tensor.to_sparse, on_meta, lambda x: x[:, :0]],
)
@pytest.mark.parametrize("method", ["cam", "gradcam", "occlusion"])
def test_logits_that_are_none_are_refused(frames, change, method):
    class Other(Small):
        def forward(self, x):
            return change(super().forward(x))

    with pytest.raises(ExplainError, match=r"logits \(N, K\) are needed, as floats"):
        explain(Other().eval(), frames, 0, method=method)


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


def test_maps_made_elsewhere_take_what_argmax_gives():
    frames, maps = np.zeros((2, 8, 8, 3), np.uint8), np.ones((2, 4, 4))
    for mapped in (np.int64(1), torch.tensor(1), np.argmax([1, 2])):
        assert Explanation.of(frames, maps, iter("ab"), [2.0, 1.0], mapped).mapped == [1]
    with pytest.raises(ExplainError, match="texts are needed"):
        Explanation.of(frames, maps, {0: "a", 1: "b"}, [2.0, 1.0])


def test_an_unknown_argument_is_named():
    with pytest.raises(ValueError, match="no argument labels: there are classes, preprocess"):
        Own(Small(), labels=NAMES)
