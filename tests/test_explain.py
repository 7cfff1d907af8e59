"""Maps against numbers worked out by hand, and against their own sums."""

import copy
import io
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from forms import class_maps
from small import NAMES, Small, ended, same, seen_by, state
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, ResNet

from lib.data.video import Clip, VideoError
from lib.data.write import write_video
from lib.explain import __main__ as command
from lib.explain import npz
from lib.explain.__main__ import main
from lib.explain.clip import explain
from lib.explain.explanation import ExplainError, Explanation
from lib.explain.overlay import overlay
from lib.model import WEIGHTS, inflate
from lib.viewer import html

# --- numbers --------------------------------------------------------------------------------------


def test_parts_sum_to_the_logit(network, frames):
    with torch.no_grad():
        logits = network.eval()(network.preprocess(frames))[0].numpy()
    for method in ("cam", "gradcam"):
        result = explain(network, frames, method=method)
        np.testing.assert_allclose(result.logits, logits, atol=1e-5)
        for k, name in enumerate(NAMES):
            assert abs(result.map(k).sum() + result.bias[k] - logits[k]) < 1e-4
            assert abs(result.ledger(name).sum() + result.bias[k] - logits[k]) < 1e-4
    assert (result.maps < 0).any()  # signed


def test_cam_is_grad_cam_at_the_last_layer(network, frames):
    closed = explain(network, frames)
    assert closed.layer == "relu2" and closed.maps.shape == (3, 5, 4, 4)
    differentiated = explain(network, frames, method="gradcam")
    assert differentiated.layer == "relu2"
    np.testing.assert_allclose(closed.maps, differentiated.maps, atol=1e-6)


def test_the_difference_of_two_classes_adds_up_to_the_lead(network, frames):
    result = explain(network, frames)
    a, b = result.pair()
    assert [result.classes[k] for k in (a, b)] == [name for name, _ in result.top(2)]
    lead = result.logits[a] - result.logits[b]
    total = result.ledger(a, b).sum() + result.bias[a] - result.bias[b]
    assert abs(total - lead) < 1e-4
    assert f"{result.classes[a]} leads {result.classes[b]} by {lead:.2f}" in result.why()
    assert f"{result.classes[b]} trails {result.classes[a]} by {lead:.2f}" in result.why(b, a)
    with pytest.raises(ExplainError, match="two maps"):
        explain(network, frames, 0).why()


def test_saved_numbers_come_back(network, frames, tmp_path):
    clip = Clip(frames, np.arange(5) / 4, NAMES[1], np.ones(frames.shape[:3], bool))
    result = explain(network, clip)
    result.save(tmp_path / "x.npz")
    again = Explanation.load(tmp_path / "x.npz")
    assert repr(again) == repr(result) and again.mapped == result.mapped and again.label == 1
    for name in ("frames", "times", "logits", "bias", "maps", "mask"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    np.testing.assert_array_equal(again.cells[1], result.cells[1])
    assert again.footprint == result.footprint and again.geometry_note == ""
    assert result.footprint.size == (5, 7, 7)  # two kernels of 3 frames; 3 + 2 * 2 pixels
    replace(result, footprint=None).save(tmp_path / "old.npz")  # as those before there was one
    assert Explanation.load(tmp_path / "old.npz").footprint is None
    earlier = explain(network, frames, layer="relu1", method="gradcam")
    earlier.save(tmp_path / "y.npz")
    assert Explanation.load(tmp_path / "y.npz").bias is None
    (tmp_path / "z.npz").write_bytes(b"no zip")
    with pytest.raises(ExplainError, match="z.npz"):
        Explanation.load(tmp_path / "z.npz")


@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_what_each_frame_alone_gives_is_worked_out_by_hand(network, frames, tmp_path, method):
    result = explain(network, frames, [2, 0], method=method, motion=True)
    assert result.alone.shape == result.maps.shape
    for t, frame in enumerate(frames):
        one = explain(network, frame[None], [2, 0], method=method)
        np.testing.assert_allclose(result.alone[:, t], one.maps[:, 0] / len(frames), atol=1e-6)
    result.save(tmp_path / "x.npz")
    np.testing.assert_array_equal(Explanation.load(tmp_path / "x.npz").alone, result.alone)
    assert explain(network, frames).alone is None
    with pytest.raises(ExplainError, match=r"alone of shape \(1, "):
        replace(result, alone=result.alone[:1])


def test_motion_is_refused_where_no_frame_can_be_mapped_alone(network, frames):
    with pytest.raises(ExplainError, match="no motion="):
        explain(network, frames, method="occlusion", motion=True)
    network.conv2.stride, network.conv2.padding = (2, 2, 2), (0, 1, 1)  # needs three frames
    with pytest.raises(ExplainError, match="motion: no frame can be mapped alone"):
        explain(network, frames, motion=True)


@pytest.mark.parametrize("read_before", [False, True])
def test_copies_know_their_cells(network, frames, read_before):
    expected = explain(network, frames).cells
    result = explain(network, frames)
    if read_before:
        assert result.footprint
    other = replace(result, maps=-result.maps)
    np.testing.assert_array_equal(other.maps, -result.maps)
    for again in (result, other, pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        np.testing.assert_array_equal(again.cells, expected)
        assert again.footprint == result.footprint and again.geometry_note == ""
    others = (0.1, 0.2, 0.3, 0.4), (0.2, 0.4, 0.6, 0.8)
    assert replace(result, cells=others).cells == others


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"mapped": [0, 1]}, "maps of shape"),
        ({"mapped": [0, 1, 3]}, "indices of classes"),
        ({"mapped": np.arange(3)}, "mapped, a list"),
        ({"mapped": [0.0, 1.0, 2.0]}, "whole numbers"),
        ({"label": 3}, "indices of classes"),
        ({"label": True}, "whole numbers"),
        ({"classes": "abc"}, "texts are needed"),
        ({"classes": [1, 2, 3]}, "texts are needed"),
        ({"classes": ["a", "b", "\ud83d"]}, "valid in Unicode"),
        ({"classes": ["a", "b", "c\0"]}, "valid in Unicode"),
        ({"times": [0, 1, 2, 3, 4]}, r"times .* list: an array \(5,\) of floats is needed"),
        ({"cells": None}, "growing numbers"),
        ({"cells": (np.arange(4) / 4,)}, "growing numbers"),
        ({"cells": (np.ones(4), np.ones(4))}, "growing numbers"),
        ({"times": np.arange(2.0)}, "times of shape"),
        ({"mask": np.zeros((1, 2, 2), bool)}, "mask of shape"),
    ],
)
def test_what_does_not_fit_together_is_no_explanation(network, frames, changes, told):
    with pytest.raises(ExplainError, match=told):
        replace(explain(network, frames), **changes)


