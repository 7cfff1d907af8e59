"""The benchmark of prices: its memory meter, its ratios, and that it compares like with like."""

import sys

import prices
import pytest
import torch
from small import Small

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def at(clip=(1, 3, 4, 64, 64)):
    torch.manual_seed(0)
    network = Small(classes=[str(k) for k in range(prices.ALL)]).eval()
    return prices.Setting(network, torch.randn(clip), "relu2")


@linux
def test_memory_that_is_given_back_still_counts(at, monkeypatch):
    def greedy(at, cls):
        if at.inputs.shape[-1] == 64 and at.inputs.shape[2] == 8:  # not while warming up
            bytearray(b"x") * 200_000_000

    monkeypatch.setitem(prices.CANDIDATES, "greedy", greedy)
    monkeypatch.setitem(prices.CANDIDATES, "modest", lambda at, cls: None)
    at = at._replace(inputs=torch.randn(1, 3, 8, 64, 64))
    assert 190 < prices.peak_of("greedy", at) < 230
    assert prices.peak_of("modest", at) < 20


def test_every_candidate_runs_and_leaves_the_network_without_gradients(at):
    taken = prices.seconds(at, 2)
    assert all(len(times) == 2 and min(times) > 0 for times in taken.values())
    assert all(p.grad is None for p in at.network.parameters())
    assert not any(m._forward_hooks for m in at.network.modules())


def test_ratios_and_aims_by_hand():
    rows = {name: dict(seconds=1.0, megabytes=100.0) for name in prices.CANDIDATES}
    rows["pytorch-grad-cam"] = dict(seconds=2.9, megabytes=2000.0)
    rows[f"cam, all {prices.ALL} classes"] = dict(seconds=1.04, megabytes=150.0)
    plain = dict(chosen=False, seconds=1.5, speed_up=1.0)
    quick = dict(chosen=True, seconds=0.25, speed_up=6.0)
    found = prices.aims(rows, [plain, quick], most=7.0)
    found = {row["ratio"]: (round(row["value"], 3), row["met"]) for row in found}
    assert found["all classes / forward alone"] == (1.04, True)
    assert found["captum x 40 / all classes"] == (38.462, True)
    assert found["pytorch-grad-cam / gradcam"] == (2.9, False)
    assert found["torchcam, graph kept / all classes"][1] is None
    assert found["memory: cam / captum"] == (1.0, True)
    assert found["memory: cam, all 40 classes / captum"] == (1.5, False)
    assert found["memory: gradcam / pytorch-grad-cam"] == (0.05, True)
    assert found["fastest form: speed-up"] == (6.0, True)
    assert found["pytorch-grad-cam / fastest form"] == (11.6, False)
    assert found["the most this processor allows"] == (7.0, None)


def test_peak_counts_the_operations_of_the_convolution(monkeypatch):
    monkeypatch.setattr(prices.time, "perf_counter", iter(range(10)).__next__)  # a second each
    operations = 2 * 512 * 512 * 27 * 16 * 14 * 14
    assert prices.peak(torch.float32, times=2) == operations
