"""Other people's networks, by name: the same logits as theirs, maps as worked out by hand."""

import json
import socket
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import real
import timm
import torch
import transformers
from huggingface_hub import constants
from small import ended
from torchvision.models import get_model_weights

from lib.data import write_video
from lib.data.video import Clip
from lib.explain import ExplainError, Explanation, explain
from lib.explain.__main__ import main
from lib.explain.clip import sampling
from lib.explain.layers import table
from lib.explain.maps import maps_of, watching
from lib.model import hub
from lib.model.networks import Preprocess
from lib.model.own import Own
from lib.viewer.viewer import html

NAMES = ["clapping", "waving", "yawning"]
SMALL = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
VIDEO = dict(image_size=48, num_frames=4) | SMALL
PREDICTOR = dict(pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1)
KINDS = {  # prefix of the classes, configuration, steps of the default layer's map
    "videomae": ("VideoMAE", dict(patch_size=16, **VIDEO), 2),
    "videomae first token": ("VideoMAE", dict(patch_size=16, use_mean_pooling=False, **VIDEO), 2),
    "timesformer": ("Timesformer", dict(patch_size=16, **VIDEO), 4),
    "timesformer joint": (
        "Timesformer",
        dict(patch_size=16, attention_type="joint_space_time", **VIDEO),
        4,
    ),
    "vivit": ("Vivit", dict(tubelet_size=[2, 16, 16], **VIDEO), 2),
    "vjepa2": (
        "VJEPA2",
        dict(crop_size=48, frames_per_clip=4, num_pooler_layers=1, **PREDICTOR, **SMALL),
        2,
    ),
}


def saved(folder, kind: str, **changes):
    """A network with large random weights, so that its parts differ, and its folder."""
    prefix, options, _ = KINDS[kind]
    config = getattr(transformers, f"{prefix}Config")(**options | changes)
    config.id2label = dict(enumerate(NAMES))
    torch.manual_seed(0)
    model = getattr(transformers, f"{prefix}ForVideoClassification")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    getattr(transformers, f"{prefix}VideoProcessor")().save_pretrained(folder)
    return model


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def raw(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    return saved(folder, kind), folder


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)


def test_logits_are_those_of_the_raw_network(raw):
    model, folder = raw
    network, x = hub.load(folder), torch.randn(2, 3, 4, 48, 48)
    with torch.no_grad():
        assert torch.equal(network(x), model(x.transpose(1, 2)).logits)
        with pytest.raises(ValueError, match="8 frames: this network takes 4"):
            network(torch.zeros(1, 3, 8, 48, 48))
    assert network.classes == NAMES and not network.training
    assert network.frames == 4 and network.fps > 0


def test_preprocess_is_that_of_its_processor(raw, noise):
    _, folder = raw
    network, processor = hub.load(folder), transformers.AutoVideoProcessor.from_pretrained(folder)
    frames = torch.from_numpy(noise).permute(0, 3, 1, 2)
    theirs = processor([frames], do_resize=False, do_center_crop=False, return_tensors="pt")
    (theirs,) = theirs.values()  # (1, T, 3, H, W)
    torch.testing.assert_close(network.preprocess(noise), theirs.transpose(1, 2))
    assert network.preprocess(noise.repeat(2, 1).repeat(2, 2)).shape == (1, 3, 4, 48, 48)


LAYERS = {
    "videomae": "videomae.encoder.layer.1",
    "videomae first token": "videomae.encoder.layer.1.layernorm_before",
    "timesformer": "timesformer.encoder.layer.1.layernorm_before",
    "timesformer joint": "timesformer.encoder.layer.1.layernorm_before",
    "vivit": "vivit.layers.1.layernorm_before",
    "vjepa2": "vjepa2.encoder.layernorm",
}


def place(kind: str, t: int, i: int, j: int) -> tuple[int, int]:
    """Which token, of which row of the batch, lies at step t, row i and column j of 3."""
    if kind == "timesformer":
        return t, 1 + 3 * i + j
    if kind == "timesformer joint":
        return 0, 1 + (3 * i + j) * 4 + t
    return 0, (kind == "vivit") + 9 * t + 3 * i + j


