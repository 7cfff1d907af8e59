"""Backbones, preprocessing, saving and loading, and the network that ships."""

import copy
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import skimage.data
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.data import ImageNetInfo

from lib.miniature import CLASSES
from lib.model import networks

CUDNN = torch.backends.cudnn.conv, torch.backends.cudnn.rnn


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    profile = networks.Profile("efficientnet_lite0", 64, 3, "centre", "late")
    return networks.build(profile, ["a", "b", "c"]).eval()


def test_imagenet_weights_know_a_photograph():
    network = networks.efficientnet_lite0()
    picture = skimage.data.coffee()[:, 100:500]
    x = networks.Preprocess(224, (0.5,) * 3, (0.5,) * 3)(picture[None])[:, :, 0]
    with torch.inference_mode():
        p = network(x).softmax(1)[0]
    assert ImageNetInfo().index_to_description(int(p.argmax())) == "espresso"
    assert p.max() > 0.5


def test_preprocess_by_hand():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[1] = 255
    x = networks.Preprocess(4, (0.5, 0.5, 0.5), (0.5, 0.25, 0.5))(frames)
    assert x.shape == (1, 3, 2, 4, 4)
    assert x[0, :, 0, 0, 0].tolist() == [-1, -2, -1]
    assert x[0, :, 1, 3, 3].tolist() == [1, 2, 1]


def test_preprocess_takes_batches_and_resizes():
    preprocess = networks.Preprocess(8, (0.5,) * 3, (0.5,) * 3)
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    x = preprocess(frames)
    assert x.shape == (2, 3, 3, 8, 8)
    assert torch.equal(x[1:], preprocess(frames[1]))


@pytest.mark.parametrize("frames", [np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3))])
def test_preprocess_refuses_what_is_no_clip(frames):
    with pytest.raises(ValueError, match="uint8"):
        networks.Preprocess(4, (0.5,) * 3, (0.5,) * 3)(frames)


@torch.inference_mode()
def test_lower_and_upper_in_a_row_are_the_network(small):
    lower, upper = networks.lower_and_upper(small)
    x = torch.randn(2, 3, 4, 64, 64)
    assert torch.allclose(upper.eval()(lower(x)), small(x), atol=1e-5)


