"""Figures worked out by hand, and the recorded accuracy found again on fresh clips."""

import json
import os
import sys
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from small import Small, same, state

from lib.data.labels import CLASSES_10
from lib.data.something import Item
from lib.data.write import write_video
from lib.evaluation import Results, add_to_record, evaluate, read_record
from lib.evaluation.__main__ import main
from lib.evaluation.accuracy import reorder
from lib.miniature import Fresh
from lib.miniature.dataset import write_annotations
from lib.model import networks
from lib.model.networks import Profile

CLASSES = ["Opening [something]", "Closing [something]", "Dropping [something]"]


@pytest.fixture
def results():
    def logits(*winners):
        return np.eye(3, dtype=np.float32)[list(winners)] * 5

    return Results(
        {"forward": logits(0, 0, 1, 2), "reversed": logits(1, 1, 1, 2)},
        np.array([0, 1, 1, 2]),
        CLASSES,
    )


def test_figures_by_hand(results):
    assert results.accuracy() == 0.75
    assert results.accuracy(k=2) == 0.75
    assert results.confusion().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    # right and reversible: clips 0 and 2; backwards they are called closing and closing
    assert results.called_opposite() == 0.5
    assert results.rank().tolist() == [0, 2, 0, 0]  # clip 1: class 2 is as high as the true one
    assert results.probabilities().sum(1) == pytest.approx(1)


def test_interval_is_wilsons(results):
    low, high = results.interval()  # 3 of 4
    assert (low, high) == pytest.approx((0.3006, 0.9544), abs=1e-3)


def test_cases_by_rule():
    logits = np.array([[5, 0, 0], [0, 9, 0], [3, 2, 0], [2, 1, 0]], np.float32)
    cases = Results({"forward": logits}, np.array([0, 1, 1, 2]), CLASSES).cases()
    assert {name: found.tolist() for name, found in cases.items()} == {
        "positive": [1, 0],  # the most confident first
        "medium": [2],
        "negative": [3],
    }


@pytest.mark.parametrize("classes", [1, 2, 3, 40])
def test_any_number_of_classes_is_scored(classes):
    labels = np.arange(8) % classes
    right = Results({"forward": np.eye(classes, dtype=np.float32)[labels]}, labels, ["x"] * classes)
    assert right.accuracy() == 1 and right.accuracy(k=5) == 1
    assert right.confusion().sum() == 8 and (right.confusion().diagonal() > 0).sum() == len(
        set(labels)
    )
    wrong = Results(dict(forward=-right.logits["forward"]), labels, right.classes)
    assert wrong.accuracy() == (classes == 1)
    assert wrong.accuracy(k=2) == (classes <= 2)


def test_a_tie_is_no_hit():
    labels = np.array([0, 1, 2, 2])
    equal = np.zeros((4, 3), np.float32)
    results = Results({"forward": equal, "reversed": equal}, labels, CLASSES)
    assert results.accuracy() == 0 and results.accuracy(k=2) == 0 and results.accuracy(k=3) == 1
    assert results.interval()[0] == 0
    assert results.confusion().diagonal().sum() == 0 and results.confusion().sum() == 4
    assert set(results.recall().values()) == {0}
    assert sum(clips for *_, clips in results.mistakes()) == 4
    assert len(results.cases()["negative"]) == 4

    # Right when played forwards, and undecided between both classes of the pair backwards.
    forward = np.array([[5, 0, 0]], np.float32)
    tie = dict(forward=forward, reversed=np.array([[2, 2, 0]], np.float32))
    assert Results(tie, np.array([0]), CLASSES).called_opposite() == 0
    half = np.array([[3, 3, 0]], np.float32)  # second at best
    assert Results({"forward": half}, np.array([0]), CLASSES).rank().tolist() == [1]


def test_logits_that_are_not_finite_name_the_clip():
    logits = np.zeros((4, 3), np.float32)
    logits[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"logits of clip 2 \(reversed\) are not finite"):
        Results({"forward": np.zeros((4, 3)), "reversed": logits}, np.zeros(4, int), CLASSES)


def test_labels_are_classes():
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match="class indices from 0 to 2"):
            Results({"forward": np.zeros((1, 3))}, np.array([wrong]), CLASSES)


def test_some_classes_only(results):
    some = results.only(CLASSES[:2])
    assert some.labels.tolist() == [0, 1, 1] and some.classes == CLASSES
    assert some.accuracy() == pytest.approx(2 / 3) and some.accuracy("reversed") == 2 / 3


def test_recall_and_mistakes_by_hand(results):
    assert results.recall() == {CLASSES[0]: 1, CLASSES[1]: 0.5, CLASSES[2]: 1}
    assert results.mistakes() == [(CLASSES[1], CLASSES[0], 1)]


