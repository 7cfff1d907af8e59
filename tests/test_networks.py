"""Backbones, preprocessing, saving and loading, and the network that ships."""

import numpy as np
import pytest
import skimage.data
import torch
from timm.data import ImageNetInfo

from lib.miniature import CLASSES
from lib.model import networks


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
def test_stages_in_a_row_are_the_network(small):
    lower, upper = networks.lower_and_upper(small)
    x = torch.randn(2, 3, 4, 64, 64)
    assert torch.allclose(upper.eval()(lower(x)), small(x), atol=1e-5)


def test_resnet_stages_in_a_row_are_the_network():
    from lib.model.inflate import inflate

    network = inflate(networks.resnet50(imagenet=False)).eval()
    lower, upper = networks.lower_and_upper(network)
    x = torch.randn(1, 3, 2, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(upper(lower(x)), network(x), atol=1e-5)


@torch.inference_mode()
def test_saved_and_loaded_is_the_same_network(small, tmp_path):
    networks.save(small, tmp_path / "n.safetensors")
    loaded = networks.load(tmp_path / "n.safetensors", output_stride=32)
    x = torch.randn(1, 3, 4, 64, 64)
    assert loaded.classes == small.classes and loaded.preprocess == small.preprocess
    assert (loaded(x) - small(x)).abs().max() < 2e-2  # float16 on disk
    assert [p.name for p in tmp_path.iterdir()] == ["n.safetensors"]


@torch.inference_mode()
def test_finer_maps_contain_the_coarse_ones(small, tmp_path):
    networks.save(small, tmp_path / "n.safetensors")
    coarse, fine = (networks.load(tmp_path / "n.safetensors", stride) for stride in (32, 16))
    x = torch.randn(1, 3, 2, 160, 160)
    a, b = coarse.forward_features(x), fine.forward_features(x)
    assert a.shape[-2:] == (5, 5) and b.shape[-2:] == (10, 10)
    # every second cell, away from the frame's rim, where the padding differs
    assert torch.allclose(a[..., 2, 2], b[..., 5, 5], atol=1e-3)


def test_missing_weights_say_how_to_make_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m lib.training"):
        networks.load(tmp_path / "none.safetensors")


def test_the_network_that_ships():
    network = networks.load()
    assert network.classes == CLASSES
    assert not network.training
    assert networks.WEIGHTS.stat().st_size < 20e6
