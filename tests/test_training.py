"""The loop: it learns, it resumes to the same weights, and it leaves no broken file."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from lib import networks, training
from lib.training import Settings

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


def test_one_frame_cannot_learn_it():
    log = training.train(network(), Bars(64, 0), Bars(32, 1), settings(frames=1))
    assert log[-1]["val_top1"] < 0.8


class Stopped(Exception):
    pass


def test_stopped_and_started_again_it_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = network()
    log = training.train(whole, Bars(32, 0), Bars(8, 1), settings(), tmp_path / "whole")

    def stop_after_two(state, path, write=training.write):
        write(state, path)
        if len(state["log"]) == 2:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(training, "write", stop_after_two)
        with pytest.raises(Stopped):
            training.train(network(), Bars(32, 0), Bars(8, 1), settings(), tmp_path / "parts")
    resumed = network()
    again = training.train(resumed, Bars(32, 0), Bars(8, 1), settings(), tmp_path / "parts")

    assert [e["loss"] for e in again] == [e["loss"] for e in log]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert [p.name for p in (tmp_path / "parts").iterdir()] == ["last.pt"]


def test_refuses_a_checkpoint_of_other_settings(tmp_path):
    training.train(network(), Bars(8, 0), Bars(8, 1), settings(epochs=1), tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        training.train(network(), Bars(8, 0), Bars(8, 1), settings(epochs=2), tmp_path)


def test_reversal_turns_the_clip_and_its_label():
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).repeat(40, 1, 1, 1, 1)
    y, rng = torch.zeros(40, dtype=torch.long), torch.Generator().manual_seed(0)
    turned, labels = training.examples(x, y, settings(), training.opposite(CLASSES), rng)
    assert 5 < labels.sum() < 35
    for clip, label in zip(turned, labels):
        order = [0, 1, 2, 3, 4, 5] if label == 0 else [5, 4, 3, 2, 1, 0]
        assert clip.flatten().tolist() == order


def test_the_baseline_sees_single_frames():
    x = torch.arange(12.0).view(2, 1, 6, 1, 1)  # clip 0 holds 0..5, clip 1 holds 6..11
    y, rng = torch.tensor([0, 1]), torch.Generator().manual_seed(0)
    stills, labels = training.examples(x, y, settings(frames=1), training.opposite(CLASSES), rng)
    assert stills.shape == (2 * training.STILLS, 1, 1, 1, 1)
    assert torch.equal(stills.flatten() >= 6, labels == 1)


def test_classes_without_a_reversal_are_not_turned():
    names = [*CLASSES, "Dropping [something]"]
    assert training.opposite(names).tolist() == [1, 0, -1]
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).repeat(20, 1, 1, 1, 1)
    y, rng = torch.full((20,), 2), torch.Generator().manual_seed(0)
    kept, labels = training.examples(x, y, settings(), training.opposite(names), rng)
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
    fresh = training.Fresh("train", 40, seed=0)
    one, two = fresh.epoch(0)[3], fresh.epoch(1)[3]
    assert one[1] == two[1] and not np.array_equal(one[0], two[0])
    assert one[0].shape == (16, 128, 128, 3)
    again = fresh.epoch(1)[3]
    assert np.array_equal(two[0], again[0])


def test_remembered_clips_train_the_same_network():
    kept = training.remember(network(), Bars(16, 0), settings())
    a, b = network(), network()
    training.train(a, kept, Bars(8, 1), settings(epochs=1))
    training.train(b, Bars(16, 0), Bars(8, 1), settings(epochs=1))
    assert torch.equal(a.classifier.weight, b.classifier.weight)


def test_takes_any_dataset_of_clips():
    frames = torch.randint(0, 255, (8, 4, 32, 32, 3), dtype=torch.uint8)
    dataset = TensorDataset(frames, torch.tensor([0, 1] * 4))
    log = training.train(network(), dataset, dataset, settings(epochs=1))
    assert len(log) == 1