def test_orders_of_frames():
    x, rng = torch.arange(4.0).view(1, 1, 4, 1, 1), torch.Generator().manual_seed(0)
    assert reorder(x, "forward", rng).flatten().tolist() == [0, 1, 2, 3]
    assert reorder(x, "reversed", rng).flatten().tolist() == [3, 2, 1, 0]
    assert reorder(x, "still", rng).flatten().tolist() == [2, 2, 2, 2]
    shuffled = reorder(x.expand(8, 1, 4, 1, 1), "shuffled", rng).flatten(1)
    assert shuffled.sort(1).values.tolist() == [[0, 1, 2, 3]] * 8
    assert len({tuple(row) for row in shuffled.tolist()}) > 1


def test_evaluates_as_the_network_does():
    torch.manual_seed(0)
    profile = networks.Profile("efficientnet_lite0", 64, 3, "centre", "late")
    network = networks.build(profile, CLASSES)
    rng = np.random.default_rng(0)
    clips = [(rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8), i % 3) for i in range(5)]
    clips = [clips[i % 5] for i in range(10)]  # more than a batch
    results = evaluate(network, clips, workers=0)
    with torch.inference_mode():
        wanted = network(network.preprocess(clips[3][0][::-1].copy()))
    assert results.logits["reversed"][3] == pytest.approx(wanted[0].numpy(), abs=1e-4)
    assert results.labels.tolist() == [0, 1, 2, 0, 1] * 2
    assert results.logits["reversed"][8] == pytest.approx(wanted[0].numpy(), abs=1e-4)
    with torch.inference_mode():
        wanted = network(network.preprocess(clips[3][0][2:3]))
    alone = evaluate(network, clips, ["frame 2"], workers=0)
    assert alone.logits["frame 2"][3] == pytest.approx(wanted[0].numpy(), abs=1e-4)


class Clips(list):
    classes = Small().classes


def batched(frames):
    """As `Small.preprocess`, of a batch (N, T, H, W, 3)."""
    return torch.as_tensor(frames).float().movedim(-1, 1) / 127.5 - 1


@pytest.fixture
def small(network):
    network.preprocess = lambda frames, device: batched(frames)
    return network


def test_the_network_is_left_as_it_was(small, frames):
    small.train()
    small.bn1.eval()
    small.conv1.weight.requires_grad_(False)
    before = state(small)
    evaluate(small, Clips([(frames, 0), (frames, 1)]), workers=0)
    assert same(before, state(small))
    with pytest.raises(RuntimeError):
        evaluate(small, Clips([(frames[..., :2], 0)]), workers=0)
    assert same(before, state(small))


def test_a_network_that_is_not_finite_is_refused_at_its_first_clip(small, frames):
    asked = []

    class Seen(Clips):
        def __getitem__(self, i):
            asked.append(i)
            return super().__getitem__(i)

    small.preprocess = lambda x, _: (
        batched(x) / (x.float().mean((1, 2, 3, 4)) > 0).view(-1, 1, 1, 1, 1)
    )
    clips = Seen([(frames, 0), (frames * 0, 1)] + [(frames, 0)] * 30)
    with pytest.raises(ValueError, match=r"logits of clip 1 \(forward\) are not finite"):
        evaluate(small, clips, workers=0)
    assert len(asked) == 8


def test_clips_of_other_classes_are_refused(small, frames):
    clips = Clips([(frames, 0)])
    clips.classes = small.classes[::-1]
    with pytest.raises(ValueError, match="3 other classes than the 3 asked for, or in another"):
        evaluate(small, clips, workers=0)
    with pytest.raises(ValueError, match="no clips"):
        evaluate(small, Clips(), workers=0)


def test_the_recorded_accuracy_is_found_again():
    """On other clips than those recorded: the two intervals must meet."""
    network = networks.load()
    record = json.loads(networks.WEIGHTS.with_suffix(".json").read_text())["test"]
    found = evaluate(network, Fresh("test", 120, seed=11), ("forward", "reversed"))
    low, high = found.interval()
    assert low <= record["top1_high"] and record["top1_low"] <= high
    assert found.called_opposite() > 0.6


def test_windows_are_averaged_by_probability():
    logits = np.log(np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.1, 0.3, 0.6]]))
    results = Results({"forward": logits.astype(np.float32)}, np.array([1, 1, 2, 2]), CLASSES)
    mean = results.over(2)
    assert mean.labels.tolist() == [1, 2] and mean.classes == CLASSES
    wanted = [[0.5, 0.4, 0.1], [0.1, 0.2, 0.7]]
    np.testing.assert_allclose(mean.probabilities(), wanted, atol=1e-6)
    assert results.over(1) is results


