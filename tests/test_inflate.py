"""Inflation: numbers by hand, and the frozen-clip identities on real weights."""

import json
from collections import Counter
from pathlib import Path

import inflation
import numpy as np
import pytest
import skimage.data
import timm
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from lib.model import networks
from lib.model.framewise import Framewise, SeeMotion, movement
from lib.model.inflate import inflate, macs, parameters
from lib.model.kernels import inflate_weight


@pytest.fixture(scope="module")
def lite0():
    return networks.efficientnet_lite0()


def frozen(photograph: np.ndarray, size: int, frames: int) -> torch.Tensor:
    picture = np.asarray(Image.fromarray(photograph).resize((size, size)))
    preprocess = networks.Preprocess(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return preprocess(np.repeat(picture[None], frames, axis=0))  # (1, 3, T, S, S)


def test_weights_by_hand():
    w = torch.tensor([[[[6.0]]]])
    assert inflate_weight(w, 3, "mean").flatten().tolist() == [2, 2, 2]
    assert inflate_weight(w, 3, "centre").flatten().tolist() == [0, 6, 0]
    assert inflate_weight(w, 5, "centre").flatten().tolist() == [0, 0, 6, 0, 0]
    two = torch.tensor([6.0, 1.0]).view(2, 1, 1, 1)
    assert inflate_weight(two, 3, "difference").flatten(1).tolist() == [[-1, 6, 1], [-6, 1, 6]]
    assert inflate_weight(two, 1, "difference").flatten().tolist() == [6, 1]
    new = inflate_weight(w.expand(4, 2, 3, 3), 3, "random")  # within 1 / sqrt(2 * 3 * 3 * 3)
    assert new.shape == (4, 2, 3, 3, 3) and 0.12 < new.abs().max() <= 54**-0.5


def test_padding_ghosts_by_hand():
    conv = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(conv.weight, 6.0)
    still = torch.ones(1, 1, 4, 1, 1)
    grown = inflate(nn.Sequential(conv), init="mean")
    assert grown(still).flatten().tolist() == pytest.approx([4, 6, 6, 4])
    grown = inflate(nn.Sequential(conv), init="centre")
    assert grown(still).flatten().tolist() == [6, 6, 6, 6]


@pytest.mark.parametrize("init", ["mean", "centre", "difference"])
@torch.inference_mode()
def test_with_repeated_frames_every_start_keeps_the_identity_to_the_ends(lite0, init):
    still = frozen(skimage.data.coffee()[:, 100:500], 96, 4)
    grown = inflate(lite0, init=init, where="late", padding="replicate")
    wanted = lite0.forward_features(still[:, :, 0]).unsqueeze(2)
    assert torch.allclose(
        grown.forward_features(still), wanted.expand(-1, -1, 4, -1, -1), atol=1e-4
    )


def test_what_moves_by_hand():
    """A thing of brightness 6 stands in the left place for two frames, then in the right one."""
    clip = torch.tensor([[6.0, 6, 0, 0], [0, 0, 6, 6], [0, 0, 0, 0]]).T.reshape(1, 1, 4, 1, 3)
    see = SeeMotion(nn.Identity())
    # The left and the right place are 3 from their means in every frame, the last one never is.
    assert movement(clip)[0, 0, 2, 0].tolist() == pytest.approx([1.5**0.5, 1.5**0.5, 1e-3])
    seen = see(clip)  # (1, 2, 4, 1, 3): brightness, and twice its change to the next frame
    assert seen[0, 0, :, 0, 0].tolist() == pytest.approx([9, 9, 0, 0], rel=1e-3)
    assert seen[0, 1, 1, 0].tolist() == pytest.approx([-18, 18, 0], rel=1e-3)
    see.power = 0
    assert see(clip)[0, 1, :, 0].tolist() == [[0, 0, 0], [-12, 12, 0], [0, 0, 0], [0, 0, 0]]


def test_the_weight_of_a_place_is_its_movement_to_the_power():
    clip = torch.tensor([[0.0, 8], [0, 1]]).T.reshape(1, 1, 2, 1, 2)  # 4 from the mean, and 1/2
    see = SeeMotion(nn.Identity())
    for see.power in 1, 1.25, 2:
        seen = see(clip)[0, 0, 1, 0]
        assert (seen[0] / 8 / seen[1]).item() == pytest.approx(8**see.power, rel=1e-3)


def test_where_nothing_moves_all_places_weigh_alike():
    still, see = torch.rand(2, 3, 1, 4, 4).expand(-1, -1, 5, -1, -1), SeeMotion(nn.Identity())
    wanted = torch.cat([still, 0 * still], 1)
    assert torch.allclose(see(still), wanted, atol=1e-6)
    assert torch.equal(see(still[:, :, 0]), wanted[:, :, 0])  # and a picture is such a clip
    alone = still[:, :, :1].requires_grad_()
    see(alone).sum().backward()
    assert alone.grad.isfinite().all()


def test_the_body_of_what_sees_motion_grows():
    net2d = nn.Sequential(nn.Conv2d(1, 1, 1), SeeMotion(nn.Conv2d(2, 3, 3, padding=1)))
    grown = inflate(net2d, where=lambda name, conv: name == "1.body")
    assert isinstance(grown[1], SeeMotion) and grown[1].body.kernel_size == (3, 3, 3)
    clip = torch.rand(1, 1, 4, 5, 5)
    for t in 1, 2:  # the middle step is the 2D network, and a weight of each place
        change = 2 * (grown[0](clip)[:, :, t + 1] - grown[0](clip)[:, :, t])
        frame = net2d[1].body(torch.cat([grown[0](clip)[:, :, t], change], 1))
        weights = grown(clip)[:, :, t] / frame
        assert torch.allclose(weights, weights[:, :1].expand_as(weights), rtol=1e-3)


@pytest.mark.parametrize("where", ["all", "spatial", "first", "late"])
@torch.inference_mode()
def test_centre_start_answers_a_frozen_clip_as_the_2d_network_does(lite0, where):
    clip = frozen(skimage.data.coffee()[:, 100:500], 96, 4)
    wanted = lite0(clip[:, :, 0])
    got = inflate(lite0, init="centre", where=where)(clip)
    assert (got - wanted).abs().max() < 1e-4


@torch.inference_mode()
def test_mean_start_does_so_away_from_the_ends(lite0):
    clip = frozen(skimage.data.chelsea(), 64, 13)
    wanted = lite0(clip[:, :, 0])
    grown = inflate(lite0, init="mean", where="late")
    activations = grown.forward_features(clip)
    middle = lite0.forward_head(activations[:, :, 6])
    first = lite0.forward_head(activations[:, :, 0])
    assert (middle - wanted).abs().max() < 1e-4
    assert (first - wanted).abs().max() > 0.1


def test_variants_of_the_articles_network():
    with torch.device("meta"):
        resnet = torchvision.models.resnet50(num_classes=40)
    found = {}
    for where in ("none", "first", "spatial", "all"):
        grown = inflate(resnet, where=where)
        found[where] = (
            round(parameters(grown) / 1e6, 1),
            round(macs(grown, 1, 3, 16, 224, 224) / 1e9, 1),
        )
    assert found == {
        "none": (23.6, 65.4),
        "first": (32.3, 99.2),
        "spatial": (46.2, 128.4),
        "all": (70.5, 196.2),
    }


def test_final_activations_of_the_articles_network():
    with torch.device("meta"):
        grown = inflate(torchvision.models.resnet50(), where="all").eval()
        x = torch.empty(1, 3, 16, 224, 224)
    shapes = []
    grown.layer4.register_forward_hook(lambda m, a, y: shapes.append(tuple(y.shape)))
    assert grown(x).shape == (1, 1000)
    assert shapes == [(1, 2048, 16, 7, 7)]


def test_framewise_is_the_2d_module_on_each_frame():
    conv, x = nn.Conv2d(3, 5, 3, padding=1), torch.randn(2, 3, 4, 6, 6)
    y = Framewise(conv)(x)
    assert y.shape == (2, 5, 4, 6, 6)
    for t in range(4):
        assert torch.allclose(y[:, :, t], conv(x[:, :, t]), atol=1e-6)


def test_framewise_gives_the_same_in_groups_which_evaluation_makes_of_a_row_of_layers():
    calls = []
    norm = nn.BatchNorm2d(3)
    norm.register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    row, alone, x = Framewise(nn.Sequential(norm)), Framewise(norm), torch.randn(3, 3, 7, 2, 2)
    row.train()(x)
    assert calls == [21]  # all count for the batch's mean
    whole = alone.eval()(x)
    assert calls[1:] == [21]
    assert torch.equal(row.eval()(x), whole)
    assert calls[2:] == [8, 8, 5]
    norm.running_mean = norm.running_var = None  # as in training mode: the mean of the batch
    row(x)
    assert calls[5:] == [21]


def test_leaves_the_2d_network_alone(lite0):
    before = {name: x.clone() for name, x in lite0.state_dict().items()}
    grown = inflate(lite0)
    with torch.no_grad():
        for p in grown.parameters():
            p.zero_()
    assert all(torch.equal(x, before[name]) for name, x in lite0.state_dict().items())


def test_batch_norm_learns_from_every_frame():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    grown, x = inflate(net, where="all").train(), torch.randn(2, 3, 4, 5, 5)
    y = grown(x)
    assert torch.allclose(y.mean((0, 2, 3, 4)), torch.zeros(4), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(kernel=2), "odd"),
        (dict(kernel=0), "odd"),
        (dict(init="zero"), "'mean', 'centre', 'difference' or 'random'"),
        (dict(where="middle"), "'spatial'"),
    ],
)
def test_says_what_is_wrong(arguments, said):
    with pytest.raises(ValueError, match=said):
        inflate(nn.Sequential(nn.Conv2d(1, 1, 1)), **arguments)