def by_hand(model, kind: str, x, k: int):
    """Grad-CAM (t, h, w) of class k, from a hook of its own and places spelled out."""
    kept = {}
    layer = model.get_submodule(LAYERS[kind])
    handle = layer.register_forward_hook(lambda _m, _a, output: kept.update(tokens=output))
    logit = model(x.transpose(1, 2)).logits[0, k]
    handle.remove()
    tokens = kept["tokens"]
    (gradient,) = torch.autograd.grad(logit, tokens)
    grid = (KINDS[kind][2], 3, 3)
    places = [place(kind, *cell) for cell in np.ndindex(grid)]
    weights = sum(gradient[p] for p in places) / len(places)  # (C,)
    return np.array([float(weights @ tokens[p].detach()) for p in places]).reshape(grid)


def test_map_is_the_gradient_worked_out_by_hand(raw, kind, noise):
    model, folder = raw
    network = hub.load(folder)
    result = explain(network, noise)
    assert result.classes == NAMES and result.maps.shape == (3, 4, 3, 3)
    assert result.method == "gradcam" and result.layer == f"model.{LAYERS[kind]}"
    for k in range(3):
        expected = by_hand(model, kind, network.preprocess(noise), k)
        if len(expected) == 2:  # each step of two frames is shared out among all four
            share = np.array([[4, 0], [3, 1], [1, 3], [0, 4]]) / 8
            expected = np.einsum("ft,thw->fhw", share, expected)
        scale = np.abs(expected).max()
        assert scale > 1e-6 and np.abs(result.map(k) - expected).max() < 1e-5 * scale
    assert "spread evenly" in result.geometry_note and html(result)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("timesformer", "model.timesformer.layernorm"),
        ("vivit", "model.vivit.layernorm"),
        ("vivit", "model.vivit.layers.1"),
    ],
)
def test_a_layer_whose_class_token_alone_is_read_is_refused(tmp_path, noise, kind, layer):
    saved(tmp_path, kind)
    with pytest.raises(ExplainError, match=f"{layer}' is zero everywhere: no logit depends on it"):
        explain(hub.load(tmp_path), noise, layer=layer)


def test_tokens_without_a_reshape_are_refused(tmp_path, noise):
    saved(tmp_path, "vivit")
    network = hub.load(tmp_path)
    network.reshape = network.default_layer = None
    for layer in (None, "model.vivit.layers.1.layernorm_before"):
        with pytest.raises(ExplainError, match="class token"):
            explain(network, noise, layer=layer)


def test_heads_in_the_batch_are_refused(noise):
    class Heads(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv3d(3, 4, 3)
            self.pool = torch.nn.Conv3d(2, 2, 1)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x):
            x = self.first(x)  # (N, 4, t, h, w)
            pooled = self.pool(x.unflatten(1, (2, 2)).flatten(0, 1))  # (2 N, 2, t, h, w)
            return self.head(x.mean((2, 3, 4)) + pooled.unflatten(0, (-1, 2)).mean())

    options = dict(method="gradcam", preprocess=Preprocess(24, (0.5,) * 3, (0.5,) * 3))
    assert explain(Heads(), noise, **options).layer == "first"
    with pytest.raises(ExplainError, match=r"'pool' gives \(2, 2, .*folded into its first"):
        explain(Heads(), noise, layer="pool", **options)


def test_names_of_nothing():
    with pytest.raises(ValueError, match=r"no network 'swin3d_x'.*\(swin3d_[tsb], "):
        hub.load("swin3d_x")


def test_offline_a_name_says_that_a_folder_will_do(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RuntimeError, match=r"nobody/nothing cannot be fetched .*--network FOLDER"):
        hub.load("nobody/nothing")