def test_the_footprint_of_occlusion_is_its_window(network, frames):
    found = explain(network, frames, method="occlusion", window=(2, 4, 8), stride=(1, 4, 8))
    assert found.footprint.field == ((1, 1), (2, 2), (4, 4))
    assert found.footprint.stride == (1, 4, 8) and found.footprint.shape == (5, 16, 16)


def test_tokens_need_a_reshape(frames):
    """Channels last, as video transformers have them: an error, or the same map once told."""

    class Tokens(Small):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            x = self.norm(self.features(x).movedim(1, -1))  # (N, T, h, w, C)
            return self.classifier(x.mean((1, 2, 3)))

    torch.manual_seed(0)
    network = Tokens()
    with pytest.raises(ExplainError, match="reshape="):
        explain(network, frames)
    last = dict(layer="norm", reshape=lambda x: x.movedim(-1, 1))
    closed = explain(network, frames, **last)
    total = closed.maps.sum((1, 2, 3)) + closed.bias
    np.testing.assert_allclose(total, closed.logits, atol=1e-4)
    differentiated = explain(network, frames, method="gradcam", **last)
    np.testing.assert_allclose(closed.maps, differentiated.maps, atol=1e-6)


def test_an_earlier_layer_does_not_add_up_and_says_so(network, frames):
    assert explain(network, frames, layer="relu1", method="gradcam").bias is None


def test_cam_refuses_a_head_that_is_not_linear(frames):
    with pytest.raises(ExplainError, match="gradcam"):
        explain(Small(hidden=1), frames)
    with pytest.raises(ExplainError, match="gradcam"):
        explain(Small(), frames, layer="relu1")


