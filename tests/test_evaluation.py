"""Figures worked out by hand, and the recorded accuracy found again on fresh clips."""

import json

import numpy as np
import pytest
import torch

from lib.data.labels import CLASSES_10
from lib.data.something import Item, write_annotations
from lib.data.video import write_video
from lib.evaluation import accuracy as evaluation
from lib.evaluation.accuracy import Results, reorder
from lib.miniature import Fresh
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
    assert results.rank().tolist() == [0, 1, 0, 0]
    assert results.probabilities().sum(1) == pytest.approx(1)


def test_interval_is_wilsons(results):
    low, high = results.interval()  # 3 of 4
    assert (low, high) == pytest.approx((0.3006, 0.9544), abs=1e-3)


def test_cases_by_rule():
    logits = np.array([[5, 0, 0], [0, 9, 0], [3, 2, 0], [2, 1, 0]], np.float32)
    cases = Results({"forward": logits}, np.array([0, 1, 1, 2]), CLASSES).cases()
    assert {name: found.tolist() for name, found in cases.items()} == {
        "positive": [1, 0],  # the surest first
        "medium": [2],
        "negative": [3],
    }


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
    results = evaluation.evaluate(network, clips, batch=2, workers=0)
    with torch.inference_mode():
        wanted = network(network.preprocess(clips[3][0][::-1].copy()))
    assert results.logits["reversed"][3] == pytest.approx(wanted[0].numpy(), abs=1e-4)
    assert results.labels.tolist() == [0, 1, 2, 0, 1]


def test_the_recorded_accuracy_is_found_again():
    """On other clips than those recorded: the two intervals must meet."""
    network = networks.load()
    record = json.loads(networks.WEIGHTS.with_suffix(".json").read_text())["test"]
    found = evaluation.evaluate(network, Fresh("test", 120, seed=11), ("forward", "reversed"))
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


def test_the_command_measures_a_dataset(tmp_path, monkeypatch, capsys):
    (tmp_path / "videos").mkdir()
    items = []
    for i, name in enumerate(CLASSES_10[:2]):
        path = tmp_path / "videos" / f"{i}.webm"
        write_video(path, np.full((48, 36, 48, 3), 100 + i, np.uint8), 12)
        items.append(Item(str(i), path, name, "", [], i))
    write_annotations(tmp_path, {"train": items, "validation": [], "test": items}, CLASSES_10)
    network = networks.build(Profile("efficientnet_lite0", 32, 3, "centre", "late"), CLASSES_10)
    networks.save(network, tmp_path / "ten.safetensors")
    command = [
        "evaluation",
        "--data",
        str(tmp_path),
        "--weights",
        str(tmp_path / "ten.safetensors"),
    ]
    command += ["--workers", "0", "--windows", "3", "--record", str(tmp_path / "figures.json")]
    monkeypatch.setattr("sys.argv", [*command, "--classes", "10"])
    evaluation.main()
    figures = json.loads((tmp_path / "figures.json").read_text())["test"]
    assert figures["clips"] == 2 and figures["windows"] == 3 and 0 <= figures["top1"] <= 1
    monkeypatch.setattr("sys.argv", command)  # the forty
    with pytest.raises(SystemExit) as stop:
        evaluation.main()
    assert stop.value.code == 2
    assert "trained on 10 other classes than the 40 asked for" in capsys.readouterr().err
