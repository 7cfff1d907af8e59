"""Every design is trained and marked on the same clips; and a run that was stopped goes on."""

import json
import sys

import pytest

from book.experiments import designs

ARGS = ["--clips", "8", "--tests", "40", "--epochs", "1", "--size", "64"]
SOME = ["attention and changes", "without attention", "four frozen stages"]


def run(monkeypatch, record, *more):
    monkeypatch.setattr(sys, "argv", ["designs", *ARGS, "--record", str(record), *more])
    designs.main()
    return json.loads(record.read_text())


def test_designs_are_marked_on_the_same_clips(monkeypatch, tmp_path, capsys):
    file = tmp_path / "designs.json"
    runs = run(monkeypatch, file, "--designs", *SOME)["runs"]
    assert [row["design"]["name"] for row in runs] == SOME
    for row in runs:
        assert 0 <= row["top1"] <= 1 and row["pointing"]["clips"] == runs[0]["pointing"]["clips"]
        assert row["mass"]["low"] <= row["mass"]["mean"] <= row["mass"]["high"]
    assert runs[0]["mass"] != runs[1]["mass"] and runs[0]["gmac"] > runs[2]["gmac"]

    assert run(monkeypatch, file, "--designs", SOME[0])["runs"] == runs
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, file, "--designs", "another")
    assert stop.value.code == 2 and "--designs: choose from" in capsys.readouterr().err


def test_a_design_without_attention_has_even_weights():
    with_attention, without = (designs.build(d, 64) for d in designs.DESIGNS[:2])
    assert hasattr(with_attention.bn2, "score") and not hasattr(without.bn2, "score")
