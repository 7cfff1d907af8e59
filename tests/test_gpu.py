"""What is different on a GPU: maps, training in half precision, compiled. Skipped without one."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lib import miniature
from lib.data import write_video
from lib.evaluation import evaluate
from lib.explain import explain
from lib.miniature import CLASSES, Fresh
from lib.model import build, load
from lib.training import Settings, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICE = "cuda"


@pytest.fixture(scope="module")
def clip():
    return miniature.draw("test", 3)


@pytest.mark.parametrize("method", ["cam", "gradcam++", "layercam", "occlusion"])
def test_maps_are_those_of_a_processor(clip, method):
    network, options = load(), dict(classes=clip.label, method=method)
    if method == "occlusion":
        options |= dict(window=(8, 96, 96), stride=(8, 96, 96))
    here = explain(network, clip, **options)
    there = explain(network.to(DEVICE), clip, **options)
    assert np.abs(here.logits - there.logits).max() < 1e-3
    assert np.abs(here.maps - there.maps).max() < 1e-3 * np.abs(here.maps).max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_3d_convolution_in_half_precision(dtype):
    """Some releases of PyTorch and cuDNN give wrong numbers here in silence (PyTorch 163539)."""
    torch.manual_seed(0)
    layer, x = nn.Conv3d(64, 64, 3, padding=1).to(DEVICE), torch.randn(2, 64, 8, 28, 28).to(DEVICE)
    for layout in torch.contiguous_format, torch.channels_last_3d:
        half = layer.to(dtype, memory_format=layout)(x.to(dtype, memory_format=layout)).float()
        whole = layer.float()(x)
        assert (half - whole).norm() < 1e-2 * whole.norm()


@pytest.mark.parametrize(
    "changed",
    [{}, {"compile": True}, {"whole": True}, {"whole": True, "recompute": True, "accumulate": 2}],
)
def test_a_stopped_training_goes_on(tmp_path, changed):
    torch.manual_seed(0)
    options = dict(epochs=3, batch=8, workers=2, lr=1e-3) | changed
    clips = Fresh("train", 16, 0, 192), Fresh("validation", 8, 0, 192)
    network = build("default", list(CLASSES)).to(DEVICE)

    class Stop(Exception):
        pass

    def stop(update, epoch):
        if epoch == 3:
            raise Stop

    state = {name: x.clone() for name, x in network.state_dict().items()}
    with pytest.raises(Stop):
        train(network, *clips, Settings(**options), tmp_path, on_update=stop)
    torch._dynamo.reset()
    again = build("default", list(CLASSES)).to(DEVICE)
    again.load_state_dict(state)
    log = train(again, *clips, Settings(**options), tmp_path)
    assert [line["epoch"] for line in log] == [1, 2, 3]
    assert all(x.isfinite().all() for x in again.state_dict().values())
    assert (tmp_path / "best.safetensors").is_file()


def test_accuracy_is_that_of_a_processor(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # as on the processor
    network, clips = load(), Fresh("test", 8, 7, 192)
    here = evaluate(network, clips, ("forward", "still"), workers=0)
    there = evaluate(network.to(DEVICE), clips, ("forward", "still"), workers=0)
    for order in "forward", "still":
        assert np.abs(here.probabilities(order) - there.probabilities(order)).max() < 1e-3


def test_commands_use_the_gpu(tmp_path, monkeypatch, capsys):
    from lib.evaluation.__main__ import main as evaluation
    from lib.training.__main__ import main as training

    monkeypatch.setattr("sys.argv", f"- --clips 16 --epochs 1 --folder {tmp_path}".split())
    training()
    record = json.loads((tmp_path / "weights.json").read_text())
    assert record["hardware"] == torch.cuda.get_device_name()
    weights, found = tmp_path / "weights.safetensors", tmp_path / "found.json"
    monkeypatch.setattr("sys.argv", f"- --clips 8 --weights {weights} --record {found}".split())
    evaluation()
    assert json.loads(found.read_text())["test"]["clips"] == 8


def test_the_explain_command_uses_the_gpu(tmp_path, clip, monkeypatch):
    from lib.explain import Explanation
    from lib.explain.__main__ import main

    write_video(tmp_path / "clip.mp4", clip.frames, 4)
    assert main([str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "there.npz"), "--motion"]) == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "here.npz"), "--motion"]) == 0
    here, there = (Explanation.load(tmp_path / f"{name}.npz") for name in ("here", "there"))
    for name in "logits", "maps", "alone":
        one, other = getattr(here, name), getattr(there, name)
        assert np.abs(one - other).max() < 1e-3 * np.abs(one).max()


def test_a_full_gpu_ends_a_command_in_a_line(tmp_path, monkeypatch, capsys):
    from lib.training.__main__ import main

    given = f"- --clips 32 --batch 32 --epochs 1 --whole --workers 0 --folder {tmp_path}"
    monkeypatch.setattr("sys.argv", given.split())
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.002)  # of 80 GB: 160 MB
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    said = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and "the GPU has too little memory: lower --batch or" in said[-1]