def test_names_what_has_no_3d_form():
    """Where channels come last, no layer of the 3D network could be read."""
    for norm in nn.LayerNorm(4), nn.RMSNorm(4):
        with pytest.raises(TypeError, match=rf"0 \({type(norm).__name__}\)"):
            inflate(nn.Sequential(norm, nn.Conv2d(1, 1, 1)))


def test_a_rule_that_chooses_nothing_is_no_inflation():
    with pytest.raises(ValueError, match="'late' chooses no convolution"):
        inflate(nn.Sequential(nn.Conv2d(1, 1, 1)), where="late")


def still(net2d: nn.Module, **arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers to a picture, and to a clip of it: its logits, or else its middle frame."""
    torch.manual_seed(1)
    picture = torch.rand(1, 3, 16, 16).to(next(net2d.parameters()))
    with torch.inference_mode():
        answer = inflate(net2d, **arguments).eval()(picture.unsqueeze(2).expand(-1, -1, 5, -1, -1))
        return net2d.eval()(picture), answer if answer.ndim == 2 else answer[:, :, 2]


@pytest.mark.parametrize("init", ["mean", "centre", "difference"])
@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_parametrized_convolution_grows_from_the_kernel_it_uses(norm, init):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    nn.init.normal_(conv.bias)
    net2d = nn.Sequential(norm(conv))
    with torch.no_grad():
        for parameter in net2d.parameters():
            parameter.mul_(3)  # so that the kernel is not what it was before
    torch.testing.assert_close(*still(net2d, init=init))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_bias_groups_and_number_type_are_kept(dtype):
    conv = nn.Conv2d(3, 6, 3, stride=2, padding=2, dilation=2, groups=3, dtype=dtype)
    wanted, found = still(nn.Sequential(conv))
    assert found.dtype == dtype
    torch.testing.assert_close(found, wanted)


class Doubled(nn.Conv2d):
    """Its forward gives twice what a convolution gives."""

    def forward(self, x):
        return 2 * super().forward(x)


class Centred(nn.Conv2d):
    """The same, where few look."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Named(nn.Conv2d):
    """A subclass that changes nothing but how it is made."""

    def __init__(self, channels):
        super().__init__(channels, channels, 3, padding=1)


class Power(nn.AdaptiveAvgPool2d):
    def forward(self, x):
        return super().forward(x.abs() ** 3) ** (1 / 3)


class Scaled(nn.ReLU):
    def forward(self, x):
        return super().forward(x) / x.amax((2, 3), keepdim=True)  # of a clip: over time and rows


def with_hook(conv: nn.Conv2d, before: bool) -> nn.Conv2d:
    add = conv.register_forward_pre_hook if before else conv.register_forward_hook
    add(lambda *_: None)
    return conv


def patched(conv: nn.Conv2d) -> nn.Conv2d:
    conv.forward = lambda x: x
    return conv


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (Doubled(3, 3, 1), "Doubled"),
        (Centred(3, 3, 1), "Centred"),
        (timm.layers.StdConv2d(3, 3, 3), "StdConv2d"),
        (nn.utils.spectral_norm(nn.Conv2d(3, 3, 1)), "Conv2d"),  # by a hook
        (with_hook(nn.Conv2d(3, 3, 1), before=True), "Conv2d"),
        (with_hook(nn.Conv2d(3, 3, 1), before=False), "Conv2d"),
        (patched(nn.Conv2d(3, 3, 1)), "Conv2d"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"), "Conv2d"),
        (nn.Conv2d(3, 3, 3, padding="same"), "Conv2d"),
    ],
    ids=str,
)
def test_what_a_layer_does_beside_its_kind_is_not_dropped_but_refused_by_name(layer, name):
    net2d = nn.Sequential(nn.Conv2d(3, 3, 1), layer)
    with pytest.raises(TypeError, match=rf"1 \({name}\)"):
        inflate(net2d)


