"""The loop: it learns, it resumes to the same weights, and it leaves no broken file."""

import json
import pickle
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from lib import miniature
from lib.data.labels import CLASSES_10, CLASSES_40
from lib.data.something import Item, SomethingSomething
from lib.data.views import Views
from lib.data.write import write_video
from lib.miniature import clip
from lib.miniature.dataset import write_annotations
from lib.model import hardware, networks
from lib.model.inflate import inflate
from lib.training import InMemory, Settings, batches, journal
from lib.training import __main__ as command
from lib.training import loop as training
from lib.training.journal import CannotStart, Diverged
from lib.training.settings import RECIPES

CLASSES = ["Moving [something] from left to right", "Moving [something] from right to left"]
PROFILE = networks.Profile("efficientnet_lite0", 32, 3, "centre", "late")


class Bars(torch.utils.data.Dataset):
    """A bright bar that goes right (0) or left (1) over noise."""

    def __init__(self, clips: int, seed: int):
        self.clips, self.seed = clips, seed

    def __len__(self):
        return self.clips

    def __getitem__(self, i):
        rng = np.random.default_rng([self.seed, i])
        frames = rng.integers(0, 60, (6, 32, 32, 3), dtype=np.uint8)
        for t in range(6):
            x = 4 * t + 2
            frames[t, :, x : x + 6] = 255
        return (frames if i % 2 == 0 else frames[::-1].copy()), i % 2


def network():
    torch.manual_seed(0)
    return networks.build(PROFILE, CLASSES)


def settings(**changed):
    return Settings(**(dict(epochs=4, batch=8, workers=0, seed=1) | changed))


