import io
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import av
import mutants
import numpy as np
import pytest
from PIL import Image

from lib.data.video import Clip, Crop, VideoError, duration, read_clip, square
from lib.data.write import write_video
from lib.miniature.dataset import write_frames

STEP = 5  # grey levels between a numbered frame and the next


def numbered(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """(T, H, W, 3) uint8: frame i is grey at the level STEP * (i % 50)."""
    levels = (STEP * (np.arange(count) % 50)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers(clip: Clip) -> list[int]:
    return np.round(clip.frames.mean((1, 2, 3)) / STEP).astype(int).tolist()


def encode(path, frames, fps=12, codec="libx264", options=None, pts=None, pixel="yuv420p", **setup):
    """As write_video, with what it leaves out: any codec, key frames, times, display matrix."""
    how = {"format": setup.get("form"), "container_options": setup.get("container", {})}
    with av.open(str(path), "w", **how) as container:
        stream = container.add_stream(codec, Fraction(fps), options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixel
        if "display" in setup:
            rotation, mirrored = setup["display"]
            stream.set_display_rotation(rotation, hflip=mirrored)
        if "pixel_aspect" in setup:
            stream.codec_context.sample_aspect_ratio = setup["pixel_aspect"]
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if pts is not None:
                picture.pts, picture.time_base = pts[i], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".gif"])
@pytest.mark.parametrize("fps", [12, 30, 7.5])
def test_frame_on_screen_at_each_wanted_time(tmp_path, suffix, fps):
    path = tmp_path / f"clip{suffix}"
    write_video(path, numbered(49), fps)
    clip = read_clip(path, frames=6, fps=4, start=0)
    late = 0.01 if suffix == ".gif" else 0.001  # what the container rounds times to
    expected = [int((i / 4 + late) * fps) for i in range(6)]
    assert numbers(clip) == expected
    np.testing.assert_allclose(clip.times, np.array(expected) / fps, atol=late)
    assert clip.frames.dtype == np.uint8 and clip.frames.shape[1:] == (32, 48, 3)
    assert clip.times.dtype == np.float64 and len(clip) == 6


def test_short_video_holds_its_last_frame(tmp_path):
    write_video(tmp_path / "short.webm", numbered(6), 12)  # half a second
    clip = read_clip(tmp_path / "short.webm")
    assert numbers(clip) == [0, 3] + [5] * 14
    assert clip.times[-1] == clip.times[2] == pytest.approx(5 / 12, abs=0.001)
    assert repr(clip) == "Clip(16 frames of 48x32, 0.00 to 0.42 s)"


def test_long_video_gives_its_middle_or_the_start_asked_for(tmp_path):
    write_video(tmp_path / "long.webm", numbered(48), 6)  # 8 seconds, the middle starts at 2
    assert numbers(read_clip(tmp_path / "long.webm"))[:3] == [12, 13, 15]
    assert numbers(read_clip(tmp_path / "long.webm", start=5))[:3] == [30, 31, 33]
    assert numbers(read_clip(tmp_path / "long.webm", start=7))[3:6] == [46, 47, 47]
    with pytest.raises(VideoError, match=r"long.webm: ends at 8.00 s; choose a start below"):
        read_clip(tmp_path / "long.webm", start=8)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("dense.mp4", "libx264", {"g": "5"}),
        ("sparse.mp4", "libx264", {"g": "500"}),
        ("dense.mkv", "libx264", {"g": "5", "bf": "3"}),
        ("part.ts", "mpeg4", {"g": "7"}),  # a seek lands between key frames
        ("old.avi", "mpeg4", {"g": "9"}),
        ("eight.webm", "libvpx", {"g": "10"}),
        ("flash.flv", "libx264", {"g": "7", "bf": "2"}),
        ("dense.nut", "libx264", {"g": "7", "bf": "2"}),
    ],
)
def test_seeking_changes_nothing(tmp_path, name, codec, options):
    path = encode(tmp_path / name, numbered(50), 12, codec, options)
    whole = read_clip(path, frames=50, fps=12, start=0)
    np.testing.assert_allclose(whole.times, np.arange(50) / 12, atol=0.001)
    for first in range(1, 50, 4):
        clip = read_clip(path, frames=3, fps=12, start=first / 12)
        expected = np.minimum(np.arange(first, first + 3), 49)
        np.testing.assert_array_equal(clip.frames, whole.frames[expected])
        np.testing.assert_allclose(clip.times, whole.times[expected])


@pytest.mark.parametrize("pixel", ["yuv444p", "yuva420p"])
def test_vp9_of_other_pixel_formats(tmp_path, pixel):
    path = encode(tmp_path / "clip.webm", numbered(12), codec="libvpx-vp9", pixel=pixel)
    assert numbers(read_clip(path, frames=4)) == [0, 3, 6, 9]


def test_variable_frame_rate(tmp_path):
    times = [0, 40, 500, 510, 520, 1700, 1800]  # ms
    path = encode(tmp_path / "vfr.webm", numbered(7), 25, "libvpx-vp9", pts=times)
    clip = read_clip(path, frames=8)
    assert numbers(clip) == [0, 1, 2, 4, 4, 4, 4, 5]
    assert clip.times.tolist() == [times[i] / 1000 for i in numbers(clip)]


