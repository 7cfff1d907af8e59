"""Killed and started again, or shared by several processes: the same weights in the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent
SCRIPT = str(HERE / "small_run.py")
KILLS = int(os.environ.get("KILLS", 10))  # of one training; the nightly workflow asks for 100
ENV = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}", "CUDA_VISIBLE_DEVICES": ""}


def start(folder, processes=1, **changed):
    folder.mkdir(exist_ok=True)
    command = [sys.executable]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
        command += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    return subprocess.Popen([*command, SCRIPT, str(folder), json.dumps(changed)], env=ENV)


def finish(folder, processes=1, **changed):
    assert start(folder, processes, **changed).wait(1800) == 0
    return torch.load(folder / "weights.pt", weights_only=True), json.loads(
        (folder / "log.json").read_text()
    )


def lines(folder):
    log = folder / "log.jsonl"
    return log.read_text().splitlines() if log.is_file() else []


@pytest.mark.parametrize("name", ["explain", "training", "evaluation", "miniature", "data.check"])
def test_stopped_while_its_modules_are_loaded_a_command_says_a_line(name):
    command = [sys.executable, "-X", "importtime", "-m", f"lib.{name}", "clip.mp4"]
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also behind a nohup
    how = dict(stderr=subprocess.PIPE, text=True, preexec_fn=heeded, env=ENV)
    run = subprocess.Popen(command, **how)
    while " numpy" not in run.stderr.readline():  # of the modules as they are loaded
        assert run.poll() is None
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == -signal.SIGINT and said.endswith("\nstopped\n")
    assert "Traceback" not in said


def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path):
    settings, rng = dict(epochs=KILLS + 1, whole=True), np.random.default_rng(0)
    whole, log = finish(tmp_path / "whole", **settings)
    killed = tmp_path / "killed"
    for epoch in range(KILLS):  # of three updates each
        written, moment = 3 * epoch + rng.integers(1, 4), rng.uniform(0, 0.02)
        run = start(killed, **settings)
        while len(lines(killed)) < written:
            assert run.poll() is None
            time.sleep(0.005)
        time.sleep(moment)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    resumed, again = finish(killed, **settings)

    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    for line in log + again:
        line.pop("seconds")
    assert again == log
    wanted, found = (
        [json.loads(line) for line in lines(folder)] for folder in (tmp_path / "whole", killed)
    )
    losses = [(line["update"], line["loss"]) for line in wanted]
    assert len(losses) == 3 * KILLS + 3
    assert [(line["update"], line["loss"]) for line in found] == losses
    assert not list(killed.glob(".*-*"))


def test_two_processes_learn_what_one_does(tmp_path):
    # 22 clips in batches of 8: the last update has 6. Batch norm would count 4 clips here, 8 there.
    settings = dict(epochs=2, whole=True, frozen_norms=True)
    one, log = finish(tmp_path / "one", **settings)
    parts, log_of_parts = finish(tmp_path / "parts", accumulate=2, **settings)
    two, log_of_two = finish(tmp_path / "two", processes=2, **settings)
    for weights, other in (two, log_of_two), (parts, log_of_parts):
        for name, value in one.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=2e-5)
        for a, b in zip(log, other):
            assert a["val_top1"] == b["val_top1"] and abs(a["loss"] - b["loss"]) < 1e-3
    kept, shared = (
        torch.load(tmp_path / name / "kept.pt", weights_only=True) for name in ("one", "two")
    )
    assert len(kept[0]) == 22 and torch.equal(kept[1], shared[1])  # seen by one or by two
    torch.testing.assert_close(kept[0], shared[0], rtol=2e-2, atol=2e-2)
    moved = max((one[name] - value).abs().max() for name, value in start_weights().items())
    assert moved > 1e-3  # so that equal means learned equally


def start_weights():
    from test_training import network

    return {name: value for name, value in network().state_dict().items() if "num" not in name}