def test_learns_a_direction_that_no_frame_tells():
    log = training.train(network(), Bars(64, 0), Bars(32, 1), settings(epochs=6))
    assert log[-1]["val_top1"] > 0.9
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a compiler")
def test_compiled_it_takes_the_same_step():
    def step(**changed):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        net.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)])
        net, chosen = inflate(net), settings(bfloat16=False, optimizer="sgd", **changed)
        model = training.prepare(net, chosen)
        training.training_mode(net, chosen)
        batch = [(torch.rand(2, 3, 4, 8, 8), torch.tensor([0, 1]))]
        training.step(model, batch, *training.optimize(model, chosen, 2), chosen)
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    torch.testing.assert_close(step(compile=True), step(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_processor_trains_in_bfloat16_where_that_is_faster(monkeypatch, groups):
    monkeypatch.setattr(hardware, "fast_bfloat16", lambda device: True)
    net = nn.Sequential(nn.Conv3d(4, 4, 1, groups=groups), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    seen = []
    net[0].register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    x = torch.rand(1, 4, 2, 3, 3)
    assert training.forward(net, x, settings()).dtype == torch.float32
    training.forward(net, x, settings(bfloat16=False))
    assert seen == [torch.bfloat16 if groups == 1 else torch.float32, torch.float32]


def test_one_frame_cannot_learn_it():
    log = training.train(network(), Bars(64, 0), Bars(32, 1), settings(frames=1))
    assert log[-1]["val_top1"] < 0.8


class Numbered(Bars):
    """Other clips in each epoch, and all of them written down."""

    def __init__(self, clips, seed, seen):
        super().__init__(clips, seed)
        self.seen = seen

    def epoch(self, number):
        return Numbered(self.clips, 100 + number, self.seen)

    def __getitem__(self, i):
        self.seen.append((self.seed, i))
        return super().__getitem__(i)


class Stopped(Exception):
    pass


def stop_at(update):
    def stop(number, epoch):
        if number == update:
            raise Stopped

    return stop


@pytest.mark.parametrize("anew", [False, True])  # other clips in each epoch: they are not kept
@pytest.mark.parametrize("every, update", [(100, 9), (1, 6), (3, 8)])  # of 4 updates an epoch
def test_stopped_and_started_again_it_ends_with_the_same_weights(tmp_path, every, update, anew):
    def clips():
        return Numbered(32, 0, []) if anew else Bars(32, 0), Bars(8, 1), settings(epochs=3)

    whole, resumed, folder = network(), network(), tmp_path / "parts"
    log = training.train(whole, *clips(), tmp_path / "whole")
    with pytest.raises(Stopped):
        stop = dict(checkpoint_every=every, on_update=stop_at(update))
        training.train(network(), *clips(), folder, **stop)
    again = training.train(resumed, *clips(), folder, checkpoint_every=every)

    assert [e["loss"] for e in again] == [e["loss"] for e in log]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    left = {path.name for path in folder.iterdir()}
    assert left == {"last.pt", "best.safetensors", "log.jsonl", ".running.lock"}


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_written(tmp_path):
    broken = network()

    def spoil(number, epoch):
        if number == 5:
            broken.classifier.weight.data.fill_(float("nan"))

    with pytest.raises(Diverged, match="not finite at update 2 of epoch 2: .*smaller lr"):
        clips = Bars(32, 0), Bars(8, 1), settings()
        training.train(broken, *clips, tmp_path, checkpoint_every=1, on_update=spoil)
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    assert saved["position"][:2] == (1, 1)
    assert all(x.isfinite().all() for x in saved["trained"].values())
    assert "NaN" not in (tmp_path / "log.jsonl").read_text()


def test_a_statistic_that_is_not_finite_stops_the_run_as_well(tmp_path):
    broken = network()
    *_, norm = (m for m in broken.modules() if hasattr(m, "running_var"))

    def spoil(number, epoch):
        norm.running_var[0] = float("inf")

    with pytest.raises(Diverged, match="not finite at update 2 of epoch 1"):
        clips = Bars(16, 0), Bars(8, 1), settings()
        training.train(broken, *clips, tmp_path, on_update=spoil)
    assert {path.name for path in tmp_path.iterdir()} == {".running.lock"}


def test_a_second_run_in_the_folder_is_refused(tmp_path):
    def second(number, epoch):
        with pytest.raises(OSError, match="another run is in this folder; wait, or name another"):
            one_update(tmp_path)
        raise Stopped

    with pytest.raises(Stopped):
        chosen = settings(epochs=1)
        training.train(network(), Bars(8, 0), Bars(4, 1), chosen, tmp_path, on_update=second)
    one_update(tmp_path)  # it is free again


@pytest.mark.parametrize("full", [True, False])
def test_a_disk_that_is_full_is_one_error_and_the_last_checkpoint_stays(tmp_path, full):
    """The largest size of a file stands in for it."""
    resource = pytest.importorskip("resource")
    torch.manual_seed(0)
    state = dict(trained=nn.Linear(400, 400))  # 640 kB
    kept = journal.Journal(tmp_path, {}, state)
    kept.write(dict(update=1), 0, 1, [0.0] * 4)
    before, limits = (tmp_path / "last.pt").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000 if full else limits[0], limits[1]))
    try:
        if full:
            with pytest.raises(OSError, match=r"last.pt: cannot be written \(.*is there room"):
                kept.write(dict(update=2), 0, 2, [0.0] * 4)
            with pytest.raises(OSError, match=r"w.safetensors: cannot be written \(.*there room"):
                networks.save(network(), tmp_path / "w.safetensors")
        else:
            kept.write(dict(update=2), 0, 2, [0.0] * 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full == ((tmp_path / "last.pt").read_bytes() == before)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "log.jsonl"}


def test_only_its_own_unfinished_files_are_removed(tmp_path):
    kept = [".notes-20260101.txt", ".last-notes.pt", "last-0123abcd.pt"]
    for name in (*kept, ".last-0123abcd.pt", ".best-0123abcd.safetensors"):
        (tmp_path / name).write_text("")
    (tmp_path / ".cache-abcdefab.d").mkdir()
    journal.Journal(tmp_path, {}, {}).resume()
    assert {path.name for path in tmp_path.iterdir()} == {*kept, ".cache-abcdefab.d"}


def test_each_update_is_told_and_each_so_many_are_logged(tmp_path):
    seen = []
    training.train(network(), Bars(20, 0), Bars(4, 1), settings(epochs=2), tmp_path,
                   checkpoint_every=2, on_update=lambda *given: seen.append(given))  # fmt: skip
    assert seen == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    lines = journal.read(tmp_path)
    assert [(line["update"], line.get("epoch")) for line in lines] == [
        (2, None), (3, 1), (5, None), (6, 2)
    ]  # fmt: skip


def one_update(folder, clips=None, validation=None, start=0, options=None, **changed):
    """A training of one update."""
    torch.manual_seed(start)
    trained = networks.build(PROFILE, CLASSES)
    clips, validation = Bars(8, 0) if clips is None else clips, validation or Bars(4, 1)
    log = training.train(
        trained, clips, validation, settings(**dict(epochs=1) | changed), folder, options=options
    )
    return trained, log


class Shown(Bars):
    """With a text and a list."""

    def __init__(self, text, numbers):
        super().__init__(8, 0)
        self.text, self.numbers = text, numbers


def in_memory(labels, shape=(8, 112, 6, 2, 2)):
    return InMemory(torch.ones(shape, dtype=torch.float16), torch.tensor(labels))


@pytest.mark.parametrize("first, then, named", [
    ({}, dict(epochs=2), "epochs=1, this run asks for epochs=2;"),
    ({}, dict(whole=True), "whole=False"),
    ({}, dict(frames=1), "frames=16, this run asks for frames=1"),
    ({}, dict(clips=Bars(24, 0)), "training.clips=8, this run asks for training.clips=24"),
    ({}, dict(clips=Bars(8, 2)), "training.seed=0, this run asks for training.seed=2"),
    ({}, dict(validation=Bars(5, 1)), "validation.clips=4"),
    ({}, dict(start=1), "network.weights="),
    (dict(options=dict(start="mean")), dict(options=dict(start="scratch")), "start=mean"),
    (dict(clips=Shown("a", [1])), dict(clips=Shown("b", [1])), "training.text=a"),
    (dict(clips=Shown("a", [1])), dict(clips=Shown("a", [2])), "training.numbers=1"),
    (dict(clips=Shown("a", np.arange(2))), dict(clips=Shown("a", np.ones(2))), "training.numbers="),
    (dict(clips=in_memory([0, 1] * 4)), dict(clips=in_memory([1, 0] * 4)), "training.labels="),
    (dict(clips=in_memory([0, 1] * 4)), dict(clips=in_memory([0, 1] * 4, (8, 112, 5, 2, 2))),
     "training.shape=8 112 6 2 2, this run asks for training.shape=8 112 5 2 2"),
])  # fmt: skip
def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path, first, then, named):
    trained, log = one_update(tmp_path, **first)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(CannotStart, match="last.pt was trained with") as refused:
        one_update(tmp_path, **then)
    assert named in str(refused.value) and "name another folder" in str(refused.value)
    assert (tmp_path / "last.pt").read_bytes() == before
    again, same = one_update(tmp_path, **first)
    assert same == log and torch.equal(again.classifier.weight, trained.classifier.weight)