@pytest.fixture
def ten(tmp_path):
    """A dataset of two clips, and weights for the ten classes."""
    (tmp_path / "videos").mkdir()
    items = {"train": [], "validation": [], "test": []}
    for split in "train", "test":
        for i, name in enumerate(CLASSES_10[:2]):
            path = tmp_path / "videos" / f"{split}{i}.webm"
            write_video(path, np.full((48, 36, 48, 3), 100 + i, np.uint8), 12)
            items[split].append(Item(path.stem, path, name, "", [], i))
    write_annotations(tmp_path, items, CLASSES_10)
    network = networks.build(Profile("efficientnet_lite0", 32, 3, "centre", "late"), CLASSES_10)
    networks.save(network, tmp_path / "ten.safetensors")
    return tmp_path


@pytest.fixture
def command(ten, monkeypatch, capsys):
    """Run the command with these arguments; what it prints, or the error it exits with."""

    def run(*arguments):
        weights = () if "--weights" in arguments else ("--weights", ten / "ten.safetensors")
        argv = ["evaluation", "--workers", "0", *weights, *arguments]
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in argv])
        try:
            main()
        except SystemExit as stop:
            assert stop.code == 2
            return capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def test_the_command_measures_a_dataset(ten, command):
    file = ten / "figures.json"
    file.write_text('{"epochs": 3}')
    data = ("--data", ten, "--classes", "10")
    printed = command(*data, "--windows", 3, "--record", file)
    record = json.loads(file.read_text())
    assert record == {"epochs": 3} | printed
    figures = record["test"]
    assert figures["clips"] == 2 and 0 <= figures["top1"] <= 1 and "top5" in figures
    # what they were measured on
    assert figures["data"] == str(ten) and figures["classes"] == "10" and figures["split"] == "test"
    assert figures["windows"] == 3 and figures["resplit"] is None
    assert figures["weights"] == "ten.safetensors"
    single = command(*data, "--split", "train", "--single")["single_frame"]
    assert single["split"] == "train" and 0 <= single["best_frame"] <= 1


def test_the_command_refuses_in_a_line_before_a_long_run(ten, command):
    data = ("--data", ten)
    assert "trained on 10 other classes than the 40 asked for" in command(*data)
    assert "trained on 10 other classes than the 40 asked for" in command("--clips", 1)
    assert "no effect without --data" in command("--windows", 3)
    assert "no effect with --data" in command(*data, "--seed=3")
    assert "--clips: 0: must be from 1 to" in command("--clips", 0)
    data = (*data, "--classes", "10")
    for name, content in ("foreign", b"no weights at all"), ("cut", None):
        file = ten / f"{name}.safetensors"
        file.write_bytes(content or (ten / "ten.safetensors").read_bytes()[:4000])
        error = command(*data, "--weights", file)
        assert str(file) in error and len(error.splitlines()) == 1
    assert "missing" in command(*data, "--weights", ten / "missing.safetensors")
    assert "--workers: -1: must be from 0 to" in command(*data, "--workers", -1)
    for text in ("no JSON", "[1, 2]", "[]", '"text"', "", "null"):
        (ten / "figures.json").write_text(text)
        error = command(*data, "--record", ten / "figures.json")
        assert "figures.json: not figures in JSON" in error and len(error.splitlines()) == 1
        assert (ten / "figures.json").read_text() == text
    assert "no such folder" in command(*data, "--record", ten / "nowhere" / "figures.json")
    os.mkfifo(ten / "pipe")
    assert "pipe: not figures in JSON (a folder, pipe or d" in command("--record", ten / "pipe")
    assert "--clips: 99999999999999999999: must be from" in command("--clips", "9" * 20)


def test_a_place_for_the_record_that_goes_is_said_in_a_line(ten, command, monkeypatch):
    gone = OSError("figures.json: cannot be written")
    monkeypatch.setattr("lib.evaluation.__main__.add_to_record", Mock(side_effect=gone))
    data = ("--data", ten, "--classes", "10", "--weights", ten / "ten.safetensors")
    assert command(*data).splitlines()[-1] == "figures.json: cannot be written"


def test_a_record_keeps_what_it_holds(tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert read_record(file) == {} == read_record(None)
    add_to_record(file, dict(test=1))
    add_to_record(file, dict(single_frame=2))
    assert read_record(file) == dict(test=1, single_frame=2)
    add_to_record(None, dict(test=3))
    assert json.loads(capsys.readouterr().out.split("\n}")[-2] + "}") == dict(test=3)
