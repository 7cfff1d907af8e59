"""Every mistake is off by default, and does what its label says."""

import numpy as np
import pytest
import torch
from small import same, state

from book.experiments import museum
from book.experiments.museum import historic, jet
from lib.explain.clip import explain


@pytest.fixture
def plain(network, frames):
    return explain(network, frames, 0, method="gradcam")


def test_all_switches_off_is_explain(network, frames, plain):
    result = historic(network, frames, 0)
    assert np.array_equal(result.maps, plain.maps) and np.array_equal(result.bias, plain.bias)
    assert all(np.array_equal(a, b) for a, b in zip(result.cells, plain.cells))


@pytest.mark.parametrize("switch", museum.SWITCHES)
def test_every_switch_changes_the_picture_and_not_the_network(network, frames, plain, switch):
    before = state(network)
    result = historic(network, frames, 0, **{switch: True})
    moved = any(not np.allclose(a, b) for a, b in zip(result.cells, plain.cells))
    assert moved or not np.allclose(result.maps, plain.maps)
    assert same(before, state(network))


def test_ones_by_hand(network, frames, plain):
    maps = historic(network, frames, 0, ones=True).maps
    assert abs(plain.maps).max() < 1  # so nothing is cut
    assert np.allclose(maps, plain.maps - plain.maps.min(), atol=1e-6)


def test_frame_scaling_lights_every_frame_up(network, frames, plain):
    scaled = historic(network, frames, 0, frame_scaling=True).maps[0]
    positive = plain.maps[0].max((1, 2)) > 0
    assert positive.any() and np.allclose(scaled.max((1, 2))[positive], 1)


def test_softmax_map_is_the_chain_rule(network, frames):
    """dp_k/dA = p_k (dy_k/dA - sum_j p_j dy_j/dA), so the maps mix all classes."""
    every = explain(network, frames, method="gradcam")
    p = every.probabilities
    expected = p[0] * (every.maps[0] - np.tensordot(p, every.maps, 1))
    result = historic(network, frames, 0, softmax=True)
    assert np.allclose(result.maps[0], expected, atol=1e-6) and result.bias is None
    assert np.allclose(result.logits, every.logits)


def test_batch_statistics_are_those_of_training_mode(network, frames):
    result = historic(network, frames, 0, batch_statistics=True)
    network.train()
    network.drop.eval()
    with torch.no_grad():
        logits = network(network.preprocess(frames))[0].numpy()
    assert np.allclose(result.logits, logits, atol=1e-5)


def test_corners_are_on_the_edges(network, frames):
    y, x = historic(network, frames, 0, corners=True).cells
    assert y[0] == x[0] == 0 and y[-1] == x[-1] == 1


def test_jet_paints_where_nothing_is(network, frames, plain):
    nothing = historic(network, frames, 0)
    nothing.maps[:] = -1
    painted = jet(nothing, 0)
    blue = frames * 0.5 + np.array([0, 0, 127.5]) * 0.5
    assert abs(painted - blue).max() <= 1
