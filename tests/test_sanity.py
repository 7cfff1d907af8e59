"""What is known to follow a change or not, and weights that are random where they should be."""

import numpy as np
import pytest
import torch

from book.experiments import sanity
from book.experiments.maps import by_gradient
from book.experiments.sanity import (
    cascade,
    mirror_columns,
    rank_correlation,
    reverse_time,
    shift_columns,
    stages_with_weights,
)
from lib import miniature
from lib.model import networks


@pytest.fixture(scope="module")
def network():
    return networks.load()


def test_changes_by_hand():
    x = np.arange(2 * 1 * 32).reshape(2, 1, 32)
    assert mirror_columns(x)[0, 0, :2].tolist() == [31, 30]
    assert reverse_time(x)[0, 0, 0] == 32
    assert shift_columns(x)[0, 0, [0, 15, 16, 31]].tolist() == [0, 0, 0, 15]


def test_classes_in_a_mirror():
    left, right = (
        "Moving [something] from left to right",
        "Moving [something] from right to left",
    )
    _, becomes, _ = sanity.CHANGES["mirrored"]
    assert becomes(left) == right and becomes(right) == left
    assert becomes("Tearing [something]") == "Tearing [something]"
    _, becomes, _ = sanity.CHANGES["backwards"]
    assert becomes("Opening [something]") == "Closing [something]"
    assert becomes("Tearing [something]") is None


def test_what_follows_and_what_does_not(network):
    index = miniature.CLASSES.index("Moving [something] from left to right")
    ((rows),) = sanity.follow(network, [index], seed=11)
    rows = {row["map"]: row for row in rows}
    for change in sanity.CHANGES:
        assert rows["frame differences"][change] > 0.98
        assert abs(rows["random"][change]) < 0.1
    assert rows["centre blob"]["mirrored"] == pytest.approx(1)
    assert rows["centre blob"]["shifted"] < 0.95
    assert "constant" not in rows


def test_stages_come_last_first(network):
    names = stages_with_weights(network)
    assert names[:3] == ["classifier", "blocks.4", "blocks.3"] and names[-1] == "conv_stem"


def module_of(parameter):
    """blocks.0.0.conv_dw.module.weight -> blocks.0.0.conv_dw"""
    return parameter.rsplit(".", 1)[0].removesuffix(".module")


def test_cascade_makes_one_stage_after_another_random(network):
    before = {name: p.clone() for name, p in network.named_parameters()}
    copies = dict(cascade(network))
    assert list(copies) == stages_with_weights(network)

    def changed(other):
        return {
            module_of(name)
            for name, p in other.named_parameters()
            if not torch.equal(p, before[name])
        }

    assert changed(copies["classifier"]) == {"classifier"}
    assert "blocks.4.body.0" in changed(copies["blocks.4"]) > {"classifier"}
    heavy = {module_of(name) for name, p in before.items() if p.ndim > 1}
    assert changed(copies["conv_stem"]) == heavy
    assert not changed(network)
    weight, trained = (
        n.get_parameter("blocks.4.body.0.weight") for n in (copies["blocks.4"], network)
    )
    assert weight.std().item() == pytest.approx(trained.std().item(), rel=0.02)


def test_rank_correlation_by_hand():
    heat = np.zeros((1, 32, 32))
    heat[0, 8::16, 8::16] = [[1, 2], [3, 4]]
    other = heat.copy()
    other[0, 8::16, 8::16] = [[10, 20], [40, 30]]
    assert rank_correlation(heat, heat) == pytest.approx(1)
    assert rank_correlation(heat, other) == pytest.approx(0.8)  # 1 - 6 * (1 + 1) / (4 * 15)
    assert rank_correlation(heat, np.ones_like(heat)) == 0


def test_a_map_of_evidence_changes_with_the_head(network):
    drawn = miniature.draw("test", 2, 11, np.arange(16) / 4, network.preprocess.size)
    inputs = network.preprocess(drawn.frames)
    _, other = next(cascade(network))
    trained, random = (
        by_gradient(n, inputs, network.classes.index(drawn.label)) for n in (network, other)
    )
    assert rank_correlation(trained["cam"], random["cam"]) < 0.9
    assert np.allclose(trained["cam"], trained["gradcam"], atol=1e-6)
    assert np.allclose(trained["cam"], trained["hirescam"], atol=1e-6)


def test_random_labels_are_learned_from_where_a_run_stopped(network, monkeypatch, tmp_path):
    monkeypatch.setattr(sanity, "CLIPS", 8)
    monkeypatch.setattr(sanity, "EPOCHS", 1)
    other, record = sanity.on_random_labels(network, 0, tmp_path)
    again, same = sanity.on_random_labels(network, 0, tmp_path)
    assert record == same and record["epoch"] == 1
    assert torch.equal(other.classifier.weight, again.classifier.weight)
    ((rows),) = sanity.depend_on_labels(network, [2], 11, other)
    assert all(-1 <= row["alike"] <= 1 and 0 <= row["mass"] <= 1 for row in rows)
