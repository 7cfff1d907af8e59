"""Accuracy by what is new in a clip, added to a record."""

import json
import sys

import pytest

from book.experiments import novelty
from lib.data.labels import CLASSES_10
from lib.miniature import CLASSES
from lib.model import networks
from lib.model.networks import Profile


def test_novelty_is_added_to_a_record(monkeypatch, tmp_path, capsys):
    files = {}
    for classes in (CLASSES, CLASSES_10):
        network = networks.build(Profile("efficientnet_lite0", 32, 3, "centre", "late"), classes)
        files[len(classes)] = tmp_path / f"{len(classes)}.safetensors"
        networks.save(network, files[len(classes)])
    record = tmp_path / "record.json"
    record.write_text('{"test": {"clips": 600}}')

    def run(weights):
        options = ["--weights", str(weights), "--clips", "2", "--record", str(record)]
        monkeypatch.setattr(sys, "argv", ["novelty", *options])
        novelty.main()

    run(files[40])
    figures = json.loads(record.read_text())
    assert figures["test"] == {"clips": 600}
    found = figures["novelty"]
    command = found.pop("command")
    assert command.startswith("python -m book.experiments.novelty --weights")
    assert list(found) == ["nothing", "objects", "backgrounds", "both"]
    assert all(row["clips"] == 2 and row["seed"] == 7 for row in found.values())
    assert (found["objects"]["objects"], found["objects"]["backgrounds"]) == ("test", "train")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(files[10])
    assert stop.value.code == 2 and "other classes" in capsys.readouterr().err