def test_other_classes_are_another_run(tmp_path):
    def once(classes):
        torch.manual_seed(0)
        trained = networks.build(PROFILE, classes)
        training.train(trained, Bars(8, 0), Bars(4, 1), settings(epochs=1), tmp_path)

    once(CLASSES)
    with pytest.raises(CannotStart, match="trained with network.classes="):
        once(CLASSES[::-1])


def test_a_dataset_is_known_by_its_videos_and_views(tmp_path):
    def facts(root, resplit=None, **changed):
        data = SomethingSomething(root, "train", CLASSES, size=32, resplit=resplit)
        return journal.facts("training", Views(data, **changed))

    root, other = miniature_like(tmp_path / "a", 6), miniature_like(tmp_path / "b", 7)
    assert facts(root) == facts(root)
    for found in (facts(other), facts(root, smallest=0.5), facts(root, mirror=False),
                  facts(root, seed=3), facts(root, resplit=0)):  # fmt: skip
        assert found != facts(root)


def test_what_makes_it_faster_may_change(tmp_path):
    trained, log = one_update(tmp_path)
    _, again = one_update(tmp_path, workers=1, recompute=True, channels_last=False)
    assert again == log


def test_a_finished_run_says_so(tmp_path, capsys):
    one_update(tmp_path)
    capsys.readouterr()
    one_update(tmp_path)
    assert "all 1 epochs are done, nothing is left to do" in capsys.readouterr().out


