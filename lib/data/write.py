"""Frames to a video file or to a folder of JPEGs, whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from uuid import uuid4

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import Image

from lib.data.video import VideoError

# Suffix -> codec, its options, the container's. VP9 is set for speed: small clips by the thousand.
VP9 = {"deadline": "realtime", "cpu-used": "8", "threads": "1", "b": "0", "crf": "24"}
ENCODERS = {
    ".webm": ("libvpx-vp9", VP9, {"fflags": "bitexact"}),  # same frames, same bytes
    ".mp4": ("libx264", {"crf": "20", "preset": "fast"}, {"movflags": "faststart"}),
}


def write_video(path: str | Path, frames: np.ndarray, fps: float) -> None:
    """(T, H, W, 3) uint8 RGB to a .webm (VP9), .mp4 (H.264) or .gif, by suffix, at `fps`.

    The file appears whole or not at all. H.264 needs even sides: an odd one is padded by its edge.

    Raises VideoError for another suffix, a missing folder, a disk that refuses; ValueError for
    frames of another shape or type.
    """
    path, frames = Path(path), _checked(frames)
    suffix = path.suffix.lower()
    if suffix not in {*ENCODERS, ".gif"}:
        raise VideoError(f"{path}: cannot write {suffix or 'no suffix'}; use .webm, .mp4 or .gif")
    if fps <= 0:
        raise ValueError(f"fps={fps}: must be above 0")
    whole = path.with_name(f".{path.stem}-{uuid4().hex[:8]}{suffix}")
    try:
        with _refusals(path):
            (_write_gif if suffix == ".gif" else _encode)(whole, frames, fps)
            os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)


def write_frames(folder: str | Path, frames: np.ndarray) -> None:
    """(T, H, W, 3) uint8 RGB to a new folder of JPEGs 00001.jpg, 00002.jpg, ... for `read_frames`.

    The folder appears whole or not at all; until then the JPEGs are in FOLDER.part.

    Raises VideoError for a folder that exists, one to stand in that does not, a disk that refuses;
    ValueError for frames of another shape or type.
    """
    folder, frames = Path(folder), _checked(frames)
    if folder.exists():
        raise VideoError(f"{folder}: exists already; remove it or name another folder")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    try:
        with _refusals(folder):
            part.mkdir()
            for number, frame in enumerate(frames, start=1):
                Image.fromarray(frame).save(part / f"{number:05}.jpg", quality=90)
            os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _checked(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"frames: (T, H, W, 3) uint8 wanted, got {frames.shape} {frames.dtype}")
    return frames


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the disk or FFmpeg raises inside leaves as a VideoError."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"{path}: cannot be written ({error.strerror}); does the folder exist, is there room?"
        ) from error


def _encode(path: Path, frames: np.ndarray, fps: float) -> None:
    codec, options, container_options = ENCODERS[path.suffix]
    if codec == "libx264":
        odd = [(0, side % 2) for side in frames.shape[1:3]]
        frames = np.pad(frames, [(0, 0), *odd, (0, 0)], mode="edge")
    with av.open(str(path), "w", container_options=container_options) as container:
        stream = container.add_stream(codec, Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Said in the file as well, or each player guesses which of two YUV matrices was meant.
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        yuv = partial(
            VideoReformatter().reformat,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        for frame in np.ascontiguousarray(frames):
            container.mux(stream.encode(yuv(VideoFrame.from_ndarray(frame, format="rgb24"))))
        container.mux(stream.encode())


def _write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    """One palette for the whole clip, so that still parts stay still."""
    some = frames[:: -(-len(frames) // 8), ::2, ::2]  # at most 8 frames at half size
    palette = Image.fromarray(np.concatenate(some)).quantize(256)
    images = [Image.fromarray(frame).quantize(palette=palette) for frame in frames]
    ticks = np.round(np.arange(len(frames) + 1) * 100 / fps)  # GIF counts hundredths of a second
    durations = (np.diff(ticks) * 10).astype(int).tolist()
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)
