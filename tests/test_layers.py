"""The table of layers: what can be explained, how far a cell sees, and what adds up."""

import re

import numpy as np
import pytest
import torch
from small import Small, ended
from torch import nn

from lib.data import Clip, write_video
from lib.explain import ExplainError
from lib.explain import __main__ as command
from lib.explain.layers import table
from lib.model import hub
from lib.model.networks import Preprocess


@pytest.fixture
def clip():
    frames = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), dtype=np.uint8)
    return Clip(frames, np.arange(8) / 4)


def split(text: str) -> tuple[dict[str, list[str]], str]:
    """The rows by their first column, without the time, and what stands below them."""
    (head, *rows), below = text.split("\n\n")[0].splitlines(), text.split("\n\n", 1)[1]
    assert re.split("  +", head) == "layer,cells,a cell sees,half of it,adds up,seconds".split(",")
    cells = [re.split("  +", row) for row in rows]
    return {row[0]: [x for x in row[1:] if not re.fullmatch(r"\d+\.\d", x)] for row in cells}, below


def test_a_small_network(network, clip):
    rows, below = split(table(network, clip))
    kept = {name: [row[0], row[1], *row[3:]] for name, row in rows.items()}
    assert kept == {  # two convolutions of 3x3x3, each with a stride of 2 in space
        "relu1": ["8x24x24", "3x3x3", "no"],
        "relu2": ["8x12x12", "5x7x7", "yes", "default, with cam"],
    }
    assert "input of 8x48x48" in below
    assert "drop: gives (1, 8)" in below and "classifier: linear, with no cells" in below


class Attended(nn.Module):
    """Tokens in blocks, of which the head reads the first, a class token."""

    classes, default_method = ["a", "b"], "gradcam"
    preprocess = Preprocess(24, (0.5,) * 3, (0.5,) * 3)
    reshape = hub.Tokens((8, 3, 3), skip=1)

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv3d(3, 16, (1, 8, 8), (1, 8, 8))
        block = dict(nhead=2, dim_feedforward=16, batch_first=True)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(16, **block) for _ in range(3))
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (N, 72, 16)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, 0])


def test_tokens(clip):
    torch.manual_seed(0)
    network = Attended().eval()
    network.default_layer = "blocks.1"
    rows, below = split(table(network, clip))
    assert rows["blocks.0"] == ["8x3x3", "not measured", "no"]
    assert rows["blocks.1"][-1] == "default, with gradcam" and "blocks.2" not in rows
    assert "blocks.2: the map is zero everywhere: no logit depends on it" in below
    assert "head: linear" in below


def test_where_blocks_give_tuples_their_parts_are_listed(clip):
    class Tuples(Attended):
        default_layer = "blocks.1.norm1"

        def __init__(self):
            super().__init__()
            for block in self.blocks:
                block.register_forward_hook(lambda _m, _a, output: (output,))

        def forward(self, x):
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
            for block in self.blocks:
                (tokens,) = block(tokens)
            return self.head(tokens[:, 0])

    torch.manual_seed(0)
    rows, below = split(table(Tuples().eval(), clip))
    assert {"blocks.0.norm1", "blocks.1.norm1"} <= rows.keys()
    assert "blocks.0, blocks.1, blocks.2: gives tuple, which reshape refuses" in below


def test_torchvision(clip):
    torch.manual_seed(0)
    network = hub.load("r3d_18", pretrained=False)
    network.preprocess = Preprocess(48, (0.5,) * 3, (0.5,) * 3)
    rows, below = split(table(network, clip))
    assert {name: row[0] for name, row in rows.items()} == {
        "layer1": "8x24x24",
        "layer2": "4x12x12",
        "layer3": "2x6x6",
        "layer4": "1x3x3",
    }
    assert [row[-1] for row in rows.values()] == ["no", "no", "no", "default, with cam"]
    assert rows["layer1"][1] == "8x23x23"  # 7 and four times 2 * 2 pixels; 11 frames, cut off
    assert "avgpool: gives (1, 512, 1, 1, 1)" in below and "fc: linear" in below


def test_a_network_of_which_nothing_can_be_explained(clip):
    class Flat(Small):
        def forward(self, x):
            return self.classifier(x.new_zeros(len(x), 8))

    with pytest.raises(ExplainError, match="no layer gives"):
        table(Flat(), clip)


def test_the_command(network, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load", lambda *_: network)
    write_video(tmp_path / "clip.mp4", np.zeros((8, 48, 48, 3), np.uint8), 4)
    assert command.main([str(tmp_path / "clip.mp4"), "--layers"]) == 0
    assert "relu2  16x64x64" in capsys.readouterr().out  # of 256x256 pixels
    for option in ["--class", "0"], ["--out", "page.html"], ["--motion"]:
        assert ended([str(tmp_path / "clip.mp4"), "--layers", *option]) == 2
        assert "without --out or a class" in capsys.readouterr().err
    assert ended([str(tmp_path / "gone.mp4"), "--layers"]) == 2
    assert "no such file" in capsys.readouterr().err