def test_header_without_a_length(tmp_path):
    """As browsers record: no duration, no index."""
    path = encode(tmp_path / "live.webm", numbered(48), 6, "libvpx-vp9", container={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None
    assert numbers(read_clip(path))[:3] == [12, 13, 15]


# Each orientation a camera can note: the turn (counter-clockwise) and the mirror that a player
# applies, and where the red corner of `corners`, at the top left, and the green one to the right
# of it are shown.
TOP_LEFT, TOP_RIGHT, BOTTOM_LEFT, BOTTOM_RIGHT = (0, 0), (0, -1), (-1, 0), (-1, -1)
ORIENTATIONS = {
    (0, False): (TOP_LEFT, TOP_RIGHT),
    (0, True): (TOP_RIGHT, TOP_LEFT),
    (180, False): (BOTTOM_RIGHT, BOTTOM_LEFT),
    (180, True): (BOTTOM_LEFT, BOTTOM_RIGHT),
    (90, False): (BOTTOM_LEFT, TOP_LEFT),
    (90, True): (BOTTOM_RIGHT, TOP_RIGHT),
    (-90, False): (TOP_RIGHT, BOTTOM_RIGHT),
    (-90, True): (TOP_LEFT, BOTTOM_LEFT),
}


def corners(count=3):
    """(T, 32, 64, 3): black, the top left quarter red, the top right one green."""
    frames = np.zeros((count, 32, 64, 3), np.uint8)
    frames[:, :16, :32, 0] = frames[:, :16, 32:, 1] = 255
    return frames


def corner_of(frame, channel):
    """Index of the corner that is bright in the channel, and in no other."""
    found = [at for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if frame[at][channel] > 150]
    (corner,) = found
    assert np.delete(frame[corner], channel).max() < 80
    return corner


@pytest.mark.parametrize(("noted", "shown"), ORIENTATIONS.items())
def test_turns_and_mirrors_noted_by_the_camera_are_applied(tmp_path, noted, shown):
    path = encode(tmp_path / "phone.mp4", corners(), display=noted)
    upright = read_clip(path, frames=1).frames[0]
    assert upright.shape == ((32, 64, 3) if noted[0] in (0, 180) else (64, 32, 3))
    assert (corner_of(upright, 0), corner_of(upright, 1)) == shown
    mirrored = read_clip(path, frames=1, crop=Crop(mirrored=True), size=32).frames[0]
    assert corner_of(mirrored, 0) == (shown[0][0], -1 - shown[0][1])


def test_the_matrix_of_the_file_itself_is_read(tmp_path):
    """As a selfie camera writes it: minus one for x in the track header."""
    path = encode(tmp_path / "selfie.mp4", corners())
    file = path.read_bytes()
    header = file.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version, times and ids, reserved, layer
    plain, one = file[header : header + 36], (1 << 16).to_bytes(4, "big")
    assert plain[:4] == one == plain[16:20]
    minus_one = (-(1 << 16)).to_bytes(4, "big", signed=True)
    path.write_bytes(file[:header] + minus_one + file[header + 4 :])
    selfie = read_clip(path, frames=1).frames[0]
    assert (corner_of(selfie, 0), corner_of(selfie, 1)) == (TOP_RIGHT, TOP_LEFT)


@pytest.mark.parametrize(("number", "noted"), [
    (1, (0, False)), (2, (0, True)), (3, (180, False)), (4, (180, True)), (5, (-90, True)),
    (6, (-90, False)), (7, (90, True)), (8, (90, False)),
])  # fmt: skip
def test_turns_and_mirrors_of_jpegs_are_applied(tmp_path, number, noted):
    folder, exif = tmp_path / "31", Image.Exif()
    folder.mkdir()
    exif[0x0112] = number  # Orientation
    Image.fromarray(corners()[0]).save(folder / "00001.jpg", quality=95, exif=exif)
    for path in (folder, zipped(folder)):
        upright = read_clip(path, frames=1).frames[0]
        assert (corner_of(upright, 0), corner_of(upright, 1)) == ORIENTATIONS[noted]
    with pytest.raises(VideoError, match="00001.jpg: .* another picture"):
        read_clip(folder / "00001.jpg")


@pytest.mark.parametrize("crop", [Crop(), Crop(0.6, 0.1, 0.9), Crop(0.37, 1, 0, mirrored=True)])
def test_a_crop_applies_with_and_without_a_size(tmp_path, crop):
    frames = np.random.default_rng(0).integers(0, 256, (6, 33, 47, 3), np.uint8)
    write_frames(tmp_path / "31", frames)
    write_video(tmp_path / "31.webm", frames, 12)
    for path in (tmp_path / "31", zipped(tmp_path / "31"), tmp_path / "31.webm"):
        whole = read_clip(path, 6, 12)
        assert whole.frames.shape == (6, 33, 47, 3)
        cut = read_clip(path, 6, 12, crop=crop).frames
        np.testing.assert_array_equal(cut, crop.of(whole.frames))
        sized = read_clip(path, 6, 12, size=20, crop=crop).frames
        np.testing.assert_array_equal(sized, square(whole.frames, 20, crop))


@pytest.mark.parametrize("wrong", [{"side": 0}, {"side": 1.2}, {"x": -0.1}, {"y": 1.1}])
def test_a_crop_outside_of_the_frame_is_refused(wrong):
    with pytest.raises(ValueError, match="side is above 0 and at most 1, x and y from 0 to 1"):
        Crop(**wrong)


@pytest.mark.parametrize(
    ("name", "codec", "options", "pixel"),
    [
        ("raw.h264", "libx264", {"g": "9", "bf": "2"}, "yuv420p"),
        ("one.h264", "libx264", {"g": "500", "bf": "0"}, "yuv420p"),
        ("raw.m4v", "mpeg4", {"g": "9", "bf": "2"}, "yuv420p"),
        ("raw.m1v", "mpeg1video", {"g": "9"}, "yuv420p"),
        ("raw.m2v", "mpeg2video", {"g": "9", "bf": "2"}, "yuv420p"),
        ("raw.mjpeg", "mjpeg", {}, "yuvj420p"),
    ],
)
def test_raw_streams_without_times_are_counted(tmp_path, name, codec, options, pixel):
    form = "m4v" if name.endswith("m4v") else None  # not the MP4 of that suffix
    path = encode(tmp_path / name, numbered(50), 25, codec, options, pixel=pixel, form=form)
    with av.open(str(path)) as container:
        assert "mp4" not in container.format.name
    assert duration(path) == pytest.approx(2)
    whole = read_clip(path, 50, 25)
    np.testing.assert_allclose(whole.times, np.arange(50) / 25)
    assert np.abs(np.subtract(numbers(whole), np.arange(50))).max() <= 1
    middle = read_clip(path, 10, 25)
    np.testing.assert_allclose(middle.times, np.arange(20, 30) / 25)
    np.testing.assert_array_equal(middle.frames, whole.frames[20:30])
    late = read_clip(path, 4, 25, start=1.92)
    np.testing.assert_allclose(late.times * 25, [48, 49, 49, 49])
    for start in (2, 100):
        with pytest.raises(VideoError, match=f"{name}: ends at 2.00 s; choose a start below"):
            read_clip(path, start=start)


def test_pixels_become_square(tmp_path):
    path = encode(tmp_path / "wide.mp4", numbered(3), pixel_aspect=Fraction(4, 3))
    assert read_clip(path).frames.shape == (16, 32, 64, 3)


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".gif"])
def test_colours_survive(tmp_path, suffix):
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    colours = [(200, 30, 40), (30, 180, 50), (20, 40, 220), (240, 240, 240)]
    for i, colour in enumerate(colours):
        frames[:, :, 16 * i : 16 * i + 16] = colour
    write_video(tmp_path / f"clip{suffix}", frames, 4)
    read = read_clip(tmp_path / f"clip{suffix}", frames=1).frames[0, 8:24, 8::16]
    np.testing.assert_allclose(read, np.broadcast_to(colours, read.shape), atol=8)


