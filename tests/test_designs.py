"""Every design is trained and marked on the same clips; and a run that was stopped goes on."""

import json
import sys

import pytest

from book.experiments import designs

ARGS = ["--clips", "8", "--tests", "40", "--epochs", "1", "--size", "64"]
SOME = ["as it ships", "places weighed alike", "wider"]


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
    assert runs[0]["mass"] != runs[1]["mass"] and runs[0]["gmac"] < runs[2]["gmac"]

    assert run(monkeypatch, file, "--designs", SOME[0])["runs"] == runs
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, file, "--designs", "another")
    assert stop.value.code == 2 and "--designs: choose from" in capsys.readouterr().err
