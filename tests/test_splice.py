"""Several actions in one clip, with a network whose maps are known."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from lib.evaluation import splice
from lib.explain.explanation import ExplainError

COLOURS = ["red", "green", "blue"]


class Colours(nn.Module):
    """Its logits are the means of the three colours, so a map is the colour itself; with `mixed`,
    all of its maps are the same."""

    classes = COLOURS

    def __init__(self, mixed=False):
        super().__init__()
        self.conv = nn.Conv3d(3, 3, 1, bias=False)
        self.fc = nn.Linear(3, 3, bias=False)
        weight = torch.ones(3, 3) / 3 if mixed else torch.eye(3)
        self.conv.weight.data = torch.eye(3).view(3, 3, 1, 1, 1)
        self.fc.weight.data = 9 * weight

    @staticmethod
    def preprocess(frames):
        return torch.from_numpy(frames).float().div(255).permute(3, 0, 1, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3, 4)))


def clips(*classes):
    """Clips (4, 8, 8, 3) of one colour each, with its class index."""
    found = []
    for cls in classes:
        frames = np.zeros((4, 8, 8, 3), np.uint8)
        frames[..., cls] = 255
        found.append((frames, cls))
    return found


def group(network, *classes):
    return [(network.preprocess(frames)[None], cls) for frames, cls in clips(*classes)]


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_each_map_lies_on_its_part(method, fit):
    network = Colours()
    four = group(network, 0, 1, 2, 0)
    x = splice.together([inputs for inputs, _ in four], "space", fit)
    assert x.shape == ((1, 3, 4, 8, 8) if fit else (1, 3, 4, 16, 16))
    assert x[0, 1, 0, 0, -1] == 1 and x[0, 2, 0, -1, 0] == 1  # green: upper right, blue: lower left
    found = splice.shares(network, four, "space", method, "conv", fit)
    expected = [[0.5, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0.5, 0, 0, 0.5]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    two = group(network, 2, 0)
    assert len(splice.together([inputs for inputs, _ in two], "time", fit)[0, 0]) == (
        4 if fit else 8
    )
    found = splice.shares(network, two, "time", method, "conv", fit)
    np.testing.assert_allclose(found, [[1, 0], [0, 1]], atol=1e-6)


def test_a_map_that_knows_no_class_is_at_chance():
    """It is right for one of its parts; where its shares are equal, for none."""
    same = torch.tensor([[0.7, 0.3], [0.7, 0.3]])
    found = splice.figures([same, same])
    assert (found["right"], found["share"], found["chance"], found["groups"]) == (0.5, 0.5, 0.5, 2)
    even = splice.figures([torch.full((4, 4), 0.25)])
    assert (even["right"], even["share"], even["chance"]) == (0, 0.25, 0.25)
    assert (even["share_low"], even["share_high"]) == (0, 1)  # one group tells nothing
    # Wilson (1927) for 10 of 10, and for 5 of 10
    always = splice.figures([torch.eye(2)] * 10)
    assert (always["right_low"], always["right_high"]) == (0.722, 1)
    half = splice.figures([same] * 10)
    assert (half["right_low"], half["right_high"]) == (0.237, 0.763)
    network = Colours(mixed=True)
    found = splice.shares(network, group(network, 0, 1), "time", "cam", "conv")
    np.testing.assert_allclose(found, 0.5, atol=1e-6)


def test_groups_are_of_clips_that_are_named_rightly():
    network, data = Colours(), clips(0, 1, 2, 0, 1, 1)
    data[2] = (data[2][0], 0)  # a wrong label
    found = list(splice.well_known(network, data, 2))
    assert [sorted(cls for _, cls in each) for each in found] == [[0, 1], [0, 1]]
    assert all(inputs[0, cls].min() == 1 for each in found for inputs, cls in each)
    dull = [(frames // 18, cls) for frames, cls in data]  # right, and not sure
    assert list(splice.well_known(network, dull, 2)) == []


def test_what_cannot_be_scored_is_refused():
    network = Colours()
    with pytest.raises(ValueError, match="of 3 clips too few are named rightly"):
        splice.splice(network, clips(0, 0, 0), layer="conv")
    network.conv.stride = (1, 8, 8)
    network.conv.forward = lambda x: nn.Conv3d.forward(network.conv, x)[..., :1]
    with pytest.raises(ExplainError, match="cells are too few"):
        splice.shares(network, group(network, 0, 1, 2, 1), "space", "gradcam", "conv")


def test_the_command(tmp_path, monkeypatch, capsys):
    record = tmp_path / "record.json"
    command = ["splice", "--groups", "1", "--record", str(record)]
    monkeypatch.setattr(sys, "argv", command)
    splice.main()
    found = json.loads(record.read_text())["splice"]
    assert found["space"]["cam"]["groups"] == found["time"]["cam"]["groups"] == 1
    assert found["time"]["cam"]["share"] > 0.5 and found["space"]["cam"]["share"] > 0.25
    assert found["command"] == f"python -m lib.evaluation.splice --groups 1 --record {record}"
    monkeypatch.setattr(sys, "argv", ["splice", "--weights", str(tmp_path / "none.safetensors")])
    with pytest.raises(SystemExit) as ended:
        splice.main()
    assert ended.value.code == 2 and "none.safetensors" in capsys.readouterr().err
