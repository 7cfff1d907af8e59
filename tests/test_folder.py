"""A folder of clips: told from one clip, all explained, sorted by doubt; killed, it goes on."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small import NAMES, Small, ended

from lib.data import VideoError, write_video
from lib.data.arguments import GOES_ON
from lib.explain import ExplainError, Explanation, explain
from lib.explain import __main__ as command
from lib.explain.__main__ import main
from lib.explain.folder import clips_in, explain_folder, is_clip
from lib.miniature.dataset import write_frames


def noise(seed: int):
    return np.random.default_rng(seed).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The command's network: small, random, the same at every call, and sure of little."""
    torch.manual_seed(0)
    network = Small().eval()
    network.classifier.weight.data.mul_(20)
    monkeypatch.setattr(command, "load", lambda *_: network)
    return network


@pytest.fixture
def folder(tmp_path):
    """Three clips (a file, a file in a folder, a folder of JPEGs), and what is none."""
    clips = tmp_path / "clips"
    (clips / "more").mkdir(parents=True)
    write_video(clips / "a [1] <b>.mp4", noise(0), 4)
    write_video(clips / "more" / "b.webm", noise(1) // 2, 4)
    write_frames(clips / "more" / "jpegs", noise(2) // 4)
    (clips / "notes.txt").write_text("no clip")
    (clips / "more" / ".hidden.mp4").write_bytes(b"")
    return clips


ALL = {"a [1] <b>.mp4", "more/b.webm", "more/jpegs"}


def rows(out: Path) -> list[dict]:
    with open(out / "clips.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_clips_is_told_from_a_clip(folder):
    assert not is_clip(folder) and not is_clip(folder / "more") and is_clip(folder / "more/jpegs")
    assert is_clip(Path("A.MP4")) and is_clip(Path("frames.zip")) and not is_clip(Path("a.txt"))
    write_frames(folder / "mixed", noise(0))
    write_video(folder / "mixed" / "c.mp4", noise(0), 4)
    assert not is_clip(folder / "mixed")  # of clips, with pictures beside them
    (folder / "again").symlink_to(folder)
    clips, others = clips_in(folder, folder / "mixed")
    assert {str(path.relative_to(folder)) for path in clips} == ALL
    assert [path.name for path in others] == ["again", ".hidden.mp4", "notes.txt"]


def test_a_circle_of_links_and_long_names_are_faults_of_one_clip(folder, tmp_path, capsys):
    out, clip = tmp_path / "out", (folder / "more" / "b.webm").read_bytes()
    (folder / "loop.webm").symlink_to("loop.webm")
    (folder / f"{'l' * 250}.webm").write_bytes(clip)
    fits = f"{'ä' * 123}.webm"
    (folder / fits).write_bytes(clip)
    assert main([str(folder), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "loop.webm: cannot be read" in said and "its name is too long for .npz" in said
    found = {row["clip"]: row["error"] for row in rows(out)}
    assert len(found) == 6 and found[fits] == "" == found["more/b.webm"]
    assert ended([str(folder / "loop.webm"), "--out", str(tmp_path / "x.html")]) == 2


def test_all_are_explained_the_most_doubtful_first(folder, tmp_path, small, capsys):
    out = tmp_path / "new" / "out"
    assert main([str(folder), "--out", str(out)]) == 0
    assert "no clips by their names: 1 .mp4, 1 .txt" in capsys.readouterr().out
    table = rows(out)
    assert {row["clip"] for row in table} == ALL
    gaps = [float(row["gap"]) for row in table]
    assert gaps == sorted(gaps) and gaps[0] < gaps[-1]
    for row in table:
        expected = explain(small, folder / row["clip"])
        saved = Explanation.load(out / f"{row['clip']}.npz")
        assert np.array_equal(saved.maps, expected.maps) and row["error"] == ""
        (first, p), (second, q), *_ = expected.top(3)
        assert (row["class 1"], row["class 2"]) == (first, second)
        assert (row["p 1"], row["p 2"]) == (f"{p:.6f}", f"{q:.6f}")
        assert abs(float(row["gap"]) - (p - q)) < 1e-6
    page = (out / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'"name":"(.*?)"', page)
    assert [name.replace("\\u003c", "<") for name in named] == [row["clip"] for row in table]
    assert "<p>a [1] &lt;b&gt;.mp4 · 1st: " in page and page.count("</cam-viewer>") == 3


def test_a_page_has_the_maps_of_few_classes(folder, tmp_path, small):
    small.classifier, small.classes = torch.nn.Linear(8, 40), [f"class {k}" for k in range(40)]
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert Explanation.load(tmp_path / "out/more/jpegs.npz").maps.shape[0] == 40
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert len(re.findall(r'"mapped":\[\d+(,\d+){4}\]', page)) == 3


def test_an_unreadable_clip_is_a_row(folder, tmp_path, capsys):
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    os.close(os.open(os.fsencode(folder) + b"/\xff.mp4", os.O_CREAT))  # no UTF-8
    out = tmp_path / "out"
    assert main([str(folder), "--out", str(out)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "not explained" in line]
    assert len(errors) == 3 and "broken.mp4: not a video, or damaged" in errors[0]
    table = rows(out)
    assert {row["clip"] for row in table[:3]} == ALL
    assert [row["clip"] for row in table[3:]] == ["broken.mp4", "gone.mp4", "\ufffd.mp4"]
    assert "no such file" in table[4]["error"] and table[4]["gap"] == table[4]["class 1"] == ""
    assert "Not explained: " in (out / "index.html").read_text(encoding="utf-8")


def test_what_holds_for_the_network_is_no_fault_of_a_clip(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert ended([str(folder), "--out", str(out), "--method", "cam", "--layer", "conv1"]) == 2
    assert 'method="gradcam"' in capsys.readouterr().err and not (out / "clips.csv").exists()


def test_a_clip_that_the_network_cannot_take_is_a_row(folder, tmp_path, small, capsys):
    preprocess = small.preprocess

    def dark_is_nothing(frames):
        return preprocess(frames) / (frames.max() > 80)

    small.preprocess = dark_is_nothing  # the frames of `jpegs` go up to 63
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 1
    assert re.search(r"not explained: .*more/jpegs: .* not finite", capsys.readouterr().err)
    assert [row["clip"] for row in rows(tmp_path / "out") if row["error"]] == ["more/jpegs"]


def test_done_clips_are_kept_and_changed_ones_are_not(folder, tmp_path, small):
    out, arguments = tmp_path / "out", [str(folder), "--out", str(tmp_path / "out")]

    def kept() -> set[str]:
        """Which files are still the same after the command has run again."""
        before = {path: path.stat().st_ino for path in out.rglob("*.npz")}
        assert main(arguments) == 0
        return {path.name for path, inode in before.items() if path.stat().st_ino == inode}

    first, second, third = "a [1] <b>.mp4.npz", "b.webm.npz", "jpegs.npz"
    assert kept() == set() and kept() == {first, second, third}
    changed, jpeg = folder / "more" / "b.webm", folder / "more" / "jpegs" / "00001.jpg"
    for path, change in (
        (changed, lambda: write_video(changed, noise(7), 4)),
        (jpeg, lambda: Image.fromarray(noise(8)[0]).save(jpeg)),
    ):
        times = path.stat().st_mtime_ns
        change()
        os.utime(path, ns=(times, times))  # as where a clip is copied with its date
    assert kept() == {first}
    (out / first).write_bytes(b"cut")
    assert kept() == {second, third}
    expected = explain(small, changed).maps
    assert np.array_equal(Explanation.load(out / "more/b.webm.npz").maps, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--method", "gradcam"], "method 'cam', not 'gradcam'; name another folder"),
        (["--layer", "bn1", "--start", "1"], "layer None, not 'bn1'; start None, not 1.0"),
    ],
)
def test_a_folder_of_other_settings_is_refused(folder, tmp_path, capsys, changes, message):
    arguments = [str(folder), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert ended([*arguments, *changes]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_of_other_weights_or_clips_is_refused(folder, tmp_path, capsys, small):
    out = str(tmp_path / "out")
    assert main([str(folder), "--out", out]) == 0
    assert ended([str(folder / "more"), "--out", out]) == 2
    assert "clips', not '" in capsys.readouterr().err
    small.bn1.running_mean[2] = 0.25
    assert ended([str(folder), "--out", out]) == 2
    assert re.search(r"network 'ours \(\w{12}\)', not 'ours \(\w{12}\)'", capsys.readouterr().err)


@pytest.mark.parametrize("file", ["index.html", "settings.json"])
def test_a_folder_of_something_else_is_left_alone(folder, tmp_path, capsys, file):
    out = tmp_path / "site"
    out.mkdir()
    (out / file).write_text("mine")
    assert ended([str(folder), "--out", str(out)]) == 2
    assert "in use, and not by this command" in capsys.readouterr().err
    assert [path.read_text() for path in out.iterdir()] == ["mine"]


def test_what_a_folder_cannot_have(folder, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").touch()
    for arguments, message in (
        ([str(folder)], "a folder to write to"),
        (
            [str(folder), "--out", str(tmp_path / "out"), "--motion"],
            "and --motion are for one clip",
        ),
        ([str(tmp_path / "none"), "--out", str(tmp_path / "out")], "no clips in it"),
        ([str(folder), "--out", str(tmp_path / "out.html")], "a folder to write to"),
    ):
        assert ended(arguments) == 2
        assert message in capsys.readouterr().err and not [*tmp_path.glob("out*")]


STUCK = """
import sys
import time
import time
sys.path[:0] = ["tests"]
import numpy as np
import torch
from small import Small
from lib.explain import __main__ as command

torch.manual_seed(0)
network = Small().eval()
network.classifier.weight.data.mul_(20)
command.load = lambda *_: network
save = np.savez_compressed

def slow(file, **arrays):
    save(file, **arrays)
    if "b.webm" in file.name:
        file.truncate(1000)
        file.flush()
        print("half", flush=True)
        time.sleep(600)

np.savez_compressed = slow
command.main(sys.argv[1:])
"""


def test_a_damaged_list_of_what_is_done_is_passed_over(folder, tmp_path):
    out = tmp_path / "out"
    assert main([str(folder), "--out", str(out)]) == 0
    with (out / "explained.jsonl").open("ab") as file:
        file.write(b"\n5\n\xff\n[1]\n")
    assert main([str(folder), "--out", str(out)]) == 0


def test_killed_in_the_middle_of_a_file_it_goes_on(folder, tmp_path):
    out = tmp_path / "out"
    arguments = [str(folder), "--out", str(out)]
    run = subprocess.Popen(
        [sys.executable, "-c", STUCK, *arguments],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert any(line == "half\n" for line in run.stdout)
    run.send_signal(signal.SIGKILL)
    run.wait()
    (done,), (half,) = out.glob("*.npz"), (out / "more").iterdir()
    inode, size = done.stat().st_ino, half.stat().st_size
    assert half.name.startswith(".b.webm-") and size == 1000
    assert not (out / "clips.csv").exists() and not (out / "index.html").exists()
    assert main(arguments) == 0
    assert done.stat().st_ino == inode and not half.exists()
    assert {row["clip"] for row in rows(out)} == ALL and (out / "index.html").is_file()
    assert all(Explanation.load(path).classes == NAMES for path in out.rglob("*.npz"))


def test_ended_by_sigterm_it_says_a_line_and_keeps_what_is_done(folder, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "lib.explain", str(folder), "--out", str(out)]
    run = subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, text=True
    )
    while not [*out.glob("*.npz")] and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and said.splitlines()[-1] == GOES_ON
    assert "Traceback" not in said and all(Explanation.load(path) for path in out.rglob("*.npz"))


@pytest.mark.parametrize("name", ["index.html", "clips.csv", "settings.json", "a.webm.npz"])
def test_a_folder_called_as_a_file_to_write_is_refused_first(tmp_path, name):
    (tmp_path / "in" / name).mkdir(parents=True)
    for path in tmp_path / "in/a.webm", tmp_path / "in" / name / "b.webm":
        write_video(path, np.zeros((2, 32, 32, 3), np.uint8), 4)
    with pytest.raises(VideoError, match="is the name of a file to write; rename it") as error:
        explain_folder(tmp_path / "in", tmp_path / "out", {}, lambda path: 1 / 0)
    assert f"b.webm: {name} is" in str(error.value)


def test_a_second_run_to_the_same_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in/a.webm", np.zeros((2, 32, 32, 3), np.uint8), 4)

    def second(path):
        with pytest.raises(OSError, match="out: another run is in this folder; wait, or name"):
            explain_folder(tmp_path / "in", tmp_path / "out", {}, lambda path: 1 / 0)
        raise VideoError("seen")

    assert explain_folder(tmp_path / "in", tmp_path / "out", {}, second) == {"a.webm": "seen"}


def test_settings_that_are_nested_too_deep_are_not_ours(tmp_path):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in/a.webm", np.zeros((2, 32, 32, 3), np.uint8), 4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/settings.json").write_text("[" * 200_000)
    with pytest.raises(ExplainError, match="out: is in use, and not by this command"):
        explain_folder(tmp_path / "in", tmp_path / "out", {}, lambda path: 1 / 0)