def test_offline_weights_of_torchvision_say_where_to_put_the_file(monkeypatch, tmp_path):
    def no_internet(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_internet)
    with pytest.raises(
        RuntimeError, match=r"r3d_18-b3b3357e\.pth .*put that file in .*checkpoints"
    ):
        hub.load("r3d_18")


def test_without_transformers_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[hub\]'"):
        hub.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").write_text("{}"), "model_type"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "bert"),
        (lambda folder: (folder / "video_preprocessor_config.json").unlink(), "processor"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "header"),
    ],
)
def test_a_folder_of_something_else(tmp_path, change, message):
    saved(tmp_path, "videomae")
    change(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path} cannot be loaded .*{message}"):
        hub.load(tmp_path)


def test_a_network_that_was_never_taught_to_classify(tmp_path):
    model = saved(tmp_path, "videomae")
    model.videomae.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="it has no classifier.bias: not a network that was train"):
        hub.load(tmp_path)


# --- torchvision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hub.TORCHVISION)
def test_what_a_network_was_trained_on(name):
    with torch.device("meta"):
        network = hub.load(name, pretrained=False)
    weights = get_model_weights(name).DEFAULT
    trained, said = weights.transforms(), weights.meta["_docs"]
    assert f"clip_len={network.frames}`" in said and f"frame_rate={network.fps:g}`" in said
    preprocess = network.preprocess
    assert [preprocess.size] * 2 == trained.crop_size
    assert (list(preprocess.mean), list(preprocess.std)) == (trained.mean, trained.std)
    assert len(network.classes) == 400 and "archery" in network.classes
    assert network.get_submodule(network.default_layer) and not network.training


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("r3d_18", (8, 64, 64), (1, 4, 4)),
        ("s3d", (16, 224, 224), (2, 7, 7)),
        ("mvit_v2_s", (16, 224, 224), (8, 7, 7)),
        ("swin3d_t", (8, 64, 64), (4, 2, 2)),
    ],
)
def test_torchvision(name, size, grid):
    torch.manual_seed(0)
    network, inputs = hub.load(name, pretrained=False), torch.randn(1, 3, *size)
    layer, method = network.default_layer, network.default_method
    with watching(network, inputs, layer, method != "cam", network.reshape) as seen:
        maps, logits = maps_of(seen, torch.tensor([[7]]), method)
    assert maps.shape == (1, 1, *grid) and maps.isfinite().all() and maps.any()
    if method == "cam":
        assert abs(maps.sum() + seen.head.bias[7] - logits[0, 7]) < 1e-4


@pytest.mark.parametrize(
    ("name", "earlier", "cells"), [("r3d_18", "layer3", 8), ("swin3d_t", "patch_embed.proj", 16)]
)
def test_explain_takes_the_networks_own_layer_or_another(name, earlier, cells):
    torch.manual_seed(0)
    network = hub.load(name, pretrained=False)
    clip = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    small = Preprocess(64, network.preprocess.mean, network.preprocess.std)
    own = explain(network, clip, 7, preprocess=small)
    assert (own.layer, own.method) == (network.default_layer, "cam") and own.bias is not None
    other = explain(network, clip, 7, earlier, "gradcam", preprocess=small)
    assert other.layer == earlier and other.maps.shape == (1, 8, cells, cells)


def test_the_weekly_look_at_real_weights(tmp_path, capsys):
    saved(tmp_path / "mae", "videomae")
    names = [str(tmp_path / "mae"), str(tmp_path)]
    said = real.main(names)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{names[0]}: ") and "gradcam at model.videomae.encoder" in line
    assert "(4, 3, 3) cells" in line
    assert said.startswith(f"{tmp_path}: ") and real.main(names[:1]) is None


# --- timm -----------------------------------------------------------------------------------------


