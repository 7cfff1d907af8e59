"""Forms of a network: the same numbers, the quickest faithful one, and none that says otherwise."""

import forms
import numpy as np
import pytest
import torch
from forms import Trial, fastest, in_form, trials
from small import same, state
from torch import nn

from lib.explain.clip import explain
from lib.model.framewise import Framewise


@pytest.fixture
def clip():
    torch.manual_seed(3)
    return torch.randn(2, 3, 4, 16, 16)


class Coarse(nn.Module):
    """Half precision would not see the difference between these two logits."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 2, 1)
        self.fc = nn.Linear(2, 3)
        nn.init.zeros_(self.conv.weight)
        nn.init.ones_(self.conv.bias)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, 0], [0, 1.001], [0, 0]]))
            self.fc.bias.zero_()

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3, 4)))


def test_every_form_is_compared_with_float32(network, clip):
    found = list(trials(network, clip))
    assert [str(trial) for trial in found] == [
        "float32, channels first",
        "float32, channels last",
        "bfloat16, channels first",
        "bfloat16, channels last",
    ]
    assert found[0].same_top2 and found[0].difference == 0
    assert found[1].same_top2 and found[1].difference < 1e-5
    assert 1e-4 < found[2].difference < 0.1 and found[2].difference > found[1].difference
    assert all(trial.seconds > 0 for trial in found)


def test_original_is_left_as_it_was(network, clip):
    network.train()
    before = state(network)
    quick = fastest(network, clip)
    assert same(before, state(network))
    assert all(p.is_contiguous() and p.dtype == torch.float32 for p in network.parameters())
    assert not quick.training and quick.classes == network.classes


@pytest.mark.parametrize(
    "module", [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.MaxPool2d(2)]
)
def test_frames_one_by_one_are_a_view_where_channels_are_last(module):
    """No copy on the way in, and the format is kept on the way out."""
    layer, seen = in_form(Framewise(module), torch.float32, True), []
    layer.module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].data_ptr()))
    x = torch.randn(2, 8, 4, 6, 6)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        y = layer(last)
        torch.testing.assert_close(y, Framewise(module).eval()(x))
    assert seen[0] == last.data_ptr()
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_the_quickest_faithful_form_is_taken(network, clip, monkeypatch):
    """Whatever the clock says of the others."""
    faithful, slow, elsewhere, other_top2 = (
        Trial(nn.Identity(), torch.float32, False, *results)
        for results in [(2.0, True, 0.01), (3.0, True, 0), (1.0, True, 0.03), (1.0, False, 0)]
    )
    monkeypatch.setattr(forms, "trials", lambda *_: iter([slow, elsewhere, faithful, other_top2]))
    assert fastest(network, clip) is faithful.network


def test_a_form_that_changes_the_top_two_is_refused(clip):
    network = Coarse()
    with torch.no_grad():
        assert network(clip).argmax(1).tolist() == [1, 1]
    in_half = [trial for trial in trials(network, clip) if trial.dtype == torch.bfloat16]
    assert len(in_half) == 2
    assert not any(trial.same_top2 or trial.faithful for trial in in_half)
    assert all(trial.difference < forms.TOLERANCE for trial in in_half)  # the maps alone would do
    assert next(fastest(network, clip).parameters()).dtype == torch.float32


def test_a_form_that_cannot_run_is_passed_over(network, clip):
    def refuse(_module, args):
        if args[0].dtype == torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")

    network.conv1.register_forward_pre_hook(refuse)
    assert [trial.dtype for trial in trials(network, clip)] == [torch.float32] * 2


@pytest.mark.parametrize("method", ["cam", "gradcam"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_form_can_be_explained(network, frames, dtype, method):
    plain = explain(network, frames, method=method)
    form = explain(in_form(network, dtype, True), frames, method=method)
    assert form.maps.dtype == np.float32 and form.layer == plain.layer
    within = 1e-5 if dtype == torch.float32 else 0.05
    assert np.abs(form.maps - plain.maps).max() < within * np.abs(plain.maps).max()