class Gated(nn.Module):
    """Squeeze and excite, its mean in code or in a layer."""

    def __init__(self, pool: nn.Module | None = None):
        super().__init__()
        self.pool, self.fc, self.gate = pool, nn.Conv2d(3, 3, 1), nn.Sigmoid()

    def forward(self, x):
        means = self.pool(x) if self.pool else x.mean((2, 3), keepdim=True)
        return x * self.gate(self.fc(means))


class Weighted(nn.Module):
    """A factor (C, 1, 1) for each channel, as in ConvNeXt."""

    def __init__(self):
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 3, 1), nn.Parameter(torch.rand(3, 1, 1))

    def forward(self, x):
        return self.conv(x) * self.scale


class Joined(nn.Module):
    """Several tensors go from layer to layer, as in DenseNet and in dual path networks."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(6, 3, 1)

    def forward(self, x):
        both = [x, F.max_pool2d(F.relu(self.conv1(x), inplace=True), 3, 1, 1)]
        return self.conv2(torch.cat(both, 1))


class Turned(nn.Module):
    """Channels last inside, channels first outside."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.LayerNorm(3)

    def forward(self, x):
        return self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Aside(nn.Module):
    """Hands a layer with code of its own a second argument, as DLA does."""

    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        return self.block(x, x.flip(3))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x, shortcut=None):
        return self.conv(x) + (x if shortcut is None else shortcut)


