"""Equal budget, every start, every seed; and a run that was stopped goes on."""

import json
import sys

import pytest

from book.experiments import starts

ARGS = ["--clips", "8", "--tests", "40", "--epochs", "1", "--size", "32", "--workers", "0"]


def run(monkeypatch, record, *more):
    monkeypatch.setattr(sys, "argv", ["starts", *ARGS, "--record", str(record), *more])
    starts.main()
    return json.loads(record.read_text())


def test_every_start_is_trained_on_the_same_clips(monkeypatch, tmp_path, capsys):
    file = tmp_path / "starts.json"
    record = run(monkeypatch, file, "--seeds", "1")
    runs = {row["start"]: row for row in record["runs"]}
    assert list(runs) == [start.name for start in starts.STARTS]
    assert all(0 <= row["top1"] <= 1 for row in runs.values())
    size = {name: row["trained_parameters"] for name, row in runs.items()}
    scratch, frames, mean, centre, some = size.values()
    assert mean == centre > some > frames  # more kernels grow, more weights
    assert scratch > some  # and from scratch the lower stages are trained, too

    record["runs"][0]["top1"] = 0.123
    file.write_text(json.dumps({**record, "runs": record["runs"][:-1]}))
    again = run(monkeypatch, file, "--seeds", "1")
    assert again["runs"][0]["top1"] == 0.123 and len(again["runs"]) == 5

    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, file, "--seeds", "1", "--epochs", "2")
    assert stop.value.code == 2 and "runs of another budget" in capsys.readouterr().err
    file.write_text(json.dumps({**record, "hardware": "another machine"}))
    with pytest.raises(SystemExit):
        run(monkeypatch, file, "--seeds", "2")
    assert "runs of another hardware" in capsys.readouterr().err
