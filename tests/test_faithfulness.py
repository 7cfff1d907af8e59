"""Marks worked out by hand, controls whose marks are known, and a run that goes on."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from book.experiments import faithfulness, sanity
from book.experiments.faithfulness import (
    blurred,
    controls,
    curves,
    descending,
    frozen,
    logged,
    marks,
    mean,
    pointing,
    relevance_mass,
    relevance_rank,
    table,
)
from lib import miniature

MASK = np.array([[[True, True], [False, False]]])  # one frame of 2x2


def test_pointing_by_hand():
    assert pointing(np.array([[[1.0, 3.0], [2.0, 0.0]]]), MASK) == 1
    assert pointing(np.array([[[1.0, 3.0], [4.0, 0.0]]]), MASK) == 0
    assert pointing(np.array([[[3.0, 3.0], [3.0, 0.0]]]), MASK) == pytest.approx(2 / 3)


def test_mass_and_rank_by_hand():
    heat = np.array([[[1.0, -5.0], [2.0, 1.0]]])
    assert relevance_mass(heat, MASK) == 0.25  # 1 of 1 + 2 + 1; what is negative has no mass
    # the two greatest: 2 outside, and one of two equal 1s, of which one lies inside
    assert relevance_rank(heat, MASK) == 0.25
    assert relevance_mass(-np.abs(heat), MASK) == 0.5  # nothing positive: spread evenly


@pytest.fixture(scope="module")
def drawn():
    index = miniature.CLASSES.index("Dropping [something]")
    clip = miniature.draw("test", 0, 3, np.arange(16) / 4, 64, class_index=index)
    assert not clip.camera_moves
    return clip


def test_controls_get_the_marks_they_should(drawn):
    maps = controls(drawn)
    found = {name: marks(heat, drawn) for name, heat in maps.items()}
    mask = drawn.truth.mask
    start, end = drawn.action
    acting = ((drawn.times >= start) & (drawn.times <= end)).mean()
    # one value everywhere is right as often as the truth is large
    for measure in ("pointing", "mass", "rank"):
        assert found["constant"][measure] == pytest.approx(mask.mean())
    assert found["constant"]["time"] == acting
    assert found["oracle"]["pointing"] == 1 and found["oracle"]["rank"] > 0.7
    exact = marks(mask.astype(float), drawn)
    assert exact["pointing"] == exact["mass"] == exact["rank"] == 1
    assert all(heat.shape == mask.shape for heat in maps.values())


def test_no_marks_where_everything_is_truth(drawn):
    index = miniature.CLASSES.index("Turning the camera left while filming [something]")
    clip = miniature.draw("test", 0, 3, np.arange(16) / 4, 64, class_index=index)
    found = marks(np.ones(clip.frames.shape[:3]), clip)
    assert not found.keys() & {"pointing", "mass", "rank"}


def test_descending_counts_from_the_greatest():
    heat = np.array([[[0.0, 9.0], [4.0, 1.0]]])
    assert descending(heat).tolist() == [[[0.75, 0.0], [0.25, 0.5]]]
    ties = descending(np.zeros((1, 4, 4)))
    assert sorted(ties.ravel()) == [i / 16 for i in range(16)]


def test_baselines(drawn):
    inputs = torch.randn(2, 3, 4, 24, 24)
    still = frozen(inputs)
    assert torch.equal(still[:, :, 0], inputs[:, :, 2]) and torch.equal(
        still[:, :, 3], still[:, :, 0]
    )
    flat = torch.full((1, 3, 4, 24, 24), 0.7)
    torch.testing.assert_close(blurred(flat), flat)
    assert blurred(inputs).std() < 0.5 * inputs.std()


class Corner(nn.Module):
    """Its first logit is how bright the left upper quarter of the clip is; its second is 0."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))  # says the precision

    def forward(self, x):
        n = x.shape[-1] // 2
        return torch.stack([40 * x[..., :n, :n].mean((1, 2, 3, 4)), torch.zeros(len(x))], 1)


