"""The loop: it learns, it resumes to the same weights, and it leaves no broken file."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lib import miniature
from lib.data.labels import CLASSES_10
from lib.data.something import Item, write_annotations
from lib.data.video import write_video
from lib.model import networks
from lib.model.inflate import inflate
from lib.training import batches, journal
from lib.training import loop as training
from lib.training.journal import Journal
from lib.training.settings import Settings

CLASSES = ["Moving [something] from left to right", "Moving [something] from right to left"]
PROFILE = networks.Profile("efficientnet_lite0", 32, 3, "centre", "late")


class Bars(torch.utils.data.Dataset):
    """A bright bar that goes right (0) or left (1) over noise."""

    def __init__(self, clips: int, seed: int):
        self.clips, self.seed = clips, seed

    def __len__(self):
        return self.clips

    def __getitem__(self, i):
        rng = np.random.default_rng([self.seed, i])
        frames = rng.integers(0, 60, (6, 32, 32, 3), dtype=np.uint8)
        for t in range(6):
            x = 4 * t + 2
            frames[t, :, x : x + 6] = 255
        return (frames if i % 2 == 0 else frames[::-1].copy()), i % 2


def network():
    torch.manual_seed(0)
    return networks.build(PROFILE, CLASSES)


def settings(**changed):
    return Settings(**(dict(epochs=4, batch=8, workers=0, seed=1) | changed))


def test_learns_a_direction_that_no_frame_tells():
    log = training.train(network(), Bars(64, 0), Bars(32, 1), settings(epochs=6))
    assert log[-1]["val_top1"] > 0.9
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a compiler")
def test_compiled_it_takes_the_same_step():
    def step(**changed):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        net.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)])
        net, chosen = inflate(net), settings(bfloat16=False, optimizer="sgd", **changed)
        called = training.prepare(net, chosen)
        training.training_mode(net, chosen)
        batch = [(torch.rand(2, 3, 4, 8, 8), torch.tensor([0, 1]))]
        training.step(called, batch, *training.optimize(called, chosen, 2), chosen)
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    torch.testing.assert_close(step(compile=True), step(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_processor_trains_in_bfloat16_where_that_is_faster(monkeypatch, groups):
    monkeypatch.setattr(networks, "fast_bfloat16", lambda device: True)
    net = nn.Sequential(nn.Conv3d(4, 4, 1, groups=groups), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    seen = []
    net[0].register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    x = torch.rand(1, 4, 2, 3, 3)
    assert training.forward(net, x, settings()).dtype == torch.float32
    training.forward(net, x, settings(bfloat16=False))
    assert seen == [torch.bfloat16 if groups == 1 else torch.float32, torch.float32]


def test_one_frame_cannot_learn_it():
    log = training.train(network(), Bars(64, 0), Bars(32, 1), settings(frames=1))
    assert log[-1]["val_top1"] < 0.8


class Stopped(Exception):
    pass


def test_stopped_and_started_again_it_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = network()
    log = training.train(whole, Bars(32, 0), Bars(8, 1), settings(), tmp_path / "whole")

    def stop_after_two(journal, state, write=Journal.checkpoint):
        write(journal, state)
        if state["progress"]["epoch"] == 2:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "checkpoint", stop_after_two)
        with pytest.raises(Stopped):
            training.train(network(), Bars(32, 0), Bars(8, 1), settings(), tmp_path / "parts")
    resumed = network()
    again = training.train(resumed, Bars(32, 0), Bars(8, 1), settings(), tmp_path / "parts")

    assert [e["loss"] for e in again] == [e["loss"] for e in log]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    left = {path.name.split(".")[0] for path in (tmp_path / "parts").iterdir()}
    assert left == {"last", "best", "log", "events"}  # and nothing half written


def test_refuses_a_checkpoint_of_other_settings(tmp_path):
    training.train(network(), Bars(8, 0), Bars(8, 1), settings(epochs=1), tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        training.train(network(), Bars(8, 0), Bars(8, 1), settings(epochs=2), tmp_path)


def test_reversal_turns_the_clip_and_its_label():
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).repeat(40, 1, 1, 1, 1)
    y, rng = torch.zeros(40, dtype=torch.long), torch.Generator().manual_seed(0)
    turned, labels = batches.examples(x, y, settings(), batches.opposite(CLASSES), rng)
    assert 5 < labels.sum() < 35
    for clip, label in zip(turned, labels):
        order = [0, 1, 2, 3, 4, 5] if label == 0 else [5, 4, 3, 2, 1, 0]
        assert clip.flatten().tolist() == order


def test_the_baseline_sees_single_frames():
    x = torch.arange(12.0).view(2, 1, 6, 1, 1)  # clip 0 holds 0..5, clip 1 holds 6..11
    y, rng = torch.tensor([0, 1]), torch.Generator().manual_seed(0)
    stills, labels = batches.examples(x, y, settings(frames=1), batches.opposite(CLASSES), rng)
    assert stills.shape == (2 * batches.STILLS, 1, 1, 1, 1)
    assert torch.equal(stills.flatten() >= 6, labels == 1)


def test_classes_without_a_reversal_are_not_turned():
    names = [*CLASSES, "Dropping [something]"]
    assert batches.opposite(names).tolist() == [1, 0, -1]
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).repeat(20, 1, 1, 1, 1)
    y, rng = torch.full((20,), 2), torch.Generator().manual_seed(0)
    kept, labels = batches.examples(x, y, settings(), batches.opposite(names), rng)
    assert torch.equal(kept, x) and torch.equal(labels, y)


def test_the_lower_stages_do_not_change():
    trained = network()
    lower, upper = networks.stages(trained)
    before = [p.clone() for p in lower.parameters()]
    stats = {k: v.clone() for k, v in lower.state_dict().items()}
    head = trained.classifier.weight.clone()
    training.train(trained, Bars(16, 0), Bars(8, 1), settings(epochs=1))
    assert all(torch.equal(a, b) for a, b in zip(before, lower.parameters()))
    assert all(torch.equal(v, stats[k]) for k, v in lower.state_dict().items())
    assert not torch.equal(head, trained.classifier.weight)


def test_the_whole_network_can_be_trained():
    trained = network()
    stem = trained.conv_stem.module.weight.clone()
    training.train(trained, Bars(16, 0), Bars(8, 1), settings(epochs=1, whole=True))
    assert not torch.equal(stem, trained.conv_stem.module.weight)


def test_fresh_clips_are_never_the_same_twice():
    fresh = miniature.Fresh("train", 40, seed=0)
    one, two = fresh.epoch(0)[3], fresh.epoch(1)[3]
    assert one[1] == two[1] and not np.array_equal(one[0], two[0])
    assert one[0].shape == (16, 128, 128, 3)
    again = fresh.epoch(1)[3]
    assert np.array_equal(two[0], again[0])


def test_remembered_clips_train_the_same_network():
    kept = batches.remember(network(), Bars(16, 0), settings())
    a, b = network(), network()
    training.train(a, kept, Bars(8, 1), settings(epochs=1))
    training.train(b, Bars(16, 0), Bars(8, 1), settings(epochs=1))
    assert torch.equal(a.classifier.weight, b.classifier.weight)


def test_takes_any_dataset_of_clips():
    frames = torch.randint(0, 255, (8, 4, 32, 32, 3), dtype=torch.uint8)
    dataset = TensorDataset(frames, torch.tensor([0, 1] * 4))
    log = training.train(network(), dataset, dataset, settings(epochs=1))
    assert len(log) == 1


def test_parts_of_a_batch_add_up_to_it():
    """Two parts, or activations made anew: the same gradients as one pass over the batch."""
    torch.manual_seed(0)
    x, y = torch.rand(4, 3, 4, 32, 32), torch.tensor([0, 1, 1, 0])
    found = {}
    for name, changed in {
        "whole": {},
        "parts": dict(accumulate=2),
        "again": dict(recompute=True),
    }.items():
        chosen = settings(whole=True, frozen_norms=True, **changed)
        trained = network()
        called = training.prepare(trained, chosen)
        training.training_mode(trained, chosen)
        optimizer, scheduler = training.optimize(called, replace(chosen, optimizer="sgd"), 10)
        batch = [(x[p], y[p]) for p in batches.parts(4, chosen)]
        training.step(called, batch, optimizer, scheduler, chosen)
        found[name] = {k: p.grad for k, p in trained.named_parameters()}
    for name in "parts", "again":
        for key, grad in found["whole"].items():
            torch.testing.assert_close(found[name][key], grad, rtol=1e-3, atol=1e-6)


def kept(recompute: bool) -> int:
    """How many numbers autograd holds on to between the passes."""
    chosen = settings(whole=True, recompute=recompute)
    trained, sizes = network(), []
    training.prepare(trained, chosen)
    training.training_mode(trained, chosen)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, id):
        training.forward(trained, torch.rand(1, 3, 4, 32, 32), chosen)
    return sum(sizes)


def test_recomputing_keeps_less():
    assert kept(True) < 0.5 * kept(False)


def test_every_clip_once_in_an_epoch_and_in_another_order_in_the_next():
    chosen = settings(batch=8)
    one, two = batches.updates(20, chosen, 0), batches.updates(20, chosen, 1)
    assert [len(chunk) for chunk in one] == [8, 8, 4]
    assert sorted(sum(one, [])) == sorted(sum(two, [])) == list(range(20)) and one != two
    assert batches.updates(20, chosen, 0) == one
    filled = batches.updates(21, settings(batch=8, accumulate=4), 0)
    assert [len(chunk) for chunk in filled] == [8, 8, 8] and set(sum(filled, [])) == set(range(21))
    assert [list(p) for p in batches.parts(8, settings(accumulate=2))] == [
        [0, 2, 4, 6],
        [1, 3, 5, 7],
    ]


def test_warm_up_and_cosine():
    _, schedule = training.optimize(nn.Linear(1, 1), settings(lr=0.1, warmup=0.2), 100)
    rates = []
    for _ in range(99):
        rates.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.1, rel=1e-3) and rates.index(max(rates)) in (19, 20)
    assert rates[0] < 0.01 and rates[-1] < 1e-4 and rates[59] == pytest.approx(0.05, rel=0.05)
    with pytest.raises(ValueError, match="choose 'adamw' or 'sgd'"):
        training.optimize(nn.Linear(1, 1), settings(optimizer="adam"), 1)


def test_a_batch_that_cannot_be_shared_out():
    with pytest.raises(ValueError, match="batch=8: must be a multiple of 3, the number"):
        training.train(network(), Bars(8, 0), Bars(8, 1), settings(accumulate=3))


def test_frozen_norms_stay():
    trained = network()
    stats = {k: v.clone() for k, v in trained.state_dict().items() if "running" in k}
    training.train(
        trained, Bars(8, 0), Bars(8, 1), settings(epochs=1, whole=True, frozen_norms=True)
    )
    assert all(torch.equal(trained.state_dict()[k], v) for k, v in stats.items())


def test_the_command_trains_on_a_dataset(tmp_path, monkeypatch, capsys):
    items = {split: [] for split in ("train", "validation")}
    (tmp_path / "videos").mkdir()
    for i, (split, (frames, label)) in enumerate(
        [*(("train", clip) for clip in map(Bars(6, 0).__getitem__, range(6))),
         *(("validation", clip) for clip in map(Bars(2, 1).__getitem__, range(2)))]
    ):  # fmt: skip
        path = tmp_path / "videos" / f"{i}.webm"
        write_video(path, frames, 4)
        items[split].append(Item(str(i), path, CLASSES[label], "", [], label))
    write_annotations(tmp_path, items, CLASSES)
    monkeypatch.setitem(networks.PROFILES, "default", PROFILE)
    folder = tmp_path / "run"
    common = ["training", "--data", str(tmp_path), "--classes", "10", "--batch", "4"]
    monkeypatch.setattr("sys.argv", [*common, "--epochs", "1", "--workers", "0", "--folder",
                                     str(folder), "--start", "scratch", "--whole"])  # fmt: skip
    training.main()
    capsys.readouterr()
    record = json.loads((folder / "weights.json").read_text())
    assert record["clips_per_epoch"] == 6 and record["settings"]["whole"] is True
    lines = journal.read(folder)
    assert [line["epoch"] for line in lines] == [1] and record["epochs"] == lines
    again = networks.load(folder / "best.safetensors", output_stride=32)
    assert again.classes == CLASSES_10 and again.profile.init == "centre"
    monkeypatch.setattr(
        "sys.argv", [*common, "--folder", str(tmp_path / "other"), "--resplit", "x"]
    )
    with pytest.raises(SystemExit):
        training.main()
    monkeypatch.setattr("sys.argv", ["training", "--data", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as stop:
        training.main()
    assert stop.value.code == 2 and "nowhere: no such folder" in capsys.readouterr().err


def test_without_a_log_there_is_a_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="lib.training --folder"):
        journal.read(tmp_path)