def test_a_network_of_timm_sees_frame_by_frame(monkeypatch):
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18").eval()
    weights = theirs.state_dict()
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *_, **__: weights)
    network, x = hub.load("timm/resnet18"), torch.randn(2, 3, 4, 64, 64)
    with torch.no_grad():
        each = theirs(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 4))
        torch.testing.assert_close(network(x), each.mean(1), rtol=1e-4, atol=1e-5)
    assert network.classes[0] == "tench, Tinca tinca" and len(network.classes) == 1000
    assert network.preprocess == Preprocess(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert sampling(network) == (16, 4.0) and not network.training
    assert (network.default_method, network.default_layer) == ("cam", None)


def test_a_network_of_timm_is_explained(noise):
    torch.manual_seed(0)
    network = hub.load("timm/resnet18", pretrained=False)
    network.preprocess = Preprocess(64, (0.5,) * 3, (0.5,) * 3)
    found = explain(network, noise, 7)
    assert (found.method, found.layer, found.maps.shape) == ("cam", "layer4", (1, 4, 2, 2))
    assert found.footprint.size[0] == 1  # the new taps are zero
    assert abs(found.maps.sum() + found.bias[7] - found.logits[7]) < 1e-4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet99", r"timm/resnet99 cannot be loaded \(Unknown model \(resnet99\)\): choose a 2D"),
        ("vit_tiny_patch16_224", r"cannot inflate blocks.0.norm1 \(LayerNorm\)"),
        ("resnet18.nothing", r"Invalid pretrained tag \(nothing\)"),
    ],
)
def test_what_timm_or_inflation_does_not_know(name, message):
    with pytest.raises(ValueError, match=message):
        hub.load(f"timm/{name}", pretrained=False)


@pytest.mark.parametrize("name", ["timm/resnet18", "nobody/nothing"])
def test_offline_it_is_said_at_once(name, monkeypatch, tmp_path):
    def no_internet(*_, **__):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", no_internet)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits and tries again"))
    with pytest.raises(RuntimeError, match=f"{name} cannot be fetched") as error:
        hub.load(name)
    folder = f"put it in {tmp_path}/models--timm--resnet18.a1_in1k"
    assert (
        str(error.value).endswith((folder, "(--network FOLDER)")) and not constants.HF_HUB_OFFLINE
    )


# --- what comes in as a module of the reader's own ------------------------------------------------


class Shifting(torch.nn.Module):
    """Frames folded into the batch, as in TSM: some channels come from a frame before or after."""

    classes, preprocess = NAMES, Preprocess(48, (0.5,) * 3, (0.5,) * 3)
    segments, shift = 4, 2

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.second = torch.nn.Conv2d(8, 8, 3, 2, 1)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x):
        x = self.first(x.transpose(1, 2).flatten(0, 1)).relu()  # (N T, 8, h, w)
        x = x.unflatten(0, (-1, self.segments))
        if self.shift:
            back, on, stay = x[:, :, :2], x[:, :, 2:4], x[:, :, 4:]
            back = torch.cat([back[:, 1:], torch.zeros_like(back[:, :1])], 1)
            on = torch.cat([torch.zeros_like(on[:, :1]), on[:, :-1]], 1)
            x = torch.cat([back, on, stay], 2)
        x = self.second(x.flatten(0, 1)).relu()
        return self.head(x.mean((2, 3))).unflatten(0, (-1, self.segments)).mean(1)


def gradcam_by_hand(network, layer, x, k, over=(0, 2, 3)):
    """Grad-CAM of class k, (T, h, w) of a layer that gives frames (T, C, h, w), by a hook."""
    kept = {}
    handle = layer.register_forward_hook(lambda _m, _a, output: kept.update(a=output))
    logit = network(x)[0, k]
    handle.remove()
    (gradient,) = torch.autograd.grad(logit, kept["a"])
    return (gradient.mean(over, keepdim=True) * kept["a"]).sum(1).detach()


