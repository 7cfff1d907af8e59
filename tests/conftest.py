"""Fixtures for more than one test file."""

import shutil

import numpy as np
import pytest
import torch
from printable import BROWSERS
from small import Small

QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run")  # fmt: skip


def chromium() -> str | None:
    """Where Chromium is on this machine."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium driven by playwright, for all tests of a run; skips where none is."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield found
        found.close()


@pytest.fixture
def network():
    """A `Small` network whose norms have seen something."""
    torch.manual_seed(0)
    network = Small()
    for module in (network.bn1, network.bn2):
        module.running_mean.normal_(0, 0.1)
        module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.fixture
def frames():
    """Five frames of noise, (5, 16, 16, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
