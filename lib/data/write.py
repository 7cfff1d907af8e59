"""Frames to a video file, whole or not at all."""

import math
import struct
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import Image

from lib.data.video import VideoError
from lib.files import write_whole

# Suffix -> codec, its options, the container's. VP9 is set for speed: small clips by the thousand.
VP9 = {"deadline": "realtime", "cpu-used": "8", "threads": "1", "b": "0", "crf": "24"}
ENCODERS = {
    ".webm": ("libvpx-vp9", VP9, {"fflags": "bitexact"}),  # same frames, same bytes
    ".mp4": ("libx264", {"crf": "20", "preset": "fast"}, {"movflags": "faststart"}),
}


def write_video(path: str | Path, frames: np.ndarray, fps: float) -> None:
    """(T, H, W, 3) uint8 RGB to a .webm (VP9), .mp4 (H.264) or .gif, by suffix, at `fps`.

    The file appears whole or not at all. H.264 needs even sides: an odd one is padded by its edge.
    VideoError for another suffix or rate, or what the encoder refuses, ValueError for other frames.
    """
    path, suffix = Path(path), Path(path).suffix.lower()
    if suffix not in {*ENCODERS, ".gif"}:
        raise VideoError(f"{path}: cannot write {suffix or 'no suffix'}; use .webm, .mp4 or .gif")
    most = 50 if suffix == ".gif" else 1000  # players show a GIF's shorter frames longer
    if not 0.002 <= fps <= most:
        raise VideoError(f"{path}: {fps} frames a second cannot be written: 0.002 to {most} can")
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"frames: (T, H, W, 3) uint8 wanted, got {frames.shape} {frames.dtype}")
    write = partial(_gif if suffix == ".gif" else _encode, frames=frames, fps=fps)
    try:
        write_whole(path, write)
    except (av.FFmpegError, OverflowError, struct.error) as error:  # a GIF's numbers have 16 bits
        remedy, said = "try another size, rate or suffix", getattr(error, "strerror", error)
        raise VideoError(f"{path}: cannot be encoded ({said}); {remedy}") from error


def _encode(path: Path, frames: np.ndarray, fps: float) -> None:
    codec, options, container_options = ENCODERS[path.suffix.lower()]
    if codec == "libx264":
        odd = [(0, side % 2) for side in frames.shape[1:3]]
        frames = np.pad(frames, [(0, 0), *odd, (0, 0)], mode="edge")
    with av.open(str(path.absolute()), "w", container_options=container_options) as container:
        stream = container.add_stream(codec, Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Said in the file as well, or each player guesses which of two YUV matrices was meant.
        stream.codec_context.colorspace = space = Colorspace.ITU709
        stream.codec_context.color_range = levels = ColorRange.MPEG
        to_yuv = partial(VideoReformatter().reformat, dst_colorspace=space, dst_color_range=levels)
        for frame in np.ascontiguousarray(frames):
            rgb = VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(to_yuv(rgb, format="yuv420p")))
        container.mux(stream.encode())


def _gif(path: Path, frames: np.ndarray, fps: float) -> None:
    """One palette for the whole clip, so that still parts stay still."""
    step = max(2, math.ceil(math.sqrt(len(frames) / 2)))  # every frame, but not every pixel
    palette = Image.fromarray(np.concatenate(frames[:, ::step, ::step])).quantize(256)
    images = [Image.fromarray(frame).quantize(palette=palette) for frame in frames]
    ticks = np.round(np.arange(len(frames) + 1) * 100 / fps)  # GIF counts hundredths of a second
    durations = (np.diff(ticks) * 10).astype(int).tolist()
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)