@pytest.mark.parametrize(("shift", "frames"), [(2, 3), (0, 1)])
def test_frames_folded_into_the_batch_are_recognised(noise, shift, frames):
    torch.manual_seed(0)
    network = Shifting().eval()
    network.shift, x = shift, network.preprocess(noise)
    for layer in "first", "second":
        by_hand = gradcam_by_hand(network, getattr(network, layer), x, 1)
        found = explain(network, noise, 1, layer, "gradcam")
        np.testing.assert_allclose(found.map(1), by_hand, atol=1e-6)
    assert found.footprint.size[0] == frames and found.footprint.stride[1] == 4
    rows = table(network, Clip(noise, np.arange(4.0))).splitlines()[1:3]
    assert [row.split()[:2] for row in rows] == [["first", "4x24x24"], ["second", "4x12x12"]]
    clips = torch.cat([x, x.flip(2)])  # two at once
    with watching(network, clips, "second", True) as seen:
        both, _ = maps_of(seen, torch.tensor([[1], [1]]), "gradcam")
    np.testing.assert_allclose(both[0, 0], by_hand, atol=1e-6)
    by_hand = gradcam_by_hand(network, network.second, x.flip(2), 1)
    np.testing.assert_allclose(both[1, 0], by_hand, atol=1e-6)


@pytest.mark.parametrize(
    "fold",
    [
        lambda x: x.reshape(-1, 3, 48, 48),  # the colours of four frames make a "frame"
        lambda x: x.transpose(1, 2).flip(1).flatten(0, 1),
        lambda x: x.transpose(1, 2).flatten(0, 1) * 2,
    ],
)
def test_rows_that_are_not_the_frames_as_they_came_in_are_refused(noise, fold):
    class Folded(Shifting):
        def forward(self, x):
            x = self.second(self.first(fold(x)).relu()).relu()
            return self.head(x.mean((2, 3))).unflatten(0, (-1, 4)).mean(1)

    network, options = Folded(), dict(layer="second", method="gradcam")
    with pytest.raises(ExplainError, match=r"'second' gives \(4, 8, .*one a row, as they came in"):
        explain(network, noise, **options)
    explain(network, noise, reshape=lambda x: x[None].transpose(1, 2), **options)


def test_frames_folded_into_the_batch_add_up_under_a_mean(noise):
    class Pooled(Shifting):
        def __init__(self):
            super().__init__()
            self.second = torch.nn.Sequential(self.second, torch.nn.ReLU())

    torch.manual_seed(0)
    found = explain(Pooled().eval(), noise)
    assert (found.layer, found.method) == ("second", "cam")
    total = found.maps.sum((1, 2, 3)) + found.bias
    np.testing.assert_allclose(total, found.logits, atol=1e-5)


class Segments(torch.nn.Module):
    """As the networks of TSN and TSM take their clips, (N, 3 T, H, W), and give logits."""

    def __init__(self, segments=4):
        super().__init__()
        self.segments = segments
        conv, relu = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU()
        self.base_model = torch.nn.Sequential(conv, relu, torch.nn.AdaptiveAvgPool2d(1))
        self.new_fc = torch.nn.Linear(8, 3)

    def forward(self, input):
        x = self.base_model(input.view(-1, 3, *input.shape[-2:])).flatten(1)
        x = self.new_fc(x)
        return x.view(-1, self.segments, 3).mean(1, keepdim=True).squeeze(1)


class Pictures(torch.nn.Module):
    """A network of pictures: logits for each, in one of the forms that are known."""

    def __init__(self, given):
        super().__init__()
        self.net, self.given = Segments(1), given

    def forward(self, x):
        return self.given(self.net(x))


ABOUT = dict(classes=NAMES, preprocess=Preprocess(48, (0.5,) * 3, (0.5,) * 3), frames=4)