def test_a_checkpoint_that_is_none(tmp_path):
    one_update(tmp_path)
    path = tmp_path / "last.pt"
    whole = torch.load(path, weights_only=True)
    written = path.read_bytes()
    spoilt = [b"", b"PK no zip", written[:-2000], written[:100], pickle.dumps([1, 2])]
    for name in whole:
        torch.save({other: value for other, value in whole.items() if other != name}, path)
        spoilt.append(path.read_bytes())
    places = [1, 2], None, (1.5, 0, [0.0] * 4), (-1, 0, [0.0] * 4), ("a", 0, [0.0] * 4)
    places += (0, 0, [0.0] * 4), (2, 0, [0.0] * 4), (1, 0, ["a"] * 4)
    changes = [dict(position=place) for place in places]
    changes += [dict(lines=lines) for lines in (5, [], whole["lines"] * 2, [dict(epoch=1)])]
    changes += [dict(lines=whole["lines"] * 2, position=(2, 0, [0.0] * 4))]  # of one epoch
    learned = whole["trained"]
    for name in list(learned)[0], next(name for name in learned if "running_var" in name):
        changes += [dict(trained=learned | {name: learned[name] * float("nan")})]
    for changed in dict(trained={}), *changes:
        torch.save(whole | changed, path)
        spoilt.append(path.read_bytes())
    for content in spoilt:
        path.write_bytes(content)
        with pytest.raises(
            CannotStart, match=r"last.pt is cut off, changed, or no checkpoint \(.*\); name another"
        ):
            one_update(tmp_path)