def test_where_frames_meet_from_the_start_the_upper_part_is_all():
    from lib.model.inflate import inflate

    network = inflate(networks.resnet50(imagenet=False)).eval()
    lower, upper = networks.lower_and_upper(network)
    assert len(lower) == 0
    x = torch.randn(1, 3, 2, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(upper(lower(x)), network(x), atol=1e-5)


@torch.inference_mode()
def test_saved_and_loaded_is_the_same_network(small, tmp_path):
    networks.save(small, tmp_path / "n.safetensors")
    loaded = networks.load(tmp_path / "n.safetensors")
    x = torch.randn(1, 3, 4, 64, 64)
    assert loaded.classes == small.classes and loaded.preprocess == small.preprocess
    assert (loaded(x) - small(x)).abs().max() < 2e-2  # float16 on disk
    assert [p.name for p in tmp_path.iterdir()] == ["n.safetensors"]


@torch.inference_mode()
def test_a_clip_that_stands_still_is_the_same_at_every_step():
    """With frames repeated beyond the ends, no map can gather in the first or the last of them."""
    torch.manual_seed(0)
    network = networks.build("default", ["a", "b"], imagenet=False).eval()
    frame = torch.rand(1, 3, 1, 64, 64)
    steps = network.forward_features(frame.expand(1, 3, 8, 64, 64))  # (1, C, 8, 4, 4)
    assert steps.amax() > 0.1 and (steps - steps[:, :, :1]).abs().max() < 1e-5 * steps.amax()


def rewrite(path, tensors=None, **about):
    """Another header, or other tensors, in a file of weights."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"]) | {k: json.loads(v) for k, v in about.items()}
    save_file(load_file(path) | (tensors or {}), path, {"about": json.dumps(about)})


def changed(network, name, value):
    """A network with one number of a tensor replaced."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        network.get_buffer(name)[0] = value
    return network


def test_what_float16_cannot_hold_stays_float32(small, tmp_path):
    networks.save(changed(small, "bn2.module.running_var", 1e5), tmp_path / "n.safetensors")
    on_disk = load_file(tmp_path / "n.safetensors")
    assert {name for name, x in on_disk.items() if x.dtype == torch.float32} == {
        "bn2.module.running_var"
    }
    assert networks.load(tmp_path / "n.safetensors").bn2.module.running_var[0] == 1e5


def test_a_tensor_too_small_for_float16_stays_float32(small, tmp_path):
    network = copy.deepcopy(small)
    with torch.no_grad():
        network.classifier.weight.mul_(1e-7)
    networks.save(network, tmp_path / "n.safetensors")
    loaded = networks.load(tmp_path / "n.safetensors")
    assert torch.equal(loaded.classifier.weight, network.classifier.weight)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_not_saved(small, tmp_path, value):
    path = tmp_path / "n.safetensors"
    with pytest.raises(ValueError, match=r"n.safetensors is not written: bn2\S*running_var"):
        networks.save(changed(small, "bn2.module.running_var", value), path)
    assert list(tmp_path.iterdir()) == []
    networks.save(small, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not finite"):
        networks.save(changed(small, "bn2.module.running_var", value), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_the_same_network_gives_the_same_file(small, tmp_path):
    files = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for path in files:
        networks.save(small, path)
    assert len({path.read_bytes() for path in files}) == 1


def test_a_place_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        networks.save(small, tmp_path / "file" / "n.safetensors")
    (tmp_path / "n.safetensors").mkdir()
    with pytest.raises(OSError, match=r"n.safetensors"):
        networks.save(small, tmp_path / "n.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "n.safetensors"]


def test_missing_weights_say_how_to_make_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m lib.training"):
        networks.load(tmp_path / "none.safetensors")
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for a writer
    for path in tmp_path / "pipe", tmp_path:
        with pytest.raises(FileNotFoundError, match="no weights at .*: make weights with"):
            networks.load(path)


@pytest.mark.parametrize("size", [127.5, 128.0, True, 1, 0, -128, 2049, "128", None])
def test_a_size_that_would_fail_later_is_refused_when_loading(small, tmp_path, size):
    path = tmp_path / "n.safetensors"
    networks.save(small, path)
    rewrite(path, profile=json.dumps(vars(small.profile) | {"size": size}))
    with pytest.raises(ValueError, match=r"n.safetensors cannot be loaded \((Value|Type)Error"):
        networks.load(path)
    rewrite(path, profile=json.dumps(vars(small.profile) | {"size": 96}))
    assert networks.load(path).preprocess.size == 96


PAPER = json.dumps(vars(networks.PROFILES["paper"]))


def huge(name: str) -> str:
    return json.dumps(vars(networks.PROFILES["default"]) | {name: 10**9})


SPOILT = {  # what becomes of a file of weights
    "foreign": lambda path: path.write_bytes(b"no weights at all" * 9),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100_000]),
    "cut in its header": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "of another package": lambda path: save_file({"x": torch.ones(2)}, path, {"format": "pt"}),
    "without a header": lambda path: save_file(load_file(path), path),
    "of another profile": lambda path: rewrite(path, profile=PAPER),
    "of an unknown backbone": lambda path: rewrite(path, profile=PAPER.replace("50", "51")),
    "of other classes": lambda path: rewrite(path, classes='["a", "b"]'),
    "of one text for classes": lambda path: rewrite(path, classes='"abc"'),
    "of numbers for classes": lambda path: rewrite(path, classes="[1, 2, 3]"),
    "of a huge picture": lambda path: rewrite(path, profile=huge("size")),
    "of a huge kernel": lambda path: rewrite(path, profile=huge("kernel")),
    "with numbers that are not finite": lambda path: rewrite(
        path, tensors={"classifier.bias": torch.tensor([0, torch.nan, 0])}
    ),
    "with a tensor too many": lambda path: rewrite(path, tensors={"more": torch.ones(1)}),
    "with a tensor missing": lambda path: save_file(
        {name: x for name, x in load_file(path).items() if name != "conv_head.weight"}, path
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_no_file_of_weights_is_named_with_the_remedy(small, tmp_path, how):
    path = tmp_path / "n.safetensors"
    networks.save(small, path)
    SPOILT[how](path)
    with pytest.raises(ValueError, match=r"n.safetensors .*`python -m lib.training`") as caught:
        networks.load(path)
    assert len(str(caught.value).splitlines()) == 1


def test_the_weights_that_ship_are_checked_by_their_hash(small, tmp_path, monkeypatch):
    path = tmp_path / "n.safetensors"
    networks.save(small, path)
    monkeypatch.setattr(networks, "WEIGHTS", path)
    path.with_suffix(".json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(ValueError, match="n.safetensors .*its hash is not the one in its record"):
        networks.load(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest}))
    networks.load(path)


@pytest.mark.parametrize("precision", ["none", "tf32"])  # tf32 is what torch begins with
def test_evaluation_mode_puts_everything_back(small, precision):
    network = copy.deepcopy(small).train()
    network.bn2.eval()
    network.classifier.bias.requires_grad_(False)
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    before = (
        [m.training for m in network.modules()],
        [p.requires_grad for p in network.parameters()],
    )
    with pytest.raises(KeyError), networks.evaluation_mode(network) as handles:
        handles.append(network.bn2.register_forward_hook(lambda *_: None))
        assert not any(m.training for m in network.modules())
        assert not any(p.requires_grad for p in network.parameters())
        assert not torch.backends.cudnn.allow_tf32
        with torch.backends.cudnn.flags(enabled=False):  # as a network may, inside
            raise KeyError
    assert [kind.fp32_precision for kind in CUDNN] == [precision] * 2
    assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    after = [m.training for m in network.modules()], [p.requires_grad for p in network.parameters()]
    assert before == after and not network.bn2._forward_hooks


@pytest.mark.parametrize("conv, rnn, all_of_it", [
    ("tf32", "ieee", "none"), ("ieee", "tf32", "none"), ("none", "none", "tf32"),
])  # fmt: skip
def test_evaluation_mode_keeps_all_bits_whatever_was_chosen(conv, rnn, all_of_it):
    """Each of PyTorch's switches, the old one and the new ones, can turn TF32 on."""
    try:
        torch.backends.fp32_precision = all_of_it
        for kind, precision in zip(CUDNN, (conv, rnn)):
            kind.fp32_precision = precision
        before = [kind.fp32_precision for kind in CUDNN]
        with networks.evaluation_mode(torch.nn.Linear(1, 1)):
            assert torch.backends.cudnn.conv.fp32_precision != "tf32"
        assert [kind.fp32_precision for kind in CUDNN] == before
        with networks.evaluation_mode(torch.nn.Linear(1, 1), exact=False):
            assert [kind.fp32_precision for kind in CUDNN] == before
    finally:
        torch.backends.fp32_precision = "none"
        torch.backends.cudnn.allow_tf32 = True


class Remembers(torch.nn.Module):
    """As much as networks do: a table as long as the input, in an attribute or a buffer; an adapter
    that is merged into the weights for evaluation, and taken out again for training."""

    def __init__(self):
        super().__init__()
        self.linear, self.table, self.merged = torch.nn.Linear(2, 2), None, False
        self.register_buffer("places", torch.zeros(1))

    def train(self, mode):
        if mode == self.merged:
            self.linear.weight.data += -1 if mode else 1
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        self.table, self.places = torch.ones(len(x)) * x.sum(), torch.ones(len(x))
        return self.linear(x)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_mode_leaves_nothing_of_what_a_network_remembers(training):
    network = Remembers().train(training)
    weight, places = network.linear.weight.clone(), network.places
    with networks.evaluation_mode(network), torch.inference_mode():
        assert network.merged
        network(torch.rand(3, 2))
    assert network.table is None and network.places is places
    assert (network.training, network.linear.training, network.merged) == (
        training, training, not training
    )  # fmt: skip
    torch.testing.assert_close(network.linear.weight, weight)
    network(torch.rand(3, 2)).sum().backward()  # nothing of inference is left in it


def test_evaluation_mode_leaves_an_adapter_merged_that_was_merged():
    class Holding(Remembers):
        def __init__(self):
            super().__init__()
            self.inside = Remembers()

    network = Holding().train(True)
    network.inside.train(False)
    before = [x.clone() for x in network.parameters()]
    with networks.evaluation_mode(network):
        assert network.merged and network.inside.merged
    assert not network.merged and network.inside.merged and not network.inside.training
    for then, now in zip(before, network.parameters()):
        torch.testing.assert_close(then, now)


@pytest.mark.parametrize("change, told", [
    (lambda state: {n: x + 5j if n == "classifier.weight" else x for n, x in state.items()},
     "classifier.weight has numbers that are complex or not finite"),
    (lambda state: state, "1000000 classes, and no linear layer of as many"),
], ids=["complex numbers", "a million classes"])  # fmt: skip
def test_weights_that_do_not_fit_are_refused_before_a_network_is_made(
    small, tmp_path, monkeypatch, change, told
):
    path = tmp_path / "n.safetensors"
    many = [""] * 10**6 if "classes" in told else small.classes
    about = dict(about=json.dumps(dict(classes=many, profile=asdict(small.profile))))
    save_file(change(small.state_dict()), path, about)
    monkeypatch.setattr(networks, "build", None)
    with pytest.raises(ValueError, match=told):
        networks.load(path)


def test_the_network_that_ships():
    network = networks.load()
    assert network.classes == CLASSES and network.preprocess.size == 192
    assert not network.training
    assert networks.WEIGHTS.stat().st_size < 20e6


def test_importing_the_model_loads_neither_torchvision_nor_timm():
    code = "import sys, lib.model; print(*{'torchvision', 'timm'} & sys.modules.keys())"
    command = [sys.executable, "-c", code]
    root = networks.WEIGHTS.parents[2]
    assert subprocess.run(command, capture_output=True, text=True, cwd=root).stdout == "\n"
