"""What a network needs of a clip, drawn again without it."""

import json
import sys

import pytest

from book.experiments import without
from lib.miniature.clip import PARTS


def test_agreement_by_hand():
    assert without.agreement([3, 1, 2], [0.9, 0.1, 0.5]) == pytest.approx(1)
    assert without.agreement([3, 1, 2], [0.1, 0.5, 0.2]) == pytest.approx(-1)
    assert without.agreement([3, 1, 2, 0], [0.3, 0.4, 0.1, 0.2]) == pytest.approx(0.0)
    assert without.agreement([3, 1], [0.5, 0.5]) == 0  # it ranks nothing


def test_the_command_records_and_goes_on(monkeypatch, tmp_path, capsys):
    record = tmp_path / "record.json"
    command = ["without", "--clips", "3", "--folder", str(tmp_path), "--record", str(record)]
    monkeypatch.setattr(sys, "argv", command)
    without.main()
    figures = json.loads(record.read_text())
    parts = figures["frame differences"]
    assert set(parts["the network"]) <= set(PARTS) and parts["the network"]["hand"]["clips"] <= 3
    for measure in ("sum", "mean"):
        ranked = {name: row[measure] for name, row in parts.items() if name != "the network"}
        assert {"cam", "frame differences", "oracle"} <= set(ranked)
        assert all(-1 <= each["mean"] <= 1 and each["clips"] <= 3 for each in ranked.values())
    assert parts["constant"]["mean"]["mean"] == 0  # it ranks no part before another
    cam, blob = (figures[name] for name in ("frame differences", "centre blob"))
    assert cam["cam"]["sum"]["mean"] == blob["cam"]["sum"]["mean"]
    assert "ahead" in blob["frame differences"]["sum"] and "ahead" not in blob["centre blob"]["sum"]
    assert len((tmp_path / "without.jsonl").read_text().splitlines()) == 4
    monkeypatch.setattr(without, "without", lambda *_: iter(()))  # all rows are there
    without.main()
    assert json.loads(record.read_text()) == figures