def test_square_crops_the_centre_and_resizes_each_frame(tmp_path):
    frames = np.zeros((2, 20, 40, 3), np.uint8)
    frames[:, :, 10:30] = 100
    assert (square(frames, 8) == 100).all() and square(frames, 8).shape == (2, 8, 8, 3)
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 200
    np.testing.assert_allclose(square(stripes, 8), 100, atol=5)  # antialiased
    write_video(tmp_path / "clip.mp4", numbered(12), 12)
    clip = read_clip(tmp_path / "clip.mp4", frames=3, start=0, size=24)
    assert clip.frames.shape == (3, 24, 24, 3) and numbers(clip) == [0, 3, 6]


def test_files_that_are_no_video(tmp_path):
    (tmp_path / "empty.webm").touch()
    (tmp_path / "page.webm").write_text("<html>404</html>")
    (tmp_path / "notes.txt").write_text("a line of text\n" * 99)
    with av.open(str(tmp_path / "sound.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), "f4"), "fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    for name, trouble in {
        "missing.mp4": "no such file",
        ".": "no frames 00001.jpg",
        "empty.webm": "is empty",
        "page.webm": "not a video",
        "notes.txt": "a text, a playlist, a WebP",
        "sound.m4a": "no picture",
    }.items():
        with pytest.raises(VideoError, match=trouble) as error:
            read_clip(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx-vp9", ".webm"), ("libx264", ".mp4")])
def test_file_cut_short(tmp_path, codec, suffix):
    rng = np.random.default_rng(0)
    frames = numbered(48, 64, 64) // 2 + rng.integers(0, 120, (48, 64, 64, 3), np.uint8)
    path = tmp_path / f"whole{suffix}"
    encode(path, frames, 6, codec, container={"movflags": "faststart"} if suffix == ".mp4" else {})
    whole, cut = path.read_bytes(), tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[: len(whole) // 2])
    clip = read_clip(cut)  # the header still promises 8 s: the window is the middle of what is left
    assert clip.times[0] < 1 and clip.times[-1] < 5
    cut.write_bytes(whole[: len(whole) // 60])
    with pytest.raises(VideoError, match=f"cut{suffix}.*copy"):
        read_clip(cut)


@pytest.mark.parametrize(
    "wrong", [{"frames": 0}, {"fps": 0}, {"fps": np.inf}, {"start": -1}, {"size": 0}]
)
def test_arguments_out_of_range(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        read_clip(tmp_path / "any.webm", **wrong)


def test_write_video_leaves_a_whole_file_or_none(tmp_path, monkeypatch):
    with pytest.raises(VideoError, match=r"\.webm, \.mp4 or \.gif"):
        write_video(tmp_path / "clip.avi", numbered(2), 12)
    with pytest.raises(OSError, match=r"nowhere/clip\.mp4: cannot be written.*folder") as error:
        write_video(tmp_path / "nowhere" / "clip.mp4", numbered(2), 12)
    assert not isinstance(error.value, VideoError)  # the disk's fault, not the video's
    for fps in 1e-9, 1e4, float("inf"), float("nan"):  # no player shows them, GIF cannot say them
        with pytest.raises(
            VideoError, match="frames a second cannot be written: 0.002 to (50|1000) can"
        ):
            write_video(tmp_path / "clip.gif", numbered(2), fps)
    with pytest.raises(ValueError, match="uint8"):
        write_video(tmp_path / "clip.mp4", numbered(2) / 255, 12)
    path = tmp_path / "clip.webm"
    write_video(path, numbered(2), 12)
    before = path.read_bytes()
    monkeypatch.setattr("lib.files.os.replace", _refuse)
    with pytest.raises(OSError, match="clip.webm: cannot be written"):
        write_video(path, numbered(3), 12)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def _refuse(*_):
    raise PermissionError(13, "Permission denied")


def test_same_frames_same_bytes(tmp_path):
    for name in ("a.webm", "b.webm"):
        write_video(tmp_path / name, numbered(12), 12)
    assert (tmp_path / "a.webm").read_bytes() == (tmp_path / "b.webm").read_bytes()


def test_odd_sides(tmp_path):
    for suffix, shape in ((".mp4", (34, 46)), (".webm", (33, 45)), (".gif", (33, 45))):
        write_video(tmp_path / f"odd{suffix}", numbered(3, 33, 45), 12)
        assert read_clip(tmp_path / f"odd{suffix}").frames.shape == (16, *shape, 3)


def zipped(folder):
    """FOLDER.zip of the same JPEGs, beside other files."""
    with ZipFile(folder.with_suffix(".zip"), "w") as file:
        for path in sorted(folder.iterdir(), reverse=True):
            file.write(path, path.name)
        file.writestr("__MACOSX/00001.jpg", b"")
        file.writestr("Thumbs.db", b"")
    return folder.with_suffix(".zip")


@pytest.mark.parametrize("wanted", [{}, {"start": 1.6}, {"frames": 7, "fps": 5, "size": 24}])
@pytest.mark.parametrize("count", [7, 30, 100])
def test_a_folder_and_a_zip_are_sampled_as_a_video(tmp_path, count, wanted):
    write_frames(tmp_path / "31", numbered(count))
    write_video(tmp_path / "31.mp4", numbered(count), 12)
    if wanted.get("start", 0) > count / 12:
        for path in (tmp_path / "31.mp4", tmp_path / "31", zipped(tmp_path / "31")):
            with pytest.raises(VideoError, match=rf"{path.name}: ends at 0.58 s; choose a start"):
                read_clip(path, **wanted)
        return
    video = read_clip(tmp_path / "31.mp4", **wanted)
    for path in (tmp_path / "31", zipped(tmp_path / "31")):
        clip = read_clip(path, **wanted)
        assert numbers(clip) == numbers(video) and clip.frames.shape == video.frames.shape
        assert clip.frames.dtype == np.uint8 and clip.times.dtype == np.float64
        np.testing.assert_allclose(clip.times, video.times, atol=0.001)
        assert duration(path) == pytest.approx(count / 12)


def test_only_the_frames_shown_are_decoded(tmp_path):
    write_frames(tmp_path / "31", numbered(48))
    for number in {*range(1, 49)} - {*range(1, 49, 3)}:
        (tmp_path / "31" / f"{number:05}.jpg").write_bytes(b"no JPEG")
    (tmp_path / "31" / "Thumbs.db").touch()
    Image.new("L", (48, 32), 90).save(tmp_path / "31" / "00004.jpg")  # grey, without colours
    assert numbers(read_clip(tmp_path / "31"))[:4] == [0, 18, 6, 9]


def test_folders_that_are_no_frames(tmp_path):
    with pytest.raises(VideoError, match="31: no such file or folder; check the name"):
        read_clip(tmp_path / "31")
    (tmp_path / "31").mkdir()
    with pytest.raises(VideoError, match="31: no frames 00001.jpg.*unpack"):
        read_clip(tmp_path / "31")
    write_frames(tmp_path / "32", numbered(8))
    third = tmp_path / "32" / "00004.jpg"
    third.write_bytes(third.read_bytes()[:-200])
    with pytest.raises(VideoError, match="00004.jpg: not a JPEG, or damaged.*copy"):
        read_clip(tmp_path / "32")
    Image.new("RGB", (20, 20)).save(third)
    with pytest.raises(VideoError, match="32: changes its frame size.* size="):
        read_clip(tmp_path / "32")
    assert read_clip(tmp_path / "32", size=16).frames.shape == (16, 16, 16, 3)
    third.unlink()
    write_frames(tmp_path / "33", numbered(8))
    with pytest.raises(VideoError, match="00004.jpg: missing, though 00008.jpg is there"):
        read_clip(tmp_path / "32")
    with pytest.raises(VideoError, match="00004.jpg: missing, though 00008.jpg is there"):
        read_clip(zipped(tmp_path / "32"))
    for wrong in ({"frames": 0}, {"fps": 0}, {"start": -1}, {"size": 0}, {"at": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            read_clip(tmp_path / "33", **wrong)


def test_write_frames_leaves_a_whole_folder_or_none(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="clip: cannot be written"):
        write_frames(tmp_path / "nowhere" / "clip", numbered(2))
    write_frames(tmp_path / "clip", numbered(2))
    names = ["00001.jpg", "00002.jpg"]
    assert sorted(path.name for path in (tmp_path / "clip").iterdir()) == names
    with pytest.raises(OSError, match="clip: cannot be written"):  # never mixed with older ones
        write_frames(tmp_path / "clip", numbered(3))
    monkeypatch.setattr("lib.files.os.replace", _refuse)
    with pytest.raises(OSError, match="other: cannot be written"):
        write_frames(tmp_path / "other", numbered(2))
    assert list(tmp_path.iterdir()) == [tmp_path / "clip"]


FORCED = "b-adapt=0:bframes=3:keyint=12:scenecut=0"  # x264 leaves B-frames out of still pictures


@pytest.mark.parametrize("suffix", [".avi", ".wmv", ".mxf", ".mpg", ".ts", ".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"x264-params": FORCED}), ("mpeg2video", {"g": "12", "bf": "2", "b": "8M"})],
)
def test_b_frames_are_shown_when_they_should_be(tmp_path, suffix, codec, options):
    """Where the container's own times cannot be trusted as well: frame i is shown at i / 25 s."""
    path = encode(tmp_path / f"clip{suffix}", numbered(50), 25, codec, options)
    assert duration(path) == pytest.approx(2, abs=0.001)
    for first in (0, 1, 7, 23, 24, 25, 36, 45, 49):
        clip = read_clip(path, frames=3, fps=25, start=first / 25)
        expected = np.minimum(np.arange(first, first + 3), 49)
        assert numbers(clip) == expected.tolist()
        np.testing.assert_allclose(clip.times, expected / 25, atol=0.001)


def test_a_stream_that_begins_midway_is_left_aside(tmp_path):
    """A TS recorded on: its second half has sound as well."""
    silent = encode(tmp_path / "silent.ts", numbered(24), 12, options={"g": "6"})
    pid = {"mpegts_start_pid": "300"}  # not the one of the pictures
    with av.open(str(tmp_path / "sound.ts"), "w", container_options=pid) as container:
        stream = container.add_stream("aac", rate=44100)
        for i in range(40):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), "f4"), "fltp", layout="mono")
            sound.sample_rate, sound.pts = 44100, 1024 * i
            container.mux(stream.encode(sound))
        container.mux(stream.encode())
    both = tmp_path / "both.ts"
    both.write_bytes(silent.read_bytes() + (tmp_path / "sound.ts").read_bytes())
    assert numbers(read_clip(both, 24, 12, start=0)) == list(range(24))


def untagged(colour, path, height, matrix):
    """A video of one colour, converted with a YUV matrix that the file does not name."""
    frames = np.broadcast_to(np.uint8(colour), (2, height, 128, 3)).copy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 12, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = height, 128, "yuv420p"
        for frame in frames:
            rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
            yuv = rgb.reformat(format="yuv420p", dst_colorspace=matrix)
            yuv.colorspace = 2  # unspecified
            container.mux(stream.encode(yuv))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("colour", [(0, 200, 0), (200, 30, 40), (20, 40, 220), (128, 128, 128)])
@pytest.mark.parametrize(("height", "matrix"), [(720, "ITU709"), (718, "ITU601")])
def test_untagged_colours_are_those_of_players(tmp_path, colour, height, matrix):
    """BT.709 from 720 rows on, BT.601 below."""
    path = untagged(colour, tmp_path / "clip.mp4", height, matrix)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == 2
    shown = read_clip(path, frames=1).frames[0, 8:-8, 8:-8]
    assert np.abs(shown.astype(int) - colour).max() <= 3


def unlike_any_video(folder):
    """(path, what its error says) of files that are not what their names say."""
    encode(folder / "clip.ts", numbered(12))
    encode(folder / "clip.mp4", numbered(12))
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nclip.ts\n")
    (folder / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    (folder / "far.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nhttp://127.0.0.1:9/clip.ts\n"
    )
    Image.new("RGB", (48, 32)).save(folder / "f001.jpg")
    Image.new("RGB", (48, 32)).save(folder / "f%03d.jpg")
    for name in ("list.m3u8", "list.mp4", "far.m3u8", "f%03d.jpg"):
        yield folder / name, "a text, a playlist, .* or a kind that is not read.*convert"
    os.mkfifo(folder / "pipe.webm")
    os.mkfifo(folder / "pipe.zip")
    (folder / "device.mp4").symlink_to("/dev/zero")
    for name in ("pipe.webm", "pipe.zip", "device.mp4"):
        yield folder / name, "a pipe or device, not a file; name a video file"
    (folder / "frames").mkdir()
    os.mkfifo(folder / "frames" / "00001.jpg")
    yield folder / "frames", "00001.jpg: a folder, pipe or device, not a file; unpack again"
    yield folder / ("a" * 300 + ".mp4"), "File name too long.*check the name"
    yield folder / "clip.mp4" / "clip.mp4", "Not a directory.*check the name"
    (folder / "loop.mp4").symlink_to("loop.mp4")
    yield folder / "loop.mp4", "symbolic links.*check the name"


def test_nothing_but_a_video_is_opened(tmp_path):
    for path, trouble in unlike_any_video(tmp_path):
        with pytest.raises(VideoError, match=trouble) as error:
            read_clip(path)
        assert str(path) in str(error.value)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "stat", _refuse)
    for read in (read_clip, duration):
        with pytest.raises(VideoError, match=r"clip\.mp4: may not be read; change the permissions"):
            read(tmp_path / "clip.mp4")


def damaged_zips(folder):
    """(path, fault) of zips of one JPEG whose entry cannot be unpacked."""
    jpeg = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        jpeg, "JPEG"
    )
    for name, method in (("stored", ZIP_STORED), ("deflated", ZIP_DEFLATED)):
        with ZipFile(folder / f"{name}.zip", "w", method) as file:
            file.writestr("00001.jpg", jpeg.getvalue())
    stored, deflated = [(folder / f"{name}.zip").read_bytes() for name in ("stored", "deflated")]
    middle, central = len(deflated) // 2, stored.index(b"PK\1\2")
    yield "zlib", deflated[: middle - 99] + bytes(99) + deflated[middle:], "00001.jpg: not a JPEG"
    locked = bytearray(stored)
    locked[6] |= 1  # the flag of a password, in both headers
    locked[central + 8] |= 1
    yield "locked", bytes(locked), "00001.jpg.*encrypted"
    other = bytearray(stored)
    other[8] = other[central + 10] = 97  # a method nobody has
    yield "method", bytes(other), "00001.jpg.*compression"
    yield "cut", stored[:-30], "a damaged zip.*make or copy it again"
    yield "entry", stored.replace(b"00001.jpg", b"\xff0001.jpg"), "no frames|missing|damaged"


def test_damaged_zips(tmp_path):
    for name, content, trouble in damaged_zips(tmp_path):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(content)
        with pytest.raises(VideoError, match=trouble) as error:
            read_clip(path)
        assert str(path) in str(error.value)


def test_a_zip_is_read_whatever_it_is_called(tmp_path):
    """FFmpeg would find the stored pictures, and call three of them a video."""
    write_frames(tmp_path / "31", numbered(12))
    path = zipped(tmp_path / "31").rename(tmp_path / "31.mp4")
    assert numbers(read_clip(path, 12, 12)) == list(range(12))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(VideoError, match="31.mp4: a damaged zip"):
        read_clip(path)


def test_a_stream_without_a_decoder(tmp_path):
    path = encode(tmp_path / "clip.webm", numbered(12), codec="libvpx-vp9")
    path.write_bytes(path.read_bytes().replace(b"V_VP9", b"V_VQ9"))
    for read in (read_clip, duration):
        with pytest.raises(VideoError, match=r"clip\.webm: its codec is unknown.*convert"):
            read(path)


def test_pixels_as_wide_as_no_screen(tmp_path):
    path = encode(tmp_path / "wide.mp4", numbered(3), pixel_aspect=Fraction(4, 3))
    file = path.read_bytes()
    at = file.index(b"pasp") + 4  # width and height of a pixel, 4 bytes each
    path.write_bytes(
        file[:at] + (2**31 - 1).to_bytes(4, "big") + bytes([0, 0, 0, 1]) + file[at + 8 :]
    )
    with pytest.raises(VideoError, match=r"wide\.mp4: pictures of \d+x32; make them smaller"):
        read_clip(path)


def test_a_start_beyond_all_numbers(tmp_path):
    path = encode(tmp_path / "clip.mp4", numbered(3))
    for start in (1e18, 1e300, float("inf"), 10**400):
        with pytest.raises(VideoError, match=r"clip\.mp4: ends at 0.25 s; choose a start below"):
            read_clip(path, start=start)


@pytest.mark.parametrize("wrong", [
    {"frames": "16"}, {"frames": 4.5}, {"size": 2.5}, {"fps": "4"}, {"start": "0"}, {"at": "0"},
    {"crop": 0.5},
])  # fmt: skip
def test_wrong_types_are_the_callers_fault(tmp_path, wrong):
    path = encode(tmp_path / "clip.mp4", numbered(3))
    with pytest.raises(TypeError):
        read_clip(path, **wrong)


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow's own, from 89 million pixels on
def test_pictures_above_the_limit_are_refused_unread(tmp_path):
    """From the header: 12000x12000 is nowhere in the files but there."""
    remedy = "pictures of 12000x12000; make them smaller, at most 67 million pixels"
    (tmp_path / "31").mkdir()
    jpeg = tmp_path / "31" / "00001.jpg"
    Image.new("RGB", (48, 32)).save(jpeg)
    file, side = bytearray(jpeg.read_bytes()), (12000).to_bytes(2, "big")
    at = file.index(b"\xff\xc0") + 5
    file[at : at + 4] = side + side
    jpeg.write_bytes(file)
    video = tmp_path / "clip.y4m"
    video.write_bytes(b"YUV4MPEG2 W12000 H12000 F12:1 C420jpeg\nFRAME\n")
    for path in (tmp_path / "31", zipped(tmp_path / "31"), video):
        with pytest.raises(VideoError, match=remedy):
            read_clip(path, frames=1, size=32)
    gif = encode(tmp_path / "clip.gif", numbered(3), 10, "gif", pixel="rgb8")
    file = gif.read_bytes()
    gif.write_bytes(file[:6] + (12000).to_bytes(2, "little") * 2 + file[10:])
    with pytest.raises(
        VideoError, match="no frame can be decoded; its pictures may be above 67 mill"
    ):
        read_clip(gif)
    file = bytearray(jpeg.read_bytes())
    at = file.index(b"\xff\xc0") + 5
    file[at : at + 4] = b"\xff\xff\xff\xff"
    jpeg.write_bytes(file)
    with pytest.raises(VideoError, match="00001.jpg: has too large a picture.*make it smaller"):
        read_clip(tmp_path / "31")


def test_clips_above_the_limit_are_refused(tmp_path):
    path = encode(tmp_path / "clip.mp4", numbered(3, 320, 320))
    remedy = r"clip\.mp4: 14000 frames of 320x320 take more than 4 GB; pass a smaller size="
    with pytest.raises(VideoError, match=remedy):
        read_clip(path, frames=14000)
    with pytest.raises(VideoError, match="3 frames of 40000x40000 take more than 4 GB"):
        read_clip(path, frames=3, size=40000)
    assert len(read_clip(path, frames=14000, size=16)) == 14000
    with pytest.raises(ValueError, match="frames at most 1,000,000"):
        read_clip(path, frames=10**12)


def test_damaged_files_give_frames_or_a_video_error():
    """200 of them; `python tests/benchmarks/mutants.py` reads as many as there is time for."""
    script = Path(__file__).parent / "benchmarks" / "mutants.py"
    command = [sys.executable, str(script), "--count", "200", "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("200 mutants of seed 0")


def test_what_is_damaged_was_whole(tmp_path):
    for kind, content in mutants.originals().items():
        path = tmp_path / f"whole{kind}"
        path.write_bytes(content)
        clip = read_clip(path, 20, 12 if kind.endswith(".zip") else 25, start=0)
        assert (np.diff(clip.times) > 0).all()
        assert np.abs(clip.frames.astype(int) - mutants.drawn()).mean() < 20


@pytest.mark.parametrize("colours, told", [
    (dict(color_trc=16, color_primaries=9), "HDR (PQ) colours"),
    (dict(color_trc=18, color_primaries=9), "HDR (HLG) colours"),
    (dict(color_trc=1, color_primaries=9), "BT.2020 colours"),
    (dict(color_trc=1, color_primaries=1), ""),
])  # fmt: skip
def test_colours_that_are_not_mapped_are_told(tmp_path, colours, told):
    path = tmp_path / "hdr.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 12)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for name, value in colours.items():
            setattr(stream.codec_context, name, value)
        for frame in numbered(48):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            for name, value in colours.items():
                setattr(picture, name, value)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    note = read_clip(path).note
    assert note.startswith(told) and bool(note) == bool(told)


def test_a_video_of_one_frame_is_told(tmp_path):
    write_video(tmp_path / "one.mp4", numbered(1), 12)
    assert "only 1 of the 16 frames differ" in read_clip(tmp_path / "one.mp4").note
    write_video(tmp_path / "long.mp4", numbered(48), 12)
    assert read_clip(tmp_path / "long.mp4").note == ""


def test_an_animated_webp_is_named(tmp_path):
    first, *others = map(Image.fromarray, numbered(6))
    first.save(tmp_path / "clip.webp", save_all=True, append_images=others, duration=100)
    with pytest.raises(VideoError, match="clip.webp: .*a WebP .*; name a .webm, .mp4 or .gif"):
        read_clip(tmp_path / "clip.webp")


def test_jpegs_in_a_folder_inside_are_told(tmp_path):
    (tmp_path / "outer").mkdir()
    write_frames(tmp_path / "outer" / "7", numbered(12))
    with ZipFile(tmp_path / "7.zip", "w") as file:
        for jpeg in (tmp_path / "outer" / "7").iterdir():
            file.write(jpeg, f"7/{jpeg.name}")
    for path in tmp_path / "outer", tmp_path / "7.zip":
        with pytest.raises(VideoError, match="no frames 00001.jpg.*they lie deeper, perhaps in 7"):
            read_clip(path)


def test_names_in_a_zip_cost_nothing(tmp_path):
    """zipfile.Path would never end with the first, and needs 5 GB for the others."""
    content, path = io.BytesIO(), tmp_path / "clip.zip"
    Image.fromarray(numbered(2)[1]).save(content, "JPEG")
    with ZipFile(path, "w") as file:
        file.writestr("00001.jpg", content.getvalue())
        for name in ("//x", *(f"{k}/{'a/' * 32000}" for k in range(5))):
            file.writestr(name, "")
    assert numbers(read_clip(path, 2)) == [1, 1]


def test_a_frame_with_another_suffix_is_missed_by_name(tmp_path):
    folder = tmp_path / "31"
    write_frames(folder, numbered(3))
    (folder / "00003.jpg").rename(folder / "00003.JPG")
    for path in folder, zipped(folder):
        with pytest.raises(VideoError, match="00003.jpg: missing, though 00003.JPG is there"):
            read_clip(path)


def test_what_an_edit_list_cuts_off_is_not_there(tmp_path):
    path = encode(tmp_path / "trimmed.mp4", numbered(48), 12, options={"g": "12", "bf": "2"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12  # behind version, flags and count: milliseconds that are shown
    assert int.from_bytes(content[at : at + 4], "big") == 4000
    content[at : at + 4] = (2000).to_bytes(4, "big")
    path.write_bytes(content)
    assert duration(path) == pytest.approx(2, abs=0.01)
    assert numbers(read_clip(path, 4, 4)) == [6, 9, 12, 15]
    with pytest.raises(VideoError, match="ends at 2.00 s"):
        read_clip(path, start=3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_seek_into_a_refresh_starts_earlier(tmp_path, suffix):
    """With intra-refresh no frame is whole; what a seek leads to is grey for a second."""
    base = np.random.default_rng(0).integers(0, 60, (64, 64, 3), np.uint8)
    frames = np.stack([np.roll(base, 3 * i, 1) + np.uint8(i) for i in range(150)])
    options = {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}
    path = encode(tmp_path / f"clip{suffix}", frames, 12, options=options)
    whole = read_clip(path, 150, 12, start=0).frames
    for first in (50, 59, 110):
        found = read_clip(path, 4, 12, start=first / 12)
        assert np.array_equal(found.frames, whole[first : first + 4])


def test_pictures_in_tiles_are_named(tmp_path):
    path = tmp_path / "photo.avif"
    Image.fromarray(numbered(2, 64, 64)[1]).save(path)
    with pytest.raises(VideoError, match="photo.avif: a HEIC or AVIF picture; name a .webm"):
        read_clip(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_of_several_videos_the_one_that_players_show(tmp_path, suffix):
    path, shown = tmp_path / f"two{suffix}", av.stream.Disposition.default
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", 12) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        streams[0].disposition, streams[1].disposition = av.stream.Disposition(0), shown
        for frame in numbered(12):
            for stream, picture in zip(streams, (frame, 255 - frame)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    assert numbers(read_clip(path, 1, start=0)) == [51]


@pytest.mark.parametrize("fps", [240, 500, 1000])
def test_no_frame_of_a_fast_camera_is_skipped(tmp_path, fps):
    for suffix in (".mp4", ".webm"):
        write_video(tmp_path / f"fast{suffix}", numbered(12), fps)
        assert numbers(read_clip(tmp_path / f"fast{suffix}", 12, fps, start=0)) == [*range(12)]


def test_a_gif_has_the_colours_of_every_frame_and_times_that_players_keep(tmp_path):
    frames, path = np.full((16, 32, 48, 3), 60, np.uint8), tmp_path / "clip.gif"
    frames[5] = 255, 0, 0
    frames[range(16), 0, range(16)] = 255  # no two frames are alike
    write_video(path, frames, 50)
    found = read_clip(path, 16, 50, start=0)
    assert np.abs(found.frames.astype(int) - frames).max() <= 2
    np.testing.assert_allclose(found.times, np.arange(16) / 50, atol=0.001)
    with pytest.raises(VideoError, match="60 frames a second cannot be written: 0.002 to 50 can"):
        write_video(path, frames, 60)
    for given in (np.zeros((20, 32, 32, 3), np.uint8), 0.02), (np.zeros((2, 66000, 2, 3), "u1"), 5):
        with pytest.raises(VideoError, match="clip.gif: cannot be encoded"):
            write_video(path, *given)
    assert [file.name for file in tmp_path.iterdir()] == ["clip.gif"]
