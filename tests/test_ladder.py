"""The benchmark of training and explaining adds a machine to its file and loses none."""

import json

import ladder
import pytest
import torch


def test_climbs_and_records(tmp_path, monkeypatch, capsys):
    record = tmp_path / "ladder.json"
    record.write_text(json.dumps({"another machine": {"profiles": {}}}))
    arguments = "ladder --profiles default --frames 2 --size 64 --batch 2 --most 4 --rounds 1"
    monkeypatch.setattr("sys.argv", [*arguments.split(), "--record", str(record)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ladder.shutil, "which", lambda name: None)  # compiling takes a minute
    monkeypatch.setattr(ladder.prices, "peak", lambda dtype: 1e12)
    ladder.main()
    machines = json.loads(record.read_text())
    assert "another machine" in machines and len(machines) == 2
    (found,) = (m["profiles"]["default"] for m in machines.values() if m["profiles"])
    names = [row["rung"].split(":")[0] for row in found["training"]]
    assert names == ["plain float32", "channels last", "batch 4", "for a small GPU"]
    assert all(row["clips_per_second"] > 0 for row in found["training"])
    plain = found["training"][0]
    assert plain["share_of_peak"] == pytest.approx(plain["teraflops"], abs=2e-3)
    assert found["explaining"]["latency"] > 0 and found["explaining"]["clips_per_second"] > 0
    shares = [row["share"] for row in found["operations"]]
    assert shares == sorted(shares, reverse=True) and 0.3 < sum(shares) <= 1.01


def test_what_cannot_pay_has_no_rung():
    rungs = ladder.rungs(half=True, compiler=True, batch=8, most=32)
    assert list(rungs)[:5] == [
        "plain float32", "bfloat16", "channels last", "compiled", "batch 32",
    ]  # fmt: skip
    assert not rungs["plain float32"].bfloat16 and rungs["batch 32"].compile
    assert rungs["batch 32"].batch == 32
    small = list(rungs.values())[-1]
    assert small.recompute and small.batch // small.accumulate == 1
    assert ladder.PEAKS["H100"] == pytest.approx(9.89e14)
    here = list(ladder.rungs(half=False, compiler=False, batch=4, most=4))
    assert here == ["plain float32", "channels last", list(rungs)[-1]]