@pytest.mark.parametrize("name, value", [
    ("frames", 8), ("frames", 0), ("epochs", 0), ("batch", 0), ("accumulate", 0), ("lr", 0.0),
    ("lr", -1.0), ("lr", float("nan")), ("warmup", 1.5), ("warmup", -0.1),
    ("label_smoothing", 2.0), ("weight_decay", -1.0), ("workers", -1), ("seed", -1),
    ("optimizer", "adam"), ("workers", 10**6), ("seed", 2**64), ("weight_decay", float("inf")),
    ("lr", 1e6), ("batch", 10**9), ("epochs", 10**9),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused_by_name(name, value, monkeypatch, capsys):
    with pytest.raises(ValueError, match=f"^{name}={value}: must be "):
        settings(**{name: value})
    flag = "--" + name.replace("_", "-")
    monkeypatch.setattr("sys.argv", ["training", f"{flag}={value}"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2 and f"error: {flag}={value}: must be " in capsys.readouterr().err


@pytest.mark.parametrize("options, named", [
    ("--data X --clips 8", "--clips has no effect with --data"),
    ("--classes 10", "--classes has no effect without --data"),
    ("--resplit 1", "--resplit has no effect without --data"),
    ("--frames 1 --reverse", "--reverse has no effect with --frames 1"),
    ("--clips 0", "--clips: 0: must be from 1 to"),
    ("--weights w.json", "NAME.safetensors is needed, not best; the record is NAME.json"),
    ("--weights last.pt", "NAME.safetensors is needed"),  # which the run writes itself
    ("--weights best.safetensors", "not best"),
])  # fmt: skip
def test_options_without_an_effect_are_refused_by_name(options, named, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["training", *options.split()])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2 and named in capsys.readouterr().err


def test_the_help_says_what_each_option_does_and_its_default():
    told = {a.dest: a.help for a in command.make_parser()._actions}
    rates = ", ".join(f"{name} {recipe.lr}" for name, recipe in RECIPES.items())
    assert told["lr"].endswith(f"as a cosine ({rates}).")
    for field in fields(Settings):
        assert len(told[field.name].split()) > 4 and told[field.name][0].isupper()


def test_reversal_turns_the_clip_and_its_label():
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).repeat(40, 1, 1, 1, 1)
    y, rng = torch.zeros(40, dtype=torch.long), torch.Generator().manual_seed(0)
    shown, labels = batches.examples(x, y, settings(), batches.opposite(CLASSES), rng)
    assert 5 < labels.sum() < 35
    for values, label in zip(shown, labels):
        order = [0, 1, 2, 3, 4, 5] if label == 0 else [5, 4, 3, 2, 1, 0]
        assert values.flatten().tolist() == order


def test_the_baseline_sees_single_frames():
    x = torch.arange(12.0).view(2, 1, 6, 1, 1)  # clip 0 holds 0..5, clip 1 holds 6..11
    y, rng = torch.tensor([0, 1]), torch.Generator().manual_seed(0)
    stills, labels = batches.examples(x, y, settings(frames=1), batches.opposite(CLASSES), rng)
    assert stills.shape == (2 * batches.STILLS, 1, 1, 1, 1)
    assert torch.equal(stills.flatten() >= 6, labels == 1)


def test_classes_without_a_reversal_are_not_turned():
    names = [*CLASSES, "Dropping [something]"]
    assert batches.opposite(names).tolist() == [1, 0, -1]
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).repeat(20, 1, 1, 1, 1)
    y, rng = torch.full((20,), 2), torch.Generator().manual_seed(0)
    kept, labels = batches.examples(x, y, settings(), batches.opposite(names), rng)
    assert torch.equal(kept, x) and torch.equal(labels, y)


def test_the_lower_stages_do_not_change():
    trained = network()
    lower, upper = networks.lower_and_upper(trained)
    before = [p.clone() for p in lower.parameters()]
    stats = {k: v.clone() for k, v in lower.state_dict().items()}
    head = trained.classifier.weight.clone()
    training.train(trained, Bars(16, 0), Bars(8, 1), settings(epochs=1))
    assert all(torch.equal(a, b) for a, b in zip(before, lower.parameters()))
    assert all(torch.equal(v, stats[k]) for k, v in lower.state_dict().items())
    assert not torch.equal(head, trained.classifier.weight)


def test_the_whole_network_can_be_trained():
    trained = network()
    stem = trained.conv_stem.module.weight.clone()
    training.train(trained, Bars(16, 0), Bars(8, 1), settings(epochs=1, whole=True))
    assert not torch.equal(stem, trained.conv_stem.module.weight)


def test_fresh_clips_are_never_the_same_twice():
    fresh = miniature.Fresh("train", 40, seed=0)
    one, two = fresh.epoch(0)[3], fresh.epoch(1)[3]
    assert one[1] == two[1] and not np.array_equal(one[0], two[0])
    assert one[0].shape == (16, 128, 128, 3)
    again = fresh.epoch(1)[3]
    assert np.array_equal(two[0], again[0])


def test_every_other_round_of_the_classes_is_drawn_as_the_dataset_is():
    large, dataset = (miniature.Fresh("train", 80, seed=0, size=size) for size in (192, 128))
    wide = Image.fromarray(dataset[43][0][5]).resize((192, 192), Image.BICUBIC)
    assert np.array_equal(large[43][0][5], np.asarray(wide))
    fine = miniature.draw("train", 3, 0, np.arange(16) / 4, 192).frames
    assert np.array_equal(large[3][0], fine)
    new = miniature.Fresh("test", 80, seed=0, size=192)[43][0]  # not those to be tested on
    assert np.array_equal(new, miniature.draw("test", 43, 0, np.arange(16) / 4, 192).frames)


def test_remembered_clips_train_the_same_network():
    kept = batches.remember(network(), Bars(16, 0), settings())
    assert len(kept) == 16 and kept.features.shape == (16, 112, 6, 2, 2)
    assert kept.features.dtype == torch.float16 and kept.labels.tolist() == [0, 1] * 8
    a, b = network(), network()
    training.train(a, kept, Bars(8, 1), settings(epochs=1))
    training.train(b, Bars(16, 0), Bars(8, 1), settings(epochs=1))
    assert torch.equal(a.classifier.weight, b.classifier.weight)


def test_both_kinds_of_clips_give_the_same_batches():
    kept = batches.remember(network(), Bars(6, 0), settings())
    again = network()
    frozen, _ = batches.halves(again, settings())
    plan = [[3, 1], [5]]
    assert len(kept) == 6
    found = (batches.stream(again, frozen, clips, plan, 0) for clips in (kept, Bars(6, 0)))
    for (x, y), (a, b) in zip(*found, strict=True):
        torch.testing.assert_close(x, a)
        assert torch.equal(y, b)


def test_validation_on_single_frames():
    kept = batches.remember(network(), Bars(16, 0), settings())
    frame = InMemory(kept.features[:, :, 3:4], kept.labels)
    log = training.train(network(), kept, frame, settings(epochs=1, frames=1))
    assert 0 <= log[0]["val_top1"] <= 1


def test_each_epoch_shows_its_own_clips_and_validation_always_the_same():
    seen, checked = [], []
    training.train(network(), Numbered(4, 0, seen), Numbered(3, 1, checked), settings(epochs=2))
    assert sorted(seen) == [(number, i) for number in (100, 101) for i in range(4)]
    assert checked == [(1, 0), (1, 1), (1, 2)]  # once, since the lower stages do not change
    checked.clear()
    chosen = settings(epochs=2, whole=True)
    training.train(network(), Numbered(4, 0, seen), Numbered(3, 1, checked), chosen)
    assert checked == [(1, 0), (1, 1), (1, 2)] * 2


def test_takes_any_dataset_of_clips():
    frames = torch.randint(0, 255, (8, 4, 32, 32, 3), dtype=torch.uint8)
    dataset = TensorDataset(frames, torch.tensor([0, 1] * 4))
    log = training.train(network(), dataset, dataset, settings(epochs=1))
    assert len(log) == 1


def test_parts_of_a_batch_add_up_to_it():
    """Two parts, or activations made anew: the same gradients as one pass over the batch."""
    torch.manual_seed(0)
    x, y = torch.rand(4, 3, 4, 32, 32), torch.tensor([0, 1, 1, 0])
    found = {}
    for name, changed in {
        "whole": {},
        "parts": dict(accumulate=2),
        "again": dict(recompute=True),
    }.items():
        chosen = settings(whole=True, frozen_norms=True, **changed)
        trained = network()
        model = training.prepare(trained, chosen)
        training.training_mode(trained, chosen)
        optimizer, scheduler = training.optimize(model, replace(chosen, optimizer="sgd"), 10)
        batch = [(x[p], y[p]) for p in batches.parts(4, chosen)]
        training.step(model, batch, optimizer, scheduler, chosen)
        found[name] = {k: p.grad for k, p in trained.named_parameters()}
    for name in "parts", "again":
        for key, grad in found["whole"].items():
            torch.testing.assert_close(found[name][key], grad, rtol=1e-3, atol=1e-6)


def kept(recompute: bool) -> int:
    """How many numbers autograd holds on to between the passes."""
    chosen = settings(whole=True, recompute=recompute)
    trained, sizes = network(), []
    training.prepare(trained, chosen)
    training.training_mode(trained, chosen)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, id):
        training.forward(trained, torch.rand(1, 3, 4, 32, 32), chosen)
    return sum(sizes)


def test_recomputing_keeps_less():
    assert kept(True) < 0.5 * kept(False)


def test_every_clip_once_in_an_epoch_and_in_another_order_in_the_next():
    chosen = settings(batch=8)
    one, two = batches.updates(20, chosen, 0), batches.updates(20, chosen, 1)
    assert [len(chunk) for chunk in one] == [8, 8, 4]
    assert sorted(sum(one, [])) == sorted(sum(two, [])) == list(range(20)) and one != two
    assert batches.updates(20, chosen, 0) == one
    filled = batches.updates(21, settings(batch=8, accumulate=4), 0)
    assert [len(chunk) for chunk in filled] == [8, 8, 8] and set(sum(filled, [])) == set(range(21))
    assert [list(p) for p in batches.parts(8, settings(accumulate=2))] == [
        [0, 2, 4, 6],
        [1, 3, 5, 7],
    ]


def test_warm_up_and_cosine():
    found = rates(0.2, 100)[:99]
    assert max(found) == pytest.approx(0.1, rel=1e-3) and found.index(max(found)) in (19, 20)
    assert found[0] < 0.01 and found[-1] < 1e-4 and found[59] == pytest.approx(0.05, rel=0.05)


def rates(warmup, steps):
    _, schedule = training.optimize(nn.Linear(1, 1), settings(lr=0.1, warmup=warmup), steps)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("warmup, steps", [(0.2, 5), (0.1, 10), (0.5, 2)])
def test_a_warm_up_of_one_update(warmup, steps):
    """There PyTorch's schedule divides by zero; it should do as for one that is a little longer."""
    assert rates(warmup, steps) == pytest.approx(rates(warmup + 1e-4, steps), abs=1e-4)


@pytest.mark.parametrize("warmup, steps", [(1.0, 1), (0, 3), (1, 3)])
def test_no_warm_up_and_nothing_else(warmup, steps):
    assert all(0 <= rate <= 0.1 for rate in rates(warmup, steps))


def test_a_batch_that_cannot_be_divided():
    with pytest.raises(CannotStart, match="batch=8: must be a multiple of 3, the number"):
        training.train(network(), Bars(8, 0), Bars(8, 1), settings(accumulate=3))


def test_no_clips():
    with pytest.raises(CannotStart, match="8 clips for training, 0 for validation"):
        training.train(network(), Bars(8, 0), Bars(0, 1), settings())


def test_frozen_norms_stay():
    trained = network()
    stats = {k: v.clone() for k, v in trained.state_dict().items() if "running" in k}
    training.train(
        trained, Bars(8, 0), Bars(8, 1), settings(epochs=1, whole=True, frozen_norms=True)
    )
    assert all(torch.equal(trained.state_dict()[k], v) for k, v in stats.items())


def miniature_like(root, clips):
    """A dataset of `clips` bars for training and two for validation."""
    items = {split: [] for split in ("train", "validation")}
    (root / "videos").mkdir(parents=True)
    for split, bars in (("train", Bars(clips, 0)), ("validation", Bars(2, 1))):
        for i in range(len(bars)):
            frames, label = bars[i]
            path = root / "videos" / f"{split}{i}.webm"
            write_video(path, frames, 4)
            items[split].append(Item(path.stem, path, CLASSES[label], "", [], label))
    write_annotations(root, items, CLASSES)
    return root


@pytest.fixture
def small(monkeypatch):
    """The command, with a small network, few drawn clips for validation and no worker."""

    class Fresh(clip.Fresh):
        def __init__(self, split, clips, *given):
            super().__init__(split, 6 if split == "validation" else clips, *given)

    monkeypatch.setattr(clip, "Fresh", Fresh)
    monkeypatch.setitem(networks.PROFILES, "default", PROFILE)

    def start(*options):
        monkeypatch.setattr("sys.argv", ["training", *map(str, options)])
        command.main()

    return start


def test_the_command_trains_on_a_dataset(tmp_path, small, capsys):
    data, folder = miniature_like(tmp_path / "data", 6), tmp_path / "run"
    common = ["--data", data, "--classes", "10", "--batch", "4", "--epochs", "1", "--workers", "0"]
    common += ["--whole", "--folder", folder]
    small(*common, "--start", "scratch")
    capsys.readouterr()
    record = json.loads((folder / "weights.json").read_text())
    assert record["clips_per_epoch"] == 6 and record["settings"]["whole"] is True
    assert (
        record["versions"]["torch"] and record["processes"] == 1 and "cores" in record["hardware"]
    )
    lines = journal.read(folder)
    assert [line["epoch"] for line in lines] == [1] and record["epochs"] == lines
    again = networks.load(folder / "best.safetensors")
    assert again.classes == CLASSES_10 and again.profile.init == "centre"
    other = miniature_like(tmp_path / "other", 7)
    for options, named in {
        (): "start=scratch",  # without --start: centre
        ("--start", "mean"): "start=mean; network.profile=",
        ("--start", "scratch", "--resplit", 1): "resplit=None",
        ("--start", "scratch", "--seed", 1): "seed=0",
        ("--start", "scratch", "--data", other): "training.clips=6",
        ("--start", "scratch", "--classes", 40): "network.classes=",
    }.items():
        with pytest.raises(SystemExit) as stop:
            small(*common, *options)
        said = capsys.readouterr().err
        assert stop.value.code == 2 and named in said and said.count("\n") == 1, options


def test_a_rerun_with_other_clips_is_refused_and_one_with_the_same_tells_the_same(
    tmp_path, small, capsys
):
    """The record once said 24 clips of a network that had seen 8."""
    weights = tmp_path / "w.safetensors"
    common = ["--epochs", 1, "--workers", 0, "--folder", tmp_path / "run", "--weights", weights]
    small(*common, "--clips", 8)

    def written():
        state = networks.load(weights).state_dict().items()
        return weights.with_suffix(".json").read_text(), {k: v.tolist() for k, v in state}

    first = written()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        small(*common, "--clips", 24)
    asked = "training.clips=8, this run asks for training.clips=24; name another folder (--folder)"
    assert stop.value.code == 2 and asked in capsys.readouterr().err
    assert written() == first
    small(*common, "--clips", 8)
    assert "nothing is left to do" in capsys.readouterr().out
    assert written() == first
    record = json.loads(first[0])
    assert record["clips_per_epoch"] == record["clips_drawn"] == 8
    assert networks.load(weights).classes == CLASSES_40


def test_only_what_is_found_before_the_training_is_one_line(tmp_path, small, capsys, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        small("--data", tmp_path / "nowhere")
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "nowhere: no such folder" in said and said.count("\n") == 1
    (tmp_path / "last.pt").write_bytes(b"something else")
    common = ["--clips", 4, "--epochs", 1, "--workers", 0]
    with pytest.raises(SystemExit) as stop:
        small(*common, "--folder", tmp_path)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "last.pt is cut off, changed, or no checkpoint" in said
    assert said.count("\n") == 1

    (tmp_path / "file").touch()
    for option in "--folder", "--weights":
        with pytest.raises(SystemExit) as stop:
            small(*common, option, tmp_path / "file" / "w.safetensors")
        said = capsys.readouterr().err
        assert stop.value.code == 2 and str(tmp_path / "file") in said and said.count("\n") == 1

    for said, told in (
        ("CUDA out of memory. Tried", "lower --batch or use none: CUDA_VISIBLE_DEVICES= COMMAND\n"),
        ("CPU: can't allocate memory", "there is not enough memory: lower --batch or --workers\n"),
    ):

        def full(*given, said=said):
            raise RuntimeError(said)

        monkeypatch.setattr(training, "step", full)
        with pytest.raises(SystemExit) as stop:
            small(*common, "--folder", tmp_path / "run")
        assert stop.value.code == 2 and capsys.readouterr().err.endswith(told)

    def broken(*given):
        raise ValueError("in the middle of the day")

    monkeypatch.setattr(training, "step", broken)
    with pytest.raises(ValueError, match="in the middle of the day"):
        small(*common, "--folder", tmp_path / "run")


def test_without_a_log_there_is_a_remedy(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n{"epo')
    with pytest.raises(ValueError, match="log.jsonl: not the log of a training"):
        journal.read(tmp_path)
    (tmp_path / "log.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="lib.training --folder"):
        journal.read(tmp_path)
