"""The live explorer: traits that compute, errors that stay inside, and a page without a kernel."""

import re
import threading
import time
from types import SimpleNamespace
from zipfile import ZipFile

import ipywidgets as widgets
import nbformat
import numpy as np
import pytest
import torch
import traitlets
from nbclient import NotebookClient
from small import NAMES, Small

from lib import explorer as module
from lib import miniature
from lib.data import Clip, SomethingSomething, write_video
from lib.explain import ExplainError, Explanation, explain
from lib.explain.maps import layers_and_logits
from lib.explorer import explore, sources
from lib.miniature.dataset import write_frames
from lib.model import hub

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def clips():
    """Two clips of 8 frames of noise, (8, 16, 16, 3) uint8."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8) for _ in range(2)]


@pytest.fixture
def video(tmp_path, clips):
    path = tmp_path / "own.mp4"
    write_video(path, clips[0].repeat(2, 1).repeat(2, 2), 4)
    return path


@pytest.fixture
def explorer(network, clips):
    return explore(network, clips, frames=8)


@pytest.fixture
def computed(explorer, monkeypatch):
    """The methods of all explanations computed from here on."""
    methods, explain = [], module.explain

    def counting(*arguments, **options):
        methods.append(arguments[4])
        return explain(*arguments, **options)

    monkeypatch.setattr(module, "explain", counting)
    return methods


def inside(explorer, kind, description=None):
    """The one widget of a kind in an explorer."""
    found, waiting = [], [explorer]
    while waiting:
        widget = waiting.pop()
        waiting += getattr(widget, "children", ())
        if isinstance(widget, kind) and description in (None, getattr(widget, "description", None)):
            found.append(widget)
    (widget,) = found
    return widget


def shown(explorer) -> str:
    (output,) = inside(explorer, widgets.Output).outputs
    return output["data"]["text/html"]


def status(explorer) -> str:
    return inside(explorer, widgets.HTML).value


def upload(explorer, name: str, content: bytes):
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content),
            "last_modified": 0}  # fmt: skip
    field = inside(explorer, widgets.FileUpload)
    field.set_state({"value": [file]})
    return field


# --- traits ---------------------------------------------------------------------------------------


def test_it_explains_at_once(explorer, clips):
    assert isinstance(explorer.explanation, Explanation)
    assert np.array_equal(explorer.explanation.frames, clips[0])
    assert explorer.explanation.mapped == [0, 1, 2] and explorer.explanation.method == "cam"
    assert "<cam-viewer" in shown(explorer) and explorer.error == "" and not explorer.busy


def test_setting_a_trait_explains_anew(explorer, clips):
    seen = []
    explorer.observe(lambda change: seen.append(change.new), "explanation")
    explorer.method = "gradcam"
    explorer.layer = "conv1"
    explorer.classes = [NAMES[2], 0]
    explorer.clip = 1
    explorer.frames = 4
    assert len(seen) == 5 and seen[-1] is explorer.explanation
    assert [e.method for e in seen] == ["gradcam"] * 5
    assert [e.layer for e in seen] == ["relu2"] + ["conv1"] * 4
    assert explorer.classes == (NAMES[2], NAMES[0]) and seen[2].mapped == [2, 0]
    assert np.array_equal(seen[-1].frames, clips[1][2:6])
    assert shown(explorer) == module.html(explorer.explanation)


def test_held_traits_explain_once(explorer, computed):
    with explorer.hold_trait_notifications():
        explorer.method, explorer.clip, explorer.frames = "hirescam", 1, 5
    assert computed == ["hirescam"]
    explorer.method = "hirescam"  # is so already
    assert computed == ["hirescam"]


def test_choices_from_two_threads_take_turns(explorer, monkeypatch):
    """As JupyterLab brings them: the second waits, and both are explained as they were chosen."""
    explain, started, methods = module.explain, threading.Event(), []

    def slow(*arguments, **options):
        methods.append(("start", arguments[4]))
        started.set()
        time.sleep(0.2)
        result = explain(*arguments, **options)
        methods.append(("end", result.method))
        return result

    monkeypatch.setattr(module, "explain", slow)
    other = threading.Thread(target=lambda: setattr(explorer, "method", "hirescam"))
    other.start()
    assert started.wait(10)
    explorer.method = "layercam"
    other.join()
    assert methods == [(when, m) for m in ("hirescam", "layercam") for when in ("start", "end")]
    assert explorer.explanation.method == explorer.method == "layercam"


def test_traits_can_be_linked(explorer):
    toggles = widgets.ToggleButtons(options=module.METHODS)
    slider = widgets.IntSlider(min=1, max=8)
    widgets.link((explorer, "method"), (toggles, "value"))
    widgets.link((explorer, "frames"), (slider, "value"))
    text = traitlets.HasTraits()
    text.add_traits(value=traitlets.Unicode())
    widgets.dlink((explorer, "explanation"), (text, "value"), lambda e: e.method)
    toggles.value, slider.value = "layercam", 3
    assert explorer.explanation.method == text.value == "layercam"
    assert len(explorer.explanation.frames) == 3
    explorer.method = "cam"
    assert toggles.value == text.value == "cam"


def test_what_is_not_offered_is_refused(explorer):
    before = explorer.explanation
    for name, value, said in (
        ("method", "magic", "magic"),
        ("layer", "relu3", "relu2"),
        ("layer", "classifier", "classifier"),
        ("classes", ["Opening"], "Opening .something"),
        ("clip", 7, "there are 2"),
        ("frames", 0, "0"),
    ):
        with pytest.raises(traitlets.TraitError, match=said):
            setattr(explorer, name, value)
    for name in "explanation", "error", "busy":
        with pytest.raises(traitlets.TraitError, match="read-only"):
            setattr(explorer, name, None)
    assert explorer.explanation is before


# --- menus ----------------------------------------------------------------------------------------


def test_menus_and_traits_move_together(explorer):
    for name, kind, value, in_menu in (
        ("clip", widgets.Dropdown, 1, 1),
        ("method", widgets.Dropdown, "gradcam", "gradcam"),
        ("layer", widgets.Dropdown, "bn2", "bn2"),
        ("layer", widgets.Dropdown, None, ""),
        ("classes", widgets.SelectMultiple, (NAMES[1],), (NAMES[1],)),
        ("frames", widgets.BoundedIntText, 4, 4),
    ):
        menu, first = inside(explorer, kind, name), getattr(explorer, name)
        first_in_menu = menu.value
        setattr(explorer, name, value)
        assert menu.value == in_menu, name
        menu.value = first_in_menu
        assert getattr(explorer, name) == first, name
        menu.value = in_menu
    assert explorer.explanation.mapped == [1] and explorer.explanation.method == "gradcam"


def test_the_layer_menu_holds_what_can_be_explained(network, clips):
    class Nested(Small):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Conv3d(8, 8, 1))

        def features(self, x):
            return self.last(super().features(x))

    for net, names in (
        (network, ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2"]),
        (Nested(), ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "last"]),
    ):
        sizes, logits = layers_and_logits(net, Small.preprocess(clips[0]))
        assert list(sizes) == names and logits.shape == (1, 3)
        assert sizes["conv1"] == (8, 8, 8) and sizes["relu2"] == (8, 4, 4)
        menu = inside(explore(net, clips, frames=8), widgets.Dropdown, "layer")
        assert [value for _, value in menu.options] == ["", *names]
        explorer = explore(net, clips, frames=8, method="gradcam")
        for name in names:
            explorer.layer = name
            assert explorer.error == "" and explorer.explanation.layer == name


def test_occlusion_has_no_layer(explorer):
    explorer.layer = "bn2"
    explorer.method = "occlusion"
    assert explorer.error == "" and explorer.explanation.layer == "input"
    assert inside(explorer, widgets.Dropdown, "layer").disabled
    explorer.method = "gradcam"
    assert explorer.explanation.layer == "bn2"


def test_progress_is_shown(explorer):
    bar, seen = inside(explorer, widgets.IntProgress), []
    bar.observe(lambda change: seen.append((bar.value, bar.max, bar.layout.visibility)), "value")
    explorer.method = "occlusion"
    steps = bar.max
    assert steps > 20 and seen[-steps:] == [(n + 1, steps, "visible") for n in range(steps)]
    assert bar.layout.visibility == "hidden" and status(explorer).endswith("></span>")
    explorer.method = "gradcam"
    assert bar.max == bar.value == 3  # one step a class


# --- errors ---------------------------------------------------------------------------------------


def test_errors_stay_inside(explorer):
    before, html = explorer.explanation, shown(explorer)
    said = []
    explorer.observe(lambda change: said.append(change.new), "error")
    explorer.layer = "conv1"  # cam cannot
    assert 'method="cam"' in explorer.error and "method=&quot;cam&quot;" in status(explorer)
    assert explorer.explanation is before and shown(explorer) == html
    explorer.method = "gradcam"
    assert explorer.error == said[-1] == "" and explorer.explanation.layer == "conv1"


def test_an_interrupt_stops_the_work(explorer, monkeypatch):
    before = explorer.explanation

    def interrupted(*_, progress, **__):
        for _ in progress(range(4)):
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "explain", interrupted)
    explorer.method = "occlusion"
    assert "Stopped" in explorer.error and not explorer.busy and explorer.explanation is before
    assert inside(explorer, widgets.IntProgress).layout.visibility == "hidden"


def test_a_missing_file_is_said(network, tmp_path, clips):
    explorer = explore(network, [tmp_path / "gone.mp4", clips[0]], frames=8)
    assert explorer.explanation is None and "gone.mp4: no such file" in explorer.error
    assert "gone.mp4" in explorer._repr_mimebundle_()["text/html"]
    explorer.clip = 1
    assert explorer.error == "" and explorer.explanation is not None


# --- clips ----------------------------------------------------------------------------------------


def test_sources(tmp_path, clips, video):
    write_frames(tmp_path / "jpegs", clips[1])
    with ZipFile(tmp_path / "zipped.zip", "w") as file:
        for path in (tmp_path / "jpegs").iterdir():
            file.write(path, path.name)
    given = [str(video), tmp_path / "jpegs", clips[0], Clip(clips[1], np.arange(8.0))]
    for _, read in sources([*given, tmp_path / "zipped.zip"], 16):
        clip = read(6)
        assert clip.frames.shape == (6, 16, 16, 3) and clip.label is clip.mask is None
    for path in video, tmp_path / "jpegs", tmp_path / "zipped.zip":
        assert [name for name, _ in sources(path, 16)] == [path.name]
    with pytest.raises(ExplainError, match="float is no clip"):
        list(sources([1.5], 16))


def test_the_truth_comes_along():
    drawn = miniature.draw("test", 1, size=64, times=np.arange(16) / 4)
    network = Small(classes=["another", drawn.label])
    explorer = explore(network, [drawn, drawn], frames=4)
    assert explorer.explanation.label == 1
    assert np.array_equal(explorer.explanation.mask, drawn.truth.mask[6:10])
    names = [name for name, _ in inside(explorer, widgets.Dropdown, "clip").options]
    assert names == [f"0: {drawn.label}", f"1: {drawn.label}"]
    assert explore(Small(classes="ab"), [drawn], frames=4).explanation.label is None


def test_videos_of_a_dataset_bring_their_label_and_a_drawn_one_its_mask(tmp_path):
    root = miniature.write(tmp_path / "mini", clips=10, size=64, workers=1)
    dataset = SomethingSomething(root, "train")
    item, name = dataset.items[3], dataset.classes[dataset.items[3].class_index]
    explorer = explore(Small(classes=["another", name]), dataset, clip=3, frames=4)
    menu = inside(explorer, widgets.Dropdown, "clip")
    assert menu.options[3] == (f"{item.caption} ({item.id})", 3) and len(menu.options) == 8
    assert explorer.error == "" and explorer.explanation.label == 1
    truth = miniature.read_truth(root, item.id).at(explorer.explanation.times)
    assert np.array_equal(explorer.explanation.mask, truth.mask)
    (root / "miniature.json").unlink()  # filmed, for all it knows
    explorer.frames = 5
    assert explorer.explanation.label == 1 and explorer.explanation.mask is None


# --- equal names ----------------------------------------------------------------------------------


def test_equal_names_of_classes_are_told_apart(clips):
    torch.manual_seed(0)
    explorer = explore(Small(classes=["a", "b", "a"]), clips, frames=8)
    menu = inside(explorer, widgets.SelectMultiple)
    assert menu.options == ("a (1)", "b", "a (2)")
    for chosen in ["a (2)"], [2]:
        explorer.classes = []
        explorer.classes = chosen
        assert explorer.explanation.mapped == [2] and menu.value == ("a (2)",)
    menu.value = ("a (1)", "a (2)")
    assert explorer.explanation.mapped == [0, 2]
    with pytest.raises(traitlets.TraitError, match="no 'a'"):
        explorer.classes = ["a"]


def test_equal_names_of_clips_are_told_apart(network, clips, tmp_path):
    for folder, frames in zip("xy", clips):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "own.mp4", frames.repeat(2, 1).repeat(2, 2), 4)
    explorer = explore(network, sorted(tmp_path.glob("*/own.mp4")), frames=8)
    menu = inside(explorer, widgets.Dropdown, "clip")
    assert menu.options == (("own.mp4 (1)", 0), ("own.mp4 (2)", 1))
    first = explorer.explanation.frames
    explorer.clip = "own.mp4 (2)"
    assert explorer.clip == menu.value == 1
    assert not np.array_equal(explorer.explanation.frames, first)
    upload(explorer, "own.mp4", (tmp_path / "x" / "own.mp4").read_bytes())
    assert menu.options[2] == ("own.mp4 (3)", 2) and menu.value == 2
    assert np.abs(explorer.explanation.frames.astype(int) - first).mean() < 1
    with pytest.raises(traitlets.TraitError, match="there are 3"):
        explorer.clip = "own.mp4"


def test_without_clips_some_are_drawn(network):
    explorer = explore(network, clip=2, frames=3, size=32)
    menu = inside(explorer, widgets.Dropdown, "clip")
    assert len(menu.options) == len(miniature.CLASSES)
    assert explorer.explanation.frames.shape == (3, 32, 32, 3)
    assert explorer.explanation.mask is not None
    explorer.clip = menu.options[5][0]
    assert explorer.clip == menu.value == 5


def test_upload(explorer, video, clips, monkeypatch, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(folder))
    field = upload(explorer, "../../mine.mp4", video.read_bytes())
    menu = inside(explorer, widgets.Dropdown, "clip")
    assert explorer.clip == menu.value == 2 and menu.options[2] == ("mine.mp4", 2)
    assert explorer.error == "" and len(explorer.explanation.frames) == 8
    assert field.value == () and list(folder.iterdir()) == []
    explorer.frames = 4  # it is read once more
    assert len(explorer.explanation.frames) == 4 and list(folder.iterdir()) == []
    explorer.clip = 0
    assert np.array_equal(explorer.explanation.frames, clips[0][2:6])


def test_a_bad_upload_changes_nothing(explorer, tmp_path):
    before = explorer.explanation
    upload(explorer, "bad.mp4", b"no video")
    assert explorer.error.startswith("bad.mp4: not a video") and str(tmp_path) not in explorer.error
    assert explorer.explanation is before and explorer.clip == 0
    assert len(inside(explorer, widgets.Dropdown, "clip").options) == 2
    upload(explorer, "empty.mp4", b"")
    assert explorer.error.startswith("empty.mp4: is empty")


# --- other people's networks ----------------------------------------------------------------------


class Tokens(torch.nn.Module):
    """Gives tokens, as a transformer does; takes eight frames, and many classes to choose from."""

    frames, fps, default_layer, default_method = 8, 2.0, "patches", "gradcam"
    classes = [f"class {k}" for k in range(60)]
    preprocess, reshape = staticmethod(Small.preprocess), hub.Tokens((8, 2, 2))

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Sequential(
            torch.nn.Conv3d(3, 8, (1, 8, 8), (1, 8, 8)), torch.nn.Flatten(2), Turned()
        )
        self.mixed = torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, 60)

    def forward(self, x):
        if x.shape[2] != 8:
            raise ValueError(f"{x.shape[2]} frames")
        return self.head(self.mixed(self.patches(x)).relu().mean(1))


class Turned(torch.nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)  # (N, t h w, C)


def test_a_network_brings_its_method_layer_reshape_frames_and_rate(clips, video):
    torch.manual_seed(0)
    network = Tokens().eval()
    explorer = explore(network, [clips[0], video, np.zeros((9, 20, 30, 3), np.uint8)], size=16)
    assert explorer.error == "" and (explorer.method, explorer.frames) == ("gradcam", 8)
    found = explorer.explanation
    assert found.layer == "patches" and found.maps.shape == (5, 8, 2, 2)
    assert found.mapped == np.argsort(-found.logits)[:5].tolist()
    expected = explain(network, clips[0], found.mapped)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5)
    assert np.diff(found.times).tolist() == [0.5] * 7
    explorer.clip = 1  # two seconds, of which each frame but the last four is seen twice
    assert np.diff(explorer.explanation.times)[0] == 0.5 and explorer.error == ""
    explorer.clip = 2
    assert explorer.error == "" and explorer.explanation.frames.shape == (8, 16, 16, 3)
    menu = inside(explorer, widgets.Dropdown, "layer")
    assert menu.options[0] == ("the default", "") and ("patches (2×2)", "patches") in menu.options
    explorer.classes = ["class 7"]
    assert explorer.explanation.mapped == [7]
    explorer.frames = 4
    refused = "the network refuses clips (1, 3, 4, 16, 16) torch.float32 (ValueError: 4 frames)"
    remedy = "another size, `frames` or dtype, or a form of lib.model.own.Own?"
    assert explorer.error == f"{refused}: {remedy}"


def test_a_dataset_keeps_its_rate_where_the_network_has_none(tmp_path):
    root = miniature.write(tmp_path / "mini", clips=4, size=64, workers=1)
    dataset = SomethingSomething(root, "train", fps=8.0)
    for fps, step in (None, 0.125), (2.0, 0.5):
        clip = next(sources(dataset, 64, fps))[1](4)
        np.testing.assert_allclose(np.diff(clip.times), step, atol=0.09)


# --- what a page shows ----------------------------------------------------------------------------


def test_mime_bundle(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle[VIEW]["model_id"] == explorer.model_id
    assert bundle["text/html"] == module.html(explorer.explanation)
    assert bundle["text/plain"] == repr(explorer)
    assert repr(explorer).startswith("Explorer(2 clips, Explanation(")
    explorer.method = "gradcam"
    assert bundle["text/html"] != explorer._repr_mimebundle_()["text/html"]


CELL = """
import sys; sys.path[:0] = ["tests"]
import numpy as np, torch
from small import Small
from lib.explorer import explore
torch.manual_seed(0)
explorer = explore(Small(), [np.zeros((4, 16, 16, 3), np.uint8)], frames=4)
explorer
"""


def test_a_cell_in_a_notebook(browser, tmp_path, pytestconfig):
    """An executed cell has the widget for a kernel and the viewer for a page, which runs there."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, resources={"metadata": {"path": pytestconfig.rootpath}}).execute()
    (output,) = notebook.cells[0].outputs
    data = output["data"]
    assert output["output_type"] == "execute_result" and VIEW in data
    assert re.fullmatch(r"Explorer\(1 clips, Explanation\(.*\)\)", data["text/plain"])
    file = tmp_path / "page.html"
    file.write_text("<!doctype html><meta charset=utf-8>" + data["text/html"], "utf-8")
    page = browser.new_page()
    said = SimpleNamespace(errors=[], requests=[])
    page.on("pageerror", lambda error: said.errors.append(str(error)))
    page.on("console", lambda line: said.errors.append(line.text))
    page.on("request", lambda request: said.requests.append(request.url))
    page.goto(file.as_uri())
    page.locator("cam-viewer[ready]").wait_for()
    page.close()
    assert said.errors == []
    assert all(url.startswith(("file:", "data:")) for url in said.requests)