@pytest.mark.parametrize("method", ["cam", "gradcam"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_networks(network, frames, method, dtype):
    full = explain(network, frames, method=method)
    half = explain(network.to(dtype), frames, method=method)
    assert half.maps.dtype == half.logits.dtype == np.float32
    assert np.abs(half.maps - full.maps).max() < 0.05 * np.abs(full.maps).max()
    if method == "cam":
        total = half.maps.sum((1, 2, 3)) + half.bias
        np.testing.assert_allclose(total, half.logits, atol=1e-4)


def test_fewer_steps_than_frames_keep_their_sum(frames):
    torch.manual_seed(0)
    clip = frames[[0, 1, 2, 3, 4, 0, 1, 2]]
    result = explain(Small(stride=(2, 2, 2)), clip)
    assert result.maps.shape == (3, 8, 4, 4)
    np.testing.assert_allclose(result.maps.sum((1, 2, 3)) + result.bias, result.logits, atol=1e-4)


# --- numbers that are not finite ------------------------------------------------------------------


@pytest.mark.parametrize("gain", [1e-3, 1.0, 200.0, 3e4])
def test_small_and_large_gradients_in_float16(network, frames, gain):
    """Gradients of 3e4 times 1024 are infinite in float16, and those of 1e-7 are 0."""
    network.classifier.weight.data *= gain
    full = explain(network, frames, layer="relu1", method="gradcam")
    half = explain(network.half(), frames, layer="relu1", method="gradcam")
    assert np.abs(half.maps - full.maps).max() < 0.05 * np.abs(full.maps).max()


def test_what_is_not_finite_is_an_error_that_says_where(network, frames):
    network.bn1.weight.data[0] = np.inf
    for options in ({}, {"layer": "relu1", "method": "gradcam"}, {"method": "occlusion"}):
        with pytest.raises(ExplainError, match="first that is not finite is layer 'bn1'"):
            explain(network, frames, **options)
    network.bn1.weight.data[0] = 1
    with pytest.raises(ExplainError, match="first that is not finite is the input"):
        explain(network, frames, preprocess=lambda frames: network.preprocess(frames) / 0)


def test_a_gradient_that_is_not_finite_names_layer_and_class(frames):
    class Root(Small):
        def forward(self, x):
            return (
                super().forward(x) * 0
                + (self.relu1(self.conv1(x)) * 0).sum((2, 3, 4))[:, :3].sqrt()
            )

    with pytest.raises(ExplainError, match=r"layer 'conv1' of logit \[1\] is not finite"):
        explain(Root(), frames, 1, "conv1", "gradcam")


def test_no_explanation_holds_what_is_not_finite(network, frames):
    result = explain(network, frames)
    maps = result.maps.copy()
    maps[1, 0, 0, 0] = np.nan
    with pytest.raises(
        ExplainError, match=re.escape(f"map of {NAMES[1]!r} by 'cam' at layer 'relu2'")
    ):
        replace(result, maps=maps)
    with pytest.raises(ExplainError, match="logit"):
        replace(result, logits=result.logits * np.inf)


# --- what is not as it seems ----------------------------------------------------------------------


def test_a_network_that_ends_in_a_softmax_says_so(network, frames):
    plain = explain(network, frames)
    options = dict(preprocess=network.preprocess, class_names=NAMES, method="gradcam")
    ended = explain(nn.Sequential(network, nn.Softmax(1)), frames, **options)
    assert "softmax" in ended.geometry_note and "softmax" in html(ended)
    np.testing.assert_allclose(ended.probabilities, plain.probabilities, atol=1e-5)  # not twice
    p, every = plain.probabilities, plain.maps
    expected = p[:, None, None, None] * (every - np.tensordot(p, every, 1))
    np.testing.assert_allclose(ended.maps, expected, atol=1e-6)
    assert ended.bias is None and plain.geometry_note == ""


def resized(frames, size):
    x = Small.preprocess(frames)
    return nn.functional.interpolate(x, (len(frames), *size), mode="trilinear")


PREPROCESS = {  # what it does, and whether it keeps an edge of the frames from the network
    "resized": (lambda f: resized(f, (48, 80)), False),
    "negative": (lambda f: -Small.preprocess(f), False),
    "centre": (lambda f: Small.preprocess(f[:, 4:60, 4:60]), True),
    "wide": (lambda f: resized(f, (80, 106))[..., 5:75, 18:88], True),
    "a corner": (lambda f: Small.preprocess(f[:, :56, 8:]), True),
    "without the last rows": (lambda f: Small.preprocess(f[:, :60]), True),
    "differences of frames": (lambda f: Small.preprocess(f).diff(dim=2), True),  # not followed
}


@pytest.mark.parametrize("name", PREPROCESS)
def test_a_preprocess_that_crops_is_told(network, name):
    preprocess, crops = PREPROCESS[name]
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    found = explain(network, frames, preprocess=preprocess)
    assert crops == ("preprocess crops" in found.geometry_note) == ("preprocess" in html(found))


REFUSED = {  # what preprocess does, and how it is called
    "upside down": (lambda f: np.flip(f, 1), "mirrors"),
    "left and right": (lambda f: np.flip(f, 2), "mirrors"),
    "on its side": (lambda f: np.swapaxes(f, 1, 2), "turns"),
    "backwards": (lambda f: f[::-1], "reorders"),
    "the first half": (lambda f: f[: len(f) // 2], "leaves out"),
    "the second half": (lambda f: f[len(f) // 2 :], "leaves out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_preprocess_that_moves_what_is_seen_is_refused(network, name):
    change, said = REFUSED[name]
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(ExplainError, match=f"preprocess .*{said}"):
        explain(network, frames, preprocess=lambda f: network.preprocess(change(f)))


@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_autocast_around_it_changes_nothing(network, frames, method):
    expected = explain(network, frames, method=method)
    with torch.autocast("cpu", torch.bfloat16):
        found = explain(network, frames, method=method)
    np.testing.assert_array_equal(found.maps, expected.maps)


def test_class_names_as_others_keep_them(network, frames):
    names = ["a", "b", "c"]
    for given in (np.array(names), tuple(names), dict(zip((2, 0, 1), ("c", "a", "b")))):
        found = explain(network, frames, class_names=given)
        assert found.classes == names and found.summary()


def test_class_names_may_be_numbers_and_must_be_there(network, frames):
    assert explain(network, frames, class_names=range(3)).classes == ["0", "1", "2"]
    from_json = {"0": "a", "1": "b", "2": "c"}
    assert explain(network, frames, class_names=from_json).classes == ["a", "b", "c"]
    with pytest.raises(ExplainError, match="class 1 has no name"):
        explain(network, frames, class_names={0: "a", 2: "c"})


def test_what_is_no_layer_name_or_no_tensor_is_refused(network, frames):
    for layer in network.conv1, ["conv1"]:
        with pytest.raises(ExplainError, match="no layer"):
            explain(network, frames, layer=layer, method="gradcam")
    with pytest.raises(ExplainError, match="preprocess gives ndarray"):
        explain(network, frames, preprocess=lambda x: x.astype(np.float32))


def test_a_class_is_not_compared_with_itself(network, frames):
    found = explain(network, frames)
    with pytest.raises(ExplainError, match="compared with itself"):
        found.why(1, NAMES[1])


def test_the_clip_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "clip.webm"
    path.write_bytes(b"mine")
    assert ended([str(path), "--out", str(tmp_path / "." / "clip.webm")]) == 2
    assert "is the clip itself" in capsys.readouterr().err and path.read_bytes() == b"mine"


@pytest.mark.parametrize("content", [b"", b"PK\5\6" + bytes(18), b"no zip"])
def test_a_damaged_explanation_is_named(tmp_path, content):
    (tmp_path / "e.npz").write_bytes(content)
    with pytest.raises(ExplainError, match="e.npz: not a saved explanation"):
        Explanation.load(tmp_path / "e.npz")


@pytest.mark.parametrize("changes, told", [
    ({"maps": None}, "lacks maps"), ({"y": None}, "lacks y"), ({"method": None}, "lacks method"),
    ({"frames": np.zeros((5, 16, 12, 3), np.uint8)}, "frames of shape"),
    ({"frames": np.zeros((5, 16, 16, 3))}, "frames of shape"),
    ({"frames": np.zeros((4, 16, 16, 3), np.uint8)}, "times of shape"),
    ({"times": np.array([list("abcde")])}, "times of shape"),
    ({"logits": np.zeros((3, 2), np.float32)}, "logits of shape"),
    ({"logits": np.array(["a", "b", "c"])}, "logits of shape"),
    ({"bias": np.zeros(2, np.float32)}, "bias of shape"),
    ({"maps": np.zeros((3, 5, 4), np.float32)}, "maps of shape"),
    ({"maps": np.zeros((2, 5, 4, 4), np.float32)}, "maps of shape"),
    ({"maps": np.zeros((3, 4, 4, 4), np.float32)}, "maps of shape"),
    ({"maps": np.full((3, 5, 4, 4), np.nan, np.float32)}, "not finite"),
    ({"mask": np.zeros((5, 8, 8), bool)}, "mask of shape"),
    ({"mapped": np.array([0, 1, 3])}, "indices of classes"),
    ({"mapped": np.array([0, 1, -1])}, "indices of classes"),
    ({"mapped": np.array([0.0, 1, 2])}, "whole numbers"),
    ({"label": np.array(7)}, "indices of classes"), ({"label": np.array("a")}, "whole numbers"),
    ({"classes": np.array([1, 2, 3])}, "texts"), ({"layer": np.array(5)}, "texts"),
    ({"times": np.array([0, 1, 2, np.nan, 4])}, "a time or logit .* not finite"),
    ({"bias": np.array([0, np.inf, 0])}, "not finite"),
    ({"maps": np.zeros((3, 5, 1, 4)), "y": np.array([np.nan])}, "growing numbers"),
    ({"y": np.zeros(4)}, "growing numbers"), ({"x": np.arange(3.0)}, "numbers"),
    ({"footprint": np.zeros((2, 9))}, "3 rows of 9"),
    ({"more": np.zeros(3)}, "unexpected keyword argument 'more'"),
    ({"frames": np.array([{}], object)}, "allow_pickle"),
])  # fmt: skip
def test_an_incomplete_explanation_is_refused_when_loading(
    network, frames, tmp_path, changes, told
):
    path = tmp_path / "e.npz"
    explain(network, frames).save(path)
    with np.load(path) as file:
        whole = dict(file)
    whole["maps"] = np.zeros((3, 5, 4, 4), np.float32)
    whole["y"] = whole["x"] = np.arange(4) / 4
    np.savez(path, **{name: x for name, x in (whole | changes).items() if x is not None})
    with pytest.raises(ExplainError, match=rf"e\.npz: not a saved explanation \(.*{told}"):
        Explanation.load(path)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before(
    network, frames, tmp_path, monkeypatch
):
    assert npz.MOST_BYTES == 2**31
    monkeypatch.setattr(npz, "MOST_BYTES", 2**24)  # a smaller file makes the same point
    path = tmp_path / "bomb.npz"
    with ZipFile(path, "w", ZIP_DEFLATED) as file:
        file.writestr("maps.npy", bytes(2**25))
    tracemalloc.start()
    with pytest.raises(ExplainError, match="bomb.npz: .* GB are allowed, explain fewer frames"):
        Explanation.load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    maps, cells = np.zeros((3, 5, 600, 600), np.float32), (np.arange(600) / 600,) * 2
    large = replace(explain(network, frames), maps=maps, cells=cells)
    with pytest.raises(ExplainError, match="large.npz: .* GB are allowed"):
        large.save(tmp_path / "large.npz")
    assert not (tmp_path / "large.npz").exists()


def test_a_saved_page_allows_nothing_from_elsewhere(network, frames, tmp_path, browser):
    """Not even to a script that got into it; and the viewer lives under this policy."""
    explain(network, frames).save(tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    (other,) = (tmp_path / "other.js",)
    other.write_text("document.title = 'taken'")
    hostile = f'<script src="{other.as_uri()}"></script><img src="{other.as_uri()}">'
    hostile += "<script>fetch('http://127.0.0.1:9/x').catch(() => document.body.id = 'no')</script>"
    (tmp_path / "out.html").write_text(page.replace("</body>", f"{hostile}</body>"), "utf-8")
    asked, opened = [], browser.new_page()
    opened.on("requestfinished", lambda request: asked.append(request.url))
    opened.goto((tmp_path / "out.html").as_uri())
    opened.locator("cam-viewer[ready]").wait_for()
    opened.locator("#no").wait_for()
    opened.keyboard.press("ArrowRight")
    title, drawn = opened.title(), opened.locator("cam-viewer canvas").first.bounding_box()
    opened.close()
    assert title != "taken" and drawn["width"] > 50
    assert [u for u in asked if not u.startswith(("data:", "blob:"))] == [
        (tmp_path / "out.html").as_uri()
    ]


# --- leaving the network alone --------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_hooks_gone_and_modes_restored(network, frames, method):
    network.train()
    network.bn1.eval()
    network.conv1.requires_grad_(False)
    before = state(network)
    explain(network, frames, method=method)
    assert same(before, state(network))


class Recomputed(nn.Module):
    """A block that is computed again for its gradient."""

    def __init__(self, block, reentrant):
        super().__init__()
        self.block, self.reentrant = block, reentrant

    def forward(self, x):
        return checkpoint(self.block, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("layer", ["bn1", "conv1", "layer4.0.bn2"])
def test_recomputation_changes_no_map(layer, reentrant):
    torch.manual_seed(0)
    plain = inflate(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3))
    for module in plain.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    recomputed = copy.deepcopy(plain).train()
    for stage in (recomputed.layer1, recomputed.layer2, recomputed.layer3, recomputed.layer4):
        stage[0] = Recomputed(stage[0], reentrant)
    before = state(recomputed)
    inputs = torch.randn(1, 3, 3, 64, 64)
    inside = layer.replace("layer4.0.", "layer4.0.block.")
    expected, _ = class_maps(plain.eval(), inputs, [0, 1, 2], layer, "gradcam")
    if inside != layer and reentrant:
        with pytest.raises(ExplainError, match="use_reentrant"):
            class_maps(recomputed, inputs, [0, 1, 2], inside, "gradcam")
    else:
        found, _ = class_maps(recomputed, inputs, [0, 1, 2], inside, "gradcam")
        torch.testing.assert_close(found, expected)
    assert same(before, state(recomputed))


@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_restored_after_an_exception(network, frames, method):
    network.train()
    before = state(network)

    def fail(*_):
        raise KeyboardInterrupt

    handle = network.classifier.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        explain(network, frames, method=method)
    handle.remove()
    assert same(before, state(network))


def test_second_call_is_fresh(network, frames):
    first = explain(network, frames, method="gradcam")
    kept = first.maps.copy()
    other = explain(network, 255 - frames, method="gradcam")
    assert np.abs(other.maps - kept).max() > 1e-3
    np.testing.assert_array_equal(first.maps, kept)
    again = explain(network, frames, method="gradcam")
    np.testing.assert_array_equal(again.maps, kept)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_inside_contexts_without_gradient(network, frames, context, method):
    expected = explain(network, frames, method=method)
    with context():
        result = explain(network, frames, method=method)
    np.testing.assert_array_equal(result.maps, expected.maps)


@pytest.mark.parametrize("layer", ["bn1", "bn2"])
def test_in_place_relu_after_the_layer(network, frames, layer):
    in_place = explain(network, frames, layer=layer, method="gradcam")
    network.relu1.inplace = network.relu2.inplace = False
    np.testing.assert_array_equal(
        in_place.maps, explain(network, frames, layer=layer, method="gradcam").maps
    )
    network.relu1.inplace = True
    seen = seen_by(network, network.preprocess(frames), "bn1")
    assert (seen.activations < 0).any()  # what the layer gave, not what became of it


def test_nothing_below_the_layer_is_differentiated(network, frames):
    needs = {}
    for name in ("bn1", "conv2", "bn2"):
        network.get_submodule(name).register_forward_pre_hook(
            lambda _m, args, name=name: needs.update({name: args[0].requires_grad})
        )
    seen_by(network, network.preprocess(frames), "relu1", gradient=True)
    assert needs == {"bn1": False, "conv2": True, "bn2": True}


# --- clips, errors, pictures ----------------------------------------------------------------------


def test_clip_array_and_viewing_size(network):
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), dtype=np.uint8)
    mask = np.zeros((4, 40, 60), bool)
    mask[:, :, 30:] = True
    clip = Clip(frames, np.array([1.0, 1.25, 1.5, 1.5]), NAMES[2], mask)
    result = explain(network, clip, size=20)
    assert result.frames.shape == (4, 20, 20, 3)
    assert result.times.tolist() == [1.0, 1.25, 1.5, 1.5]
    assert result.label == 2
    clip.label = "a class of another network"
    assert explain(network, clip).label is None
    assert result.mask.shape == (4, 20, 20) and result.mask[:, :, 11:].all()
    assert not result.mask[:, :, :9].any()
    kept = explain(network, frames)  # smaller than the viewing size: only cropped
    np.testing.assert_array_equal(kept.frames, frames[:, :, 10:50])
    assert kept.times.tolist() == [0, 0.25, 0.5, 0.75]


def test_classes_by_name_and_index(network, frames):
    result = explain(network, frames, [NAMES[2], 0])
    assert result.mapped == [2, 0] and len(result.maps) == 2
    alone = explain(network, frames, 2).maps[0]  # of one class, the sum is rounded in another order
    np.testing.assert_allclose(result.map(2), alone, atol=1e-8)
    with pytest.raises(ExplainError, match=r"classes="):
        result.map(1)
    k = int(result.logits.argmax())
    for one in (np.argmax(result.logits), np.array(k), torch.tensor(k), np.uint8(k)):
        assert explain(network, frames, one).mapped == [k]
    for some in ({k}, np.array([k]), torch.tensor([k]), (c for c in [k])):
        assert explain(network, frames, some).mapped == [k]
    for wrong in (True, np.True_, torch.tensor(True), 1.0, np.float32(1), np.array(1.0), [0.5]):
        with pytest.raises(ExplainError, match="a whole number"):
            explain(network, frames, wrong)
    network.classes = ["twice", "once", "twice"]
    assert explain(network, frames, "once").mapped == [1]
    with pytest.raises(ExplainError, match="2 classes have this name"):
        explain(network, frames, "twice")


def test_foreign_network(frames):
    network = nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with pytest.raises(ExplainError, match="preprocess="):
        explain(network, frames)
    result = explain(network, frames, preprocess=Small.preprocess)
    assert result.layer == "0" and result.classes == ["class 0", "class 1"]
    with pytest.raises(ExplainError, match="class_names="):
        explain(network, frames, preprocess=Small.preprocess, class_names=["a"])


def test_errors_name_the_remedy(network, frames):
    with pytest.raises(ExplainError, match=r"'relu3'; did you mean .*'relu"):
        explain(network, frames, layer="relu3", method="gradcam")
    with pytest.raises(ExplainError, match=r"'drop' gives \(1, 8\)"):
        explain(network, frames, layer="drop", method="gradcam")
    with pytest.raises(ExplainError, match="linear"):
        explain(network, frames, layer="classifier", method="gradcam")
    with pytest.raises(ExplainError, match=r"did you mean 'Closing \[something\]'"):
        explain(network, frames, "Closing something")
    with pytest.raises(ExplainError, match="there are 3"):
        explain(network, frames, 3)
    with pytest.raises(ExplainError, match="cam, gradcam"):
        explain(network, frames, method="grad-cam")
    with pytest.raises(ExplainError, match="uint8"):
        explain(network, frames / 255.0)
    with pytest.raises(ExplainError, match="mask"):
        explain(network, Clip(frames, np.arange(5) / 4, mask=np.zeros((1, 2, 3), bool)))
    with pytest.raises(ExplainError, match="at least one"):
        explain(network, frames, [])


def by_hand(maps, cells=((0.25, 0.75), (0.25, 0.75)), size=8):
    maps = np.asarray(maps, np.float32)
    return Explanation(
        frames=np.zeros((maps.shape[1], size, size, 3), np.uint8),
        times=np.arange(maps.shape[1]) / 4,
        classes=NAMES,
        logits=np.log(np.array([0.84, 0.06, 0.10], np.float32)),
        bias=None,
        maps=maps,
        mapped=list(range(len(maps))),
        cells=tuple(np.array(c, np.float32) for c in cells),
        method="cam",
        layer="bn2",
        label=0,
    )


def test_top_summary_and_repr():
    result = by_hand(np.ones((1, 2, 2, 2)))
    assert result.top() == [
        ("Opening [something]", pytest.approx(0.84)),
        ("Tearing [something]", pytest.approx(0.10)),
    ]
    assert result.probabilities.sum() == pytest.approx(1)
    assert result.summary().splitlines() == [
        "true  Opening [something]",
        "1st   Opening [something]  .84",
        "2nd   Tearing [something]  .10",
    ]
    assert repr(result) == (
        "Explanation('Opening [something]' 0.84, 2 frames of 8x8, "
        "1 maps of 2x2x2 by 'cam' at 'bn2')"
    )
    assert result.ledger(0).tolist() == [4, 4]


def test_overlay_stands_on_the_cells_and_is_scaled_over_the_clip():
    # 17 pixels: the centres (p + .5) / 17 of pixels 4 and 12 are the cells'
    centres = (4.5 / 17, 12.5 / 17)
    maps = [[[[4, 0], [0, -9]], [[1, 0], [0, 0]]]]
    result = by_hand(maps, (centres, centres), size=17)
    drawn = overlay(result, 0, opacity=1.0).astype(int).sum(-1)
    assert drawn.shape == (2, 17, 17)
    peak = drawn[0].max()
    assert drawn[0, 4, 4] == peak == drawn[0, 0, 0]  # held beyond the outermost centres
    assert drawn[0, 8, 4] < peak and drawn[0, 4, 8] == drawn[0, 8, 4] > 0
    assert drawn[0, 12, 12] == 0  # what speaks against is not drawn
    assert 0 < drawn[1, 4, 4] < drawn[0, 8, 4]  # a weak frame stays weak
    blank = overlay(by_hand(-np.ones((1, 2, 2, 2))), 0)
    assert blank.dtype == np.uint8 and not blank.any()


def test_an_improbable_class_does_not_dim_the_most_probable_one():
    few, many = np.zeros((2, 1, 2, 2))
    few[0, 0, 0], many[0, 0, 0], many[0, 1, 1] = 1, 1, 50  # 50 in one cell, for p = .06
    alone, both = by_hand([few]), by_hand([few, many])
    np.testing.assert_array_equal(overlay(alone, 0), overlay(both, 0))
    of_many = overlay(both, 1)[0].astype(int).sum(-1)
    assert of_many[7, 7] == of_many[0, 0] == overlay(both, 0)[0, 0, 0].astype(int).sum() > 0
    weak = by_hand([-few, many])  # nothing for the first: then what is largest of all
    assert overlay(weak, 1)[0, 7, 7].any() and not overlay(weak, 0)[0, 7, 7].any()


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".webm"])
def test_save_side_by_side(tmp_path, network, frames, suffix):
    import av

    result = explain(network, np.repeat(np.repeat(frames, 4, 1), 4, 2))
    path = tmp_path / f"out{suffix}"
    result.save(path, NAMES[0])
    with av.open(str(path)) as container:
        shown = list(container.decode(video=0))
    assert len(shown) == 5 and (shown[0].width, shown[0].height) == (128, 64)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_save_page(tmp_path, network, frames):
    result = explain(network, frames)
    result.save(tmp_path / "out.html", 1)
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and 'class-index="1"' in page
    assert "http://" not in page and "https://" not in page
    assert result._repr_html_() in page.replace('class-index="1"', "") or "<cam-viewer" in page


# --- command line ---------------------------------------------------------------------------------


@pytest.fixture
def shipped(monkeypatch, network):
    """Stands in for the trained network."""
    monkeypatch.setattr(command, "load", lambda: network)


@pytest.fixture
def video(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames, 6)
    return tmp_path / "clip.mp4"


def test_command_prints_the_top_two(shipped, video, capsys):
    assert main([str(video)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1st   ") and lines[1].startswith("2nd   ")
    assert lines[0].split()[-1].startswith(".")


def test_command_takes_other_weights(shipped, video, network, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(command, "load", lambda path: asked.append(path) or network)
    assert main([str(video), "--weights", "best.safetensors"]) == 0
    assert asked == [Path("best.safetensors")]


@pytest.mark.parametrize("method", ["cam", "gradcam", "occlusion"])
def test_command_says_why_not_another(shipped, video, capsys, method):
    out = video.with_name("why.html")
    arguments = [str(video), "--class", "1", "--versus", "2", "--method", method]
    assert main([*arguments, "-o", str(out)]) == 0
    assert re.search(re.escape(NAMES[1]) + " (leads|trails) ", capsys.readouterr().out)
    assert 'versus-index="2"' in out.read_text()


def test_a_page_says_whose_evidence_it_opens_with(network, frames, tmp_path):
    found, out = explain(network, frames), tmp_path / "page.html"
    (first, _), (second, _) = found.top(2)
    says = f"Evidence for {second}; the network says {first}"
    for cls, title in (None, first), (first, first), (second, says):
        found.save(out, cls)
        assert f"<h1>{title}</h1>" in out.read_text()


@pytest.mark.parametrize("suffix", [".NPZ", ".HTML", ".GIF", ".MP4"])
def test_a_suffix_may_be_in_capitals(network, frames, tmp_path, suffix):
    path = tmp_path / f"9:30{suffix}"  # and no colon is a protocol
    explain(network, frames, 0).save(path)
    assert [*tmp_path.iterdir()] == [path] and path.stat().st_size
    assert suffix != ".NPZ" or Explanation.load(path).mapped == [0]


def test_what_is_not_written_is_told(network, frames, tmp_path):
    found = explain(network, frames, 0)
    with pytest.raises(VideoError, match="a.png: cannot be written; use .html, .gif, .mp4, .webm"):
        found.save(tmp_path / "a.png")
    with pytest.raises(ExplainError, match="gone.npz: .*No such file"):
        Explanation.load(tmp_path / "gone.npz")


@pytest.mark.parametrize("suffix", [".html", ".gif", ".mp4", ".npz"])
def test_command_writes(shipped, video, capsys, suffix):
    out = video.with_name(f"out{suffix}")
    arguments = [str(video), "--class", "1", "--method", "gradcam", "--layer", "relu1"]
    arguments += ["--motion"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert out.stat().st_size > 0 and str(out) in capsys.readouterr().out
    assert suffix != ".npz" or Explanation.load(out).alone.shape[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "out.txt"], "out.txt"),
        (["--class", "Closing"], "no class 'Closing'"),
        (["--class", "7"], "there are 3"),
        (["--method", "gradcam", "--layer", "relu9"], "did you mean"),
        (["--out", "missing/out.gif"], "missing/out.gif"),
        (["--out", "missing/out.html"], "missing/out.html"),
        (["--out", f"{__file__}/out.html"], f"{__file__}/out.html: cannot be written"),
    ],
)
def test_command_reports_what_is_wrong(shipped, video, capsys, arguments, message):
    assert ended([str(video), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"no weights at all", "cut"])
def test_command_refuses_weights_of_something_else(video, capsys, content):
    weights = video.with_name("other.safetensors")
    if content == "cut":
        content = WEIGHTS.read_bytes()[:5000]
    if content is not None:
        weights.write_bytes(content)
    assert ended([str(video), "--weights", str(weights)]) == 2
    message = capsys.readouterr().err
    assert str(weights) in message and message.count("\n") == 1


def test_command_refuses_an_empty_name(capsys):
    """Which would be the folder that it is called from: a variable of the shell that is not set."""
    files = [["clip.mp4", option, ""] for option in ("--out", "--weights")]
    for arguments in ["", "--out", "somewhere"], *files:
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert ": the name is empty" in capsys.readouterr().err


def test_command_in_a_notebook(shipped, video):
    """Whose stdout is no file of the machine's."""
    with redirect_stdout(io.StringIO()) as said:
        assert main([str(video)]) == 0
    assert "1st" in said.getvalue()


def test_command_on_a_console_that_lacks_the_letters_of_a_name(video):
    out, without = video.with_name("動画.html"), os.environ | {"PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "lib.explain", str(video), "--out", str(out)]
    done = subprocess.run(command, env=without, capture_output=True)
    assert done.returncode == 0 and b"\\u52d5\\u753b.html" in done.stdout and out.is_file()


def test_command_refuses_a_negative_start(video, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(video), "--start=-1"])
    assert "-1: must be from 0 to" in capsys.readouterr().err


def test_command_on_a_missing_file():
    done = subprocess.run(
        [sys.executable, "-m", "lib.explain", "missing.mp4"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "missing.mp4" in done.stderr and "Traceback" not in done.stderr


class Greatest(nn.Module):
    """The greatest value of each channel; one class has far larger logits than the others."""

    preprocess, classes = staticmethod(Small.preprocess), NAMES

    def __init__(self, largest):
        super().__init__()
        self.conv, self.head = nn.Conv3d(3, 3, 3, padding=1), nn.Linear(3, 3, bias=False)
        self.conv.weight.data[0], self.conv.bias.data[0] = 0, 1
        self.head.weight.data = torch.diag(torch.tensor([largest, 1.0, 1.0]))

    def forward(self, x):
        return self.head(self.conv(x).relu().amax((2, 3, 4)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_bias_far_from_the_others_is_rounded_by_its_own_size(frames, dtype):
    for seed in range(10):
        torch.manual_seed(seed)
        network = Small().eval()
        network.classifier.weight.data[0] *= 20
        network.classifier.bias.data[1] = -40.3
        assert explain(network.to(dtype), frames).bias is not None


@pytest.mark.parametrize("largest", [1.0, 1e3, 1e4, 1e6])
def test_a_large_logit_hides_no_other_pooling(frames, largest):
    network = Greatest(largest).eval()
    with pytest.raises(ExplainError, match="do not give this network's logits"):
        explain(network, frames)
    assert explain(network, frames, method="gradcam").bias is None


def test_a_page_says_whose_map_it_has(network, frames, tmp_path):
    whole, out = explain(network, frames), tmp_path / "page.html"
    (first, _), (second, _) = whole.top(2)
    explain(network, frames, second).save(out)
    assert f"<h1>Evidence for {second}; the network says {first}</h1>" in out.read_text()


def test_probabilities_of_many_classes_in_half_precision(network, frames):
    one = explain(network, frames, 0)
    many = np.zeros(70_000, np.float16)
    found = replace(one, classes=list(map(str, range(70_000))), logits=many, bias=None)
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-3)


def test_a_file_of_numbers_that_waits_or_swells(network, frames, tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    explain(network, frames).save(tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as file:
        values = dict(file)
    head = f"{{'descr': '|S0', 'fortran_order': False, 'shape': ({10**9},), }}".ljust(117) + "\n"
    npy = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()
    with ZipFile(tmp_path / "whole.npz") as old, ZipFile(tmp_path / "swells.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, npy if name == "mapped.npy" else old.read(name))
    footprint = values["footprint"] * np.nan
    np.savez(tmp_path / "unknown.npz", **values | dict(footprint=footprint))
    told = {"pipe": "a pipe or device", "swells": "mapped has no bytes", "unknown": "3 rows of 9"}
    for name, said in told.items():
        with pytest.raises(ExplainError, match=f"{name}.npz: not a saved explanation .*{said}"):
            Explanation.load(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".html"])
def test_frames_of_one_pixel_can_be_saved(network, frames, tmp_path, suffix):
    found = explain(network, np.repeat(frames[:, :1, :1], 2, 2), method="occlusion")
    found.save(tmp_path / f"clip{suffix}")


@pytest.mark.parametrize("clip", [
    torch.zeros(2, 8, 8, 3, dtype=torch.bfloat16), torch.zeros(2, 8, 8, 3, device="meta"),
    torch.zeros(2, 8, 8, 3, requires_grad=True), [np.zeros((8, 8, 3)), np.zeros((8, 9, 3))],
])  # fmt: skip
def test_what_makes_no_array_is_no_clip(network, clip):
    with pytest.raises(ExplainError, match="^clip: .*uint8"):
        explain(network, clip)


def test_command_takes_a_number_of_any_length_for_a_name(shipped, video, capsys):
    assert ended([str(video), "--class", "9" * 5000]) == 2
    assert "no class '999" in capsys.readouterr().err