INSIDE = [
    Aside(),
    *(Gated(), Gated(nn.AdaptiveAvgPool2d(1)), Weighted(), Joined(), Turned(), Power(1), Scaled()),
    *(nn.GELU(), nn.LeakyReLU(), nn.Hardswish(), nn.Dropout2d(), nn.Sequential(), nn.PReLU()),
    *(nn.GroupNorm(1, 3), nn.AdaptiveAvgPool2d(4), nn.MaxPool2d(2), nn.InstanceNorm2d(3)),
]


@pytest.mark.parametrize("where", ["all", "none"])
@pytest.mark.parametrize("layer", INSIDE, ids=str)
def test_by_the_centre_start_every_frame_of_a_moving_clip_is_seen_alone(layer, where):
    """Three frames, as many as channels: what is meant for these would fit the frames."""
    torch.manual_seed(0)
    net2d = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), layer).eval()
    clip = torch.rand(2, 3, 3, 8, 8)  # (N, C, T, H, W)
    with torch.inference_mode():
        wanted = torch.stack([net2d(frame) for frame in clip.unbind(2)], 2)
        torch.testing.assert_close(inflate(net2d, where=where)(clip), wanted)


class Head(nn.Module):
    """Frames meet in code, not in a layer."""

    def __init__(self, end: str):
        super().__init__()
        self.conv, self.fc, self.end = nn.Conv2d(3, 3, 1), nn.Linear(3, 4), end

    def forward(self, x):
        x = self.conv(x)
        if self.end == "flat":
            return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return self.fc(x.mean([2, 3]))