def test_curves_tell_a_right_map_from_a_wrong_one():
    inputs = torch.zeros(1, 3, 4, 24, 24)
    inputs[:, :, 2, :12, :12] = 1  # bright in one frame, so a frozen clip would be brighter
    inputs[:, :, 0] = -inputs[:, :, 2]
    right = np.zeros((4, 24, 24))
    right[2, :12, :12] = 1
    wrong = np.zeros((4, 24, 24))
    wrong[1, 12:, 12:] = 1
    found = curves(Corner(), inputs, 0, dict(right=right, wrong=wrong))
    good, bad = found["right"], found["wrong"]
    assert good["insertion, blurred"] > bad["insertion, blurred"]
    assert good["deletion, blurred"] < bad["deletion, blurred"]


def test_curve_area_by_hand():
    class Share(Corner):  # probability of class 0 is the share of ones
        def forward(self, x):
            p = x.mean((1, 2, 3, 4)).clamp(1e-6, 1 - 1e-6)
            return torch.stack([p.log(), (1 - p).log()], 1)

    inputs = torch.ones(1, 3, 1, 24, 24)
    heat = np.arange(576.0).reshape(1, 24, 24)
    faithfulness.BASELINES["black"] = torch.zeros_like
    try:
        areas = curves(Share(), inputs, 0, {"ramp": heat}, shares=(0.25, 0.5))["ramp"]
    finally:
        del faithfulness.BASELINES["black"]
    assert areas["insertion, black"] == pytest.approx(0.5, abs=1e-4)  # a straight line
    assert areas["deletion, black"] == pytest.approx(0.5, abs=1e-4)


def test_table_by_hand():
    rows = [
        dict(clip=0, map="cam", mass=0.4),
        dict(clip=1, map="cam", mass=0.6),
        dict(clip=0, map="frame differences", mass=0.3),
        dict(clip=1, map="frame differences", mass=0.5),
        dict(clip=2, map="frame differences", mass=0.9),
    ]
    found = table(rows)
    assert found["cam"]["mass"]["mean"] == 0.5 and found["cam"]["mass"]["clips"] == 2
    assert found["cam"]["mass"]["ahead"] == [0.1, 0.1, 0.1]  # on the clips that both have
    assert "ahead" not in found["frame differences"]["mass"]


def test_mean_leaves_out_what_is_not_a_number():
    figures = mean([1.0, float("nan"), 0.0, 1.0, 0.0])
    assert figures["mean"] == 0.5 and figures["clips"] == 4
    assert 0 <= figures["low"] < 0.5 < figures["high"] <= 1


def test_a_stopped_part_goes_on(tmp_path):
    asked = []

    def part(indices):
        for i in indices:
            asked.append(i)
            if len(asked) == 3:
                raise KeyboardInterrupt
            yield [dict(clip=i, map="cam", mass=0.1 * i), dict(clip=i, map="random", mass=0.0)]

    file = tmp_path / "part.jsonl"
    with pytest.raises(KeyboardInterrupt):
        logged(file, dict(seed=1), 4, part)
    rows = logged(file, dict(seed=1), 4, part)
    assert asked == [0, 1, 2, 2, 3]
    assert [row["clip"] for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(logged(file, dict(seed=1), 2, part)) == 4  # fewer clips: their rows alone
    with pytest.raises(ValueError, match="part.jsonl was begun as"):
        logged(file, dict(seed=2), 4, part)


def test_the_command_records_all_parts(monkeypatch, tmp_path, capsys):
    def learned(network, seed, folder):
        return network, dict(val_top1=1.0)

    monkeypatch.setattr(sanity, "on_random_labels", learned)
    record, folder = tmp_path / "record.json", tmp_path / "logs"
    command = ["faithfulness", "--clips", "2", "--checked", "1", "--costly", "0"]
    command += ["--folder", str(folder), "--record", str(record)]
    monkeypatch.setattr(sys, "argv", command)
    faithfulness.main()
    figures = json.loads(record.read_text())
    assert json.loads(capsys.readouterr().out) == figures
    assert figures["marks"]["cam"]["time"]["clips"] == 2
    assert figures["follow"]["frame differences"]["mirrored"]["mean"] == pytest.approx(1, abs=0.01)
    assert figures["weights"]["frame differences"]["classifier"]["mean"] == 1
    assert figures["labels"]["cam"]["alike"]["mean"] == pytest.approx(1)  # the same network here
    assert figures["labels"]["learned"]["val_top1"] == 1

    monkeypatch.setattr(sys, "argv", [*command, "--seed", "5"])
    with pytest.raises(SystemExit):
        faithfulness.main()
    assert "was begun as" in capsys.readouterr().err