@pytest.mark.parametrize(
    ("model", "form"),
    [
        (Segments(), "N(T3)HW"),
        (Segments(), "NT3HW"),
        (Pictures(lambda y: y), "(NT)3HW"),
        (Pictures(lambda y: (y, "more")), "(NT)3HW"),
        (Pictures(lambda y: {"logits": y}), "(NT)3HW"),
        (Pictures(lambda y: SimpleNamespace(logits=y)), "(NT)3HW"),
    ],
)
def test_a_network_in_any_form_without_a_reshape(noise, model, form):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network, net = Own(model, form, **ABOUT).eval(), getattr(model, "net", model)
    assert sampling(network) == (4, 4.0)
    x, (conv, *_), fc = network.preprocess(noise), net.base_model, net.new_fc
    cells = torch.stack([conv(x[:, :, t]).relu()[0] for t in range(4)])  # (T, C, h, w)
    evidence = torch.einsum("kc,tchw->kthw", fc.weight, cells).detach() / (4 * 24 * 24)
    for method in "cam", "gradcam":
        found = explain(network, noise, method=method)
        assert found.layer.endswith("base_model.1") and found.footprint.size[0] == 1
        np.testing.assert_allclose(found.maps, evidence, atol=1e-6)
        total = found.maps.sum((1, 2, 3)) + fc.bias.detach().numpy()
        np.testing.assert_allclose(total, found.logits, atol=1e-5)


