"""Curves and tables worked out by hand, and a run that goes on."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from book.experiments import faithfulness, maps, sanity
from book.experiments.faithfulness import blurred, curves, descending, frozen, gini
from book.experiments.rows import Rows, alpha, by_chance, holm, mean, table
from lib import miniature
from lib.explain.clip import frames_alone
from lib.model import networks


def test_descending_counts_from_the_greatest():
    heat = np.array([[[0.0, 9.0], [4.0, 1.0]]])
    assert descending(heat).tolist() == [[[0.75, 0.0], [0.25, 0.5]]]
    ties = descending(np.zeros((1, 4, 4)))
    assert sorted(ties.ravel()) == [i / 16 for i in range(16)]


def test_baselines():
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


def test_curve_area_by_hand(monkeypatch):
    class Share(Corner):  # probability of class 0 is the share of ones
        def forward(self, x):
            p = x.mean((1, 2, 3, 4)).clamp(1e-6, 1 - 1e-6)
            return torch.stack([p.log(), (1 - p).log()], 1)

    inputs = torch.ones(1, 3, 1, 24, 24)
    heat = np.arange(576.0).reshape(1, 24, 24)
    monkeypatch.setattr(faithfulness, "BASELINES", {"black": torch.zeros_like})
    monkeypatch.setattr(faithfulness, "SHARES", (0.25, 0.5))
    areas = curves(Share(), inputs, 0, {"ramp": heat})["ramp"]
    assert areas["insertion, black"] == pytest.approx(0.5, abs=1e-4)  # a straight line
    assert areas["deletion, black"] == pytest.approx(0.5, abs=1e-4)


def test_faithfulness_correlation_knows_where_the_evidence_is():
    inputs = torch.rand(1, 3, 4, 24, 24)
    inputs[..., :12, :12] += 1
    right, wrong = np.zeros((2, 4, 24, 24))
    right[:, :12, :12] = wrong[:, 12:, 12:] = 1
    exact = (inputs - blurred(inputs))[0].sum(0).numpy() * right  # what the logit loses, but for 40
    maps = dict(right=right, wrong=wrong, even=np.zeros((4, 24, 24)), exact=exact)
    found = faithfulness.agreement(Corner(), inputs, 0, maps, seed=0)
    right, wrong = found["right"], found["wrong"]
    assert right["faithfulness"] > 0.5 > abs(wrong["faithfulness"]) + 0.1
    assert found["exact"]["faithfulness"] == pytest.approx(1)
    assert found["exact"]["infidelity"] < 1e-4 < wrong["infidelity"]
    assert found["even"] == {"infidelity": 1}


def test_slow_maps_find_the_corner():
    """What integrated gradients hold of a linear network sums to what the clip adds to grey."""
    torch.manual_seed(0)
    inputs = torch.rand(1, 3, 4, 24, 24)
    inputs[..., :12, :12] += 1
    network = Corner()
    heat = maps.by_integrated_gradients(network, inputs, 0)
    assert heat.shape == (4, 24, 24)
    assert heat.sum() == pytest.approx(float(network(inputs)[0, 0]), rel=1e-3)
    assert np.abs(heat[:, 12:]).max() == 0 < heat[:, :12, :12].min()
    rise = maps.by_rise(network, inputs / 40, 0, seed=0, count=1500)  # p is not 1 everywhere
    assert rise[:, :10, :10].mean() > 1.005 * rise[:, 14:, 14:].mean()


def test_how_far_clips_agree_by_hand():
    """Three maps, two clips that rank them alike, or the other way round."""
    rows = [
        dict(clip=clip, map=name, mass=value + clip)
        for clip in range(2)
        for name, value in dict(a=0.1, b=0.5, c=0.3).items()
    ]
    assert alpha(rows)["mass"] == pytest.approx(1)
    against = [row | dict(mass=-row["mass"]) if row["clip"] else row for row in rows]
    assert alpha(against)["mass"] < 0
    assert "mass" not in alpha(row for row in rows if row["clip"] == 0)


def test_sparseness_by_hand():
    assert gini(np.ones((1, 2, 5))) == 0
    alone = np.zeros((1, 2, 5))
    alone[0, 1, 2], alone[0, 0, 0] = 3, -9  # what speaks against the class does not count
    assert gini(alone) == pytest.approx(0.9)


def test_what_a_map_owes_to_looks_adds_up():
    torch.manual_seed(0)
    profile = replace(networks.PROFILES["default"], size=64)
    network = networks.build(profile, ["a", "b", "c"], imagenet=False).eval()
    inputs = torch.randn(1, 3, 4, 64, 64)
    found = frames_alone(network, inputs, [1])[0]
    assert found.shape == (4, 4, 4)
    with torch.inference_mode():
        stills = [network(inputs[:, :, [t] * 4])[0, 1] for t in range(4)]  # each held still
    assert found.sum().item() == pytest.approx(float(sum(stills) / 4), abs=1e-4)
    maps_by_name = maps.by_gradient(network, inputs, 1)
    assert set(maps_by_name) > {"cam", maps.LESS_LOOKS, maps.LESS_NEXT}


def test_a_busier_clip_has_the_same_action():
    drawn = miniature.draw("test", 5, 1, np.arange(4) / 4, 96)
    crowded = maps.busier(drawn, 0)
    changed = (crowded.frames != drawn.frames).any(3)
    assert not changed[drawn.truth.roles > 0].any()
    assert (changed.mean((1, 2)) > 0.01).all() and (changed[0] != changed[1]).any()
    assert crowded.truth is drawn.truth


def test_corrected_for_the_number_of_comparisons():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert by_chance([0.5] * 8) == pytest.approx(2 / 2**8)  # all eight one way, or the other
    assert by_chance([0.0, 0.0, 0.0]) == 1
    rows = [
        dict(clip=clip, map=name, mass=clip * (name == "cam"))
        for clip in range(1, 9)
        for name in ("cam", "blob", "frame differences")
    ]
    found = table(rows)
    assert found["cam"]["mass"]["p"] == pytest.approx(2 * 2 / 2**8, abs=1e-4)
    assert found["blob"]["mass"]["p"] == 1


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
        Rows(file, dict(seed=1)).measure(4, part)
    rows = Rows(file, dict(seed=1)).measure(4, part)
    assert asked == [0, 1, 2, 2, 3]
    assert [row["clip"] for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(Rows(file, dict(seed=1)).measure(2, part)) == 4  # fewer clips: their rows alone
    with pytest.raises(ValueError, match="part.jsonl was begun with"):
        Rows(file, dict(seed=2))

    whole = file.read_text()
    file.write_text(whole[:-30])  # killed while it wrote: the last clip is measured again
    assert Rows(file, dict(seed=1)).measure(4, part) == rows
    assert asked[5:] == [3] and file.read_text() == whole
    for text in ("no JSON\n", '{"seed": 1}\n{"clip": 0}\n'):
        file.write_text(text)
        with pytest.raises(ValueError, match="part.jsonl does not hold rows"):
            Rows(file, dict(seed=1))


def test_the_command_records_all_parts(monkeypatch, tmp_path, capsys):
    def learned(network, seed, folder):
        return network, dict(val_top1=1.0)

    monkeypatch.setattr(sanity, "on_random_labels", learned)
    record, folder = tmp_path / "record.json", tmp_path / "logs"
    command = ["faithfulness", "--clips", "2", "--checked", "1", "--costly", "0"]
    command += ["--busy", "1", "--folder", str(folder), "--record", str(record)]
    monkeypatch.setattr(sys, "argv", command)
    faithfulness.main()
    figures = json.loads(record.read_text())
    assert json.loads(capsys.readouterr().out) == figures
    assert figures["marks"]["cam"]["time"]["clips"] == 2
    assert figures["busy"]["the network"]["right"]["clips"] == 1
    assert figures["follow"]["frame differences"]["mirrored"]["mean"] == pytest.approx(1, abs=0.01)
    assert figures["weights"]["frame differences"]["classifier"]["mean"] == 1
    assert figures["labels"]["cam"]["alike"]["mean"] == pytest.approx(1)  # the same network here
    assert figures["labels"]["learned"]["val_top1"] == 1
    assert list(figures["weights"]["cam"])[:2] == ["classifier", "blocks.4"]  # the last first
    assert figures["command"].startswith("python -m book.experiments.faithfulness --clips 2")
    about = figures["measured_on"]
    assert (about["clips"], about["checked"], about["costly"], about["seed"]) == (2, 1, 0, 11)

    monkeypatch.setattr(sys, "argv", ["sanity", *command[3:5], *command[9:]])
    sanity.main()  # its rows are there
    again = json.loads(record.read_text())
    assert {part: again["sanity"][part] for part in sanity.PARTS} == {
        part: figures[part] for part in sanity.PARTS
    }
    assert again["marks"] == figures["marks"]

    monkeypatch.setattr(sys, "argv", [*command, "--seed", "5"])
    with pytest.raises(SystemExit):
        faithfulness.main()
    assert "was begun with" in capsys.readouterr().err


def test_the_command_refuses_before_it_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sanity, "on_random_labels", None)  # would fail
    (tmp_path / "foreign.safetensors").write_bytes(b"no weights")
    refused = {
        "foreign.safetensors": ["--weights", str(tmp_path / "foreign.safetensors")],
        "no such folder": ["--record", str(tmp_path / "nowhere" / "record.json")],
    }
    for reason, options in refused.items():
        monkeypatch.setattr(sys, "argv", ["faithfulness", "--folder", str(tmp_path), *options])
        with pytest.raises(SystemExit) as stop:
            faithfulness.main()
        error = capsys.readouterr().err
        assert stop.value.code == 2 and reason in error and len(error.splitlines()) == 1