HEADS = {
    "mean": lambda: Head("mean"),
    "flat": lambda: Head("flat"),
    "convolution": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.Flatten()),
    "fixed": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_where_there_is_no_global_pool_to_see_the_frames_logits_are_averaged(head):
    torch.manual_seed(0)
    net2d = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), head()).eval()
    clip = torch.rand(2, 3, 5, 8, 8)  # (N, C, T, H, W)
    with torch.inference_mode():
        wanted = torch.stack([net2d(frame) for frame in clip.unbind(2)]).mean(0)
        torch.testing.assert_close(inflate(net2d)(clip), wanted)


def test_a_convolution_after_the_global_pool_stays_2d():
    """By the mean start it would give a third: it sees a single step."""
    net2d = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.Flatten())
    net2d = nn.Sequential(nn.Conv2d(3, 3, 1), net2d)
    grown = inflate(net2d, init="mean")
    assert [type(m).__name__ for m in grown.modules() if hasattr(m, "weight")] == [
        "Conv3d",
        "Conv2d",
    ]


def test_tied_and_frozen_weights_stay_so():
    net2d = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    net2d[2].weight = net2d[0].weight
    net2d[3].requires_grad_(False)
    grown = inflate(net2d)
    assert grown[0].weight is grown[2].weight and grown[0].bias is not grown[2].bias
    assert [grown[i].weight.requires_grad for i in (0, 3)] == [True, False]
    assert [grown[i].bias.requires_grad for i in (0, 3)] == [True, False]
    with pytest.raises(TypeError, match=r"2 \(Conv2d\)"):
        inflate(net2d, where=lambda name, conv: name == "0")  # they cannot both keep it


def test_a_layer_that_stands_in_two_places():
    conv = nn.Conv2d(3, 3, 1)
    grown = inflate(nn.Sequential(conv, nn.ReLU(), conv))
    assert grown[0].weight is grown[2].weight
    torch.testing.assert_close(*still(nn.Sequential(conv, nn.ReLU(), conv)))


@pytest.mark.parametrize("layer", [Doubled(3, 4, 3, padding=1), timm.layers.StdConv2d(3, 4, 3)])
def test_a_convolution_that_stays_2d_does_what_it_did(layer):
    net2d = nn.Sequential(layer, nn.Conv2d(4, 5, 1))
    torch.testing.assert_close(*still(net2d, where=lambda name, conv: name == "1"))


def test_a_subclass_that_changes_nothing_grows():
    torch.testing.assert_close(*still(nn.Sequential(Named(3))))


def test_weight_standardised_networks_are_refused():
    """Their convolutions compute their kernels: a copy of the weights alone was off by .32."""
    net2d = timm.create_model("nf_resnet26", num_classes=4).eval()
    with pytest.raises(TypeError, match=r"stem.conv \(ScaledStdConv2d\).*and \d+ more.*`where`"):
        inflate(net2d)
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        clip = picture.unsqueeze(2).expand(-1, -1, 3, -1, -1)
        torch.testing.assert_close(inflate(net2d, where="none")(clip), net2d(picture))


def test_resnetv2_grows_where_its_convolutions_are_plain():
    net2d = timm.create_model("resnetv2_50", num_classes=4)
    torch.testing.assert_close(*still(net2d))
    net2d = timm.models.resnetv2.ResNetV2([1], [256], conv_layer=timm.layers.StdConv2d)
    with pytest.raises(TypeError, match=r"stem.conv \(StdConv2d\)"):
        inflate(net2d)


def test_every_family_of_the_record_is_exact_or_refused_by_name():
    root = Path(__file__).parents[1]
    found = json.loads((root / "book/results/inflation.json").read_text())["networks"]
    tried = {"torchvision": inflation.TORCHVISION, "timm": inflation.TIMM}
    assert {*found} == {f"{lib}/{name}" for lib, names in tried.items() for name in names.split()}
    count = Counter(of["verdict"] for of in found.values())
    assert len(found) == 67 and count == {"exact": 60, "refused": 7}
    told = f"Of {len(found)} families of 2D networks, `inflate` takes {count['exact']} exactly and "
    assert told + f"refuses {count['refused']} by name" in (root / "book/breaking.md").read_text()
    refused = [of["said"] for of in found.values() if of["verdict"] == "refused"]
    assert all(said.startswith("cannot inflate ") for said in refused)
    for name in "starnet_s050", "inception_next_atto":
        verdict, said = inflation.check("timm", name)
        assert verdict == found[f"timm/{name}"]["verdict"], said