class LastChannels(torch.nn.Module):
    """Frames in the batch and channels last, as in a Swin network of pictures."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 8, 16, 16), torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x):  # (N T, 3, h, w)
        return self.head(self.norm(self.conv(x).movedim(1, -1)).mean((1, 2)))


def test_frames_in_the_batch_with_channels_last(noise):
    torch.manual_seed(0)
    network, layer = Own(LastChannels(), "(NT)3HW", **ABOUT).eval(), "model.norm"
    with pytest.raises(ExplainError, match=r"channels last.*reshape=lambda x: x.movedim\(-1, 1\)"):
        explain(network, noise, layer=layer)
    found = explain(network, noise, layer=layer, reshape=lambda x: x.movedim(-1, 1))
    cells = network.model.conv(network.preprocess(noise)[0].transpose(0, 1)).movedim(1, -1)
    weight = network.model.head.weight
    by_hand = torch.einsum("kc,thwc->kthw", weight, network.model.norm(cells)) / (4 * 3 * 3)
    np.testing.assert_allclose(found.maps, by_hand.detach(), atol=1e-6)
    assert found.footprint.stride == (1, 16, 16) and found.footprint.size[0] == 1


def test_a_form_that_does_not_fit_is_refused(noise):
    with pytest.raises(ValueError, match="NTCHW: choose from N3THW, NT3HW, "):
        Own(Segments(), "NTCHW", **ABOUT)
    with pytest.raises(
        ValueError, match="no argument frame: there are classes, preprocess, frames"
    ):
        Own(Segments(), frame=4)
    with pytest.raises(ValueError, match="pathways: default_layer says whose map"):
        Own(Segments(), pathways=(4, 1), **ABOUT)
    for pathways in (0, 1), (4, 0.5), (True,), 4, None, torch.tensor([4, 1]):
        with pytest.raises(ValueError, match="pathways=.*: a list of whole numbers above 0"):
            Own(Segments(), pathways=pathways, default_layer="model", **ABOUT)
    with pytest.raises(ValueError, match="choose from N3THW"):
        Own(Segments(), [], **ABOUT)
    for frames, fps in ("8", 4.0), (0, 4.0), (8, "4"), (8, 0), (8, float("nan")):
        with pytest.raises(ExplainError, match="the network wants frames=.*: not numbers above 0"):
            explain(Own(Segments(), "NT3HW", **ABOUT | dict(frames=frames, fps=fps)), noise)
    with pytest.raises(ExplainError, match="one a row, as they came in"):
        explain(Own(Segments(), "N3THW", **ABOUT), noise)  # colours and frames mixed up
    with pytest.raises(ValueError, match=r"2 rows of logits, clips \(1, 3, 4, .*other `frames`"):
        explain(Own(Segments(2), "N(T3)HW", **ABOUT), noise)
    with pytest.raises(ExplainError, match="the network gives dict; logits"):
        explain(Own(Pictures(lambda y: {"scores": y}), "(NT)3HW", **ABOUT), noise)


class TwoPathways(torch.nn.Module):
    """As SlowFast: one pathway sees every second frame with more channels, the other sees all."""

    classes, preprocess = NAMES, Preprocess(48, (0.5,) * 3, (0.5,) * 3)

    def __init__(self):
        super().__init__()
        self.slow = torch.nn.Conv3d(3, 8, (1, 7, 7), (1, 8, 8), (0, 3, 3))
        self.fast = torch.nn.Conv3d(3, 2, (3, 7, 7), (1, 8, 8), (1, 3, 3))
        self.both = Both()
        self.head = torch.nn.Linear(10, 3)

    def forward(self, x):
        slow, fast = self.both([self.slow(x[:, :, ::2]), self.fast(x)])
        return self.head(torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))


class Both(torch.nn.Module):
    def forward(self, pathways):
        return pathways


def test_two_pathways(noise):
    torch.manual_seed(0)
    network = TwoPathways().eval()
    slow, fast = (explain(network, noise, None, x, "gradcam") for x in ("slow", "fast"))
    assert slow.maps.shape == fast.maps.shape == (3, 4, 6, 6)
    assert slow.bias is None and fast.bias is None  # alone, neither is the logit
    parts = slow.maps.sum((1, 2, 3)) + fast.maps.sum((1, 2, 3))
    bias = network.head.bias.detach().numpy()
    np.testing.assert_allclose(parts + bias, slow.logits, atol=1e-5)
    assert (slow.footprint.stride[0], slow.footprint.first[0]) == (2, 0.5)
    assert (slow.footprint.size[0], fast.footprint.size[0]) == (1, 3)
    for layer, message in ("both", "'both' gives list; choose one"), ("slow", 'method="gradcam"'):
        method = "gradcam" if layer == "both" else "cam"
        with pytest.raises(ExplainError, match=message):
            explain(network, noise, layer=layer, method=method)


class SlowFast(TwoPathways):
    """As the networks of SlowFast: a list of two clips in."""

    def forward(self, pathways):
        slow, fast = (net(x) for net, x in zip((self.slow, self.fast), pathways))
        return self.head(torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))


def test_a_network_that_takes_a_list_of_pathways():
    torch.manual_seed(0)
    clip = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), dtype=np.uint8)
    model, maps = SlowFast().eval(), {}
    for name, chosen in ("slow", [0, 7]), ("fast", range(8)):
        network = Own(model, pathways=(4, 1), default_layer=f"model.{name}", **ABOUT)
        found = maps[name] = explain(network, clip, method="gradcam")
        x = network.preprocess(clip)[:, :, list(chosen)]
        cells = getattr(model, name)(x)[0]  # (C, t, h, w)
        weight = model.head.weight[:, :8] if name == "slow" else model.head.weight[:, 8:]
        by_hand = torch.einsum("kc,cthw->kthw", weight, cells).detach() / cells[0].numel()
        np.testing.assert_allclose(found.maps.sum(1), by_hand.sum(1), atol=1e-6)
        if name == "fast":
            np.testing.assert_allclose(found.maps, by_hand, atol=1e-6)
        for frame, step in (0, 0), (-1, -1):  # the first shows the first step alone
            shown, alone = found.maps[:, frame], by_hand[:, step]
            cosine = (shown * alone.numpy()).sum() / alone.norm() / np.linalg.norm(shown)
            assert abs(cosine - 1) < 1e-5
    parts = sum(of.maps.sum((1, 2, 3)) for of in maps.values())
    np.testing.assert_allclose(parts + model.head.bias.detach().numpy(), found.logits, atol=1e-5)


# --- the command ----------------------------------------------------------------------------------


def test_command_with_the_folder_of_a_network(tmp_path, noise, capsys):
    saved(tmp_path / "network", "timesformer")
    write_video(tmp_path / "clip.mp4", noise.repeat(4, 0), 8)
    out = tmp_path / "clip.html"
    arguments = [str(tmp_path / "clip.mp4"), "--network", str(tmp_path / "network")]
    assert main([*arguments, "--out", str(out)]) == 0
    assert capsys.readouterr().out.split()[1] in NAMES and "clapping" in out.read_text()
    assert main([*arguments, "--class", "waving", "--versus", "yawning"]) == 0
    assert "waving" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    "file, change",
    [
        ("config.json", {"id2label": {"1": "open", "2": "close"}}),
        ("config.json", {"image_size": "48"}),
        ("config.json", {"image_size": [48, 32]}),
        ("preprocessor_config.json", {"fps": "x"}),
        ("preprocessor_config.json", {"fps": -3}),
        ("preprocessor_config.json", {"image_mean": None}),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, file, change):
    saved(tmp_path, "videomae")
    names = [tmp_path / file, tmp_path / "video_preprocessor_config.json"]
    path = next(name for name in names if name.is_file())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be loaded"):
        hub.load(tmp_path)


def test_command_says_what_is_wrong(tmp_path, noise, capsys):
    write_video(tmp_path / "clip.mp4", noise, 4)
    assert ended([str(tmp_path / "clip.mp4"), "--network", "r4d"]) == 2
    assert "no network 'r4d'" in capsys.readouterr().err
    assert ended([str(tmp_path / "clip.mp4"), "--network", "resnet18"]) == 2
    assert "timm/resnet18, or one of torchvision" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path / "clip.mp4"), "--network", "r3d_18", "--weights", "a.safetensors"])
    assert "not allowed with" in capsys.readouterr().err


def test_a_path_is_read_as_the_network_was_trained(tmp_path, noise):
    saved(tmp_path / "network", "timesformer")
    write_video(tmp_path / "clip.mp4", noise.repeat(20, 0), 8)
    network = hub.load(tmp_path / "network")
    network.fps = 2.0
    assert sampling(network) == (4, 2.0)
    times = explain(network, tmp_path / "clip.mp4", 0, size=48).times
    np.testing.assert_allclose(np.diff(times), 0.5)


# --- maps made elsewhere --------------------------------------------------------------------------


def test_maps_made_elsewhere(noise, tmp_path):
    maps = torch.arange(4 * 2 * 2.0, requires_grad=True).view(4, 2, 2)
    result = Explanation.of(noise, maps, NAMES, [0.5, 2.0, 1.0], method="attention rollout")
    assert result.mapped == [1] and result.top(1)[0][0] == "waving"
    assert result.ledger("waving").tolist() == [6, 22, 38, 54]
    assert result.cells[0].tolist() == [0.25, 0.75] and "attention rollout" in html(result)
    result.save(tmp_path / "maps.npz")
    assert np.array_equal(Explanation.load(tmp_path / "maps.npz").maps, result.maps)
    several = Explanation.of(noise, np.zeros((2, 4, 3, 3)), NAMES, np.zeros(3), ["yawning", 0])
    assert several.mapped == [2, 0] and several.map("clapping").shape == (4, 3, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": np.zeros((4, 48, 48, 3))}, "float64"),
        (
            {"frames": np.zeros((4, 48, 40, 3), np.uint8)},
            r"frames .*\(4, 48, 48, 3\) of \w+ is needed",
        ),
        ({"maps": np.zeros((2, 2, 2))}, r"maps .*\(1, 4, 2, 2\) of \w+ is needed"),
        ({"maps": np.zeros((2, 4, 2, 2))}, r"maps .*\(3, 4, 2, 2\) of \w+ is needed"),
        ({"maps": np.zeros((4, 2, 0))}, "maps"),
        ({"maps": np.full((4, 2, 2), np.nan)}, "not finite"),
        ({"logits": [0.0, 1.0]}, r"logits .*\(3,\) of \w+ is needed"),
        ({"mapped": ["waiving"]}, "did you mean 'waving'"),
    ],
)
def test_maps_that_do_not_fit(noise, changes, message):
    given = dict(frames=noise, maps=np.zeros((4, 2, 2)), classes=NAMES, logits=[0.0, 0.0, 1.0])
    with pytest.raises(ExplainError, match=message):
        Explanation.of(**given | changes)
