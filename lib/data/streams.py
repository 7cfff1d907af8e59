"""The frames of a video file and the times at which they are shown, with PyAV."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import dropwhile
from pathlib import Path

import av
import numpy as np
from av.format import Flags
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream

from lib.data.faults import MOST_PIXELS, VideoError, check_pixels

# What is opened, by the name of FFmpeg's demuxer: nothing that reads other files, as playlists do.
# In the first group a seek is exact and a packet says when its frame is shown.
EXACT = {"matroska", "mov", "gif", "flv", "nut", "avi"}
READ_THROUGH = {"mpegts", "mpeg", "asf", "mxf", "ogg", "dv", "ivf", "apng"}
RAW = {*"h264 hevc h263 obu m4v mpegvideo mjpeg yuv4mpegpipe".split()}
HEIF = {*"heic heix heim heis hevc hevx mif1 msf1 avif avis".split()}  # brands of pictures
# With B-frames, FFmpeg takes the time of decoding for the time shown: one or more frames late.
LATE = {"avi", "asf", "mxf"}
LIMITS = {
    "format_whitelist": ",".join(sorted(EXACT | READ_THROUGH | RAW)),
    "protocol_whitelist": "file",
    "max_pixels": str(MOST_PIXELS),
}
VIDEO_SUFFIXES = (  # of the files that are offered or looked for; others are read, too
    *(".webm", ".mp4", ".gif", ".mov", ".avi", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"),
    *(".ogv", ".3gp", ".ts", ".mts", ".m2ts"),
)
REMEDY = "name a .webm, .mp4 or .gif, or convert it"
HD = 720  # rows from which players take BT.709 where a video does not name its YUV matrix
PALE = {16: "HDR (PQ)", 18: "HDR (HLG)", 9: "BT.2020"}  # by FFmpeg's number; 9 of primaries
UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED


@contextmanager
def opened(path: Path) -> Iterator[VideoStream]:
    """The picture stream of a file."""
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: is empty (0 bytes); copy or download it again")
    try:
        container = av.open(str(path.absolute()), options=LIMITS, metadata_errors="replace")
    except av.ArgumentError as error:  # not on the list
        what = "a text, a playlist, a WebP or another picture, or a kind that is not read"
        raise VideoError(f"{path}: {what}; {REMEDY}") from error
    with container:
        if container.metadata.get("major_brand", "")[:4] in HEIF:
            raise VideoError(f"{path}: a HEIC or AVIF picture; {REMEDY}")
        cover, default = Disposition.attached_pic, Disposition.default  # a song's cover is none
        videos = [s for s in container.streams.video if not s.disposition & cover]
        stream = max(videos, key=lambda s: bool(s.disposition & default), default=None)
        if stream is None:
            raise VideoError(f"{path}: has sound or text but no picture; name a video file")
        if stream.codec_context is None:
            raise VideoError(f"{path}: its codec is unknown; copy it again, or convert it to .mp4")
        check_pixels(path, stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": LIMITS["max_pixels"]}
        # Threads pay for large pictures only: for small ones they cost more than they save.
        stream.thread_type = "AUTO" if stream.width * stream.height > 640 * 480 else "NONE"
        yield stream


def extent(path: Path) -> tuple[float, float, str]:
    """Time of the first frame, seconds from it until the last one is gone, a note on colours.

    The length in a header can be missing (browser recordings) or wrong (a file cut short), so the
    packets after the last key frame are read, or else all. Frames without times are counted.
    """
    with opened(path) as stream:
        first = next(decode(stream), None)
        if first is None:
            most = f"{MOST_PIXELS / 1e6:.0f} million pixels"
            large = f"its pictures may be above {most}, make them smaller or copy it again"
            why = "it is cut short, copy it again" if stream.width else large
            raise VideoError(f"{path}: no frame can be decoded; {why}")
        origin = end = first[0]
        context = stream.codec_context
        wide = PALE.get(context.color_trc) or PALE.get(context.color_primaries)
        note = f"{wide} colours are shown as if they were a common video's: pale" if wide else ""
        for second in [1e6, origin] if is_exact(stream) else []:  # 1e6: after any end
            seek(stream, second)
            end = max(map(_end, _packets(stream)))
            if end > origin:
                return origin, end - origin, note
    with opened(path) as stream:
        for last, _ in decode(stream):
            end = last + _interval(stream)
    return origin, end - origin, note


def is_exact(stream: VideoStream) -> bool:
    """Whether a seek leads where it should; else the file is read from its beginning."""
    return _kind(stream) in EXACT and not _is_late(stream)


def seek(stream: VideoStream, second: float) -> None:
    """To the last key frame at or before the second, where the container can seek."""
    with suppress(av.FFmpegError):
        stream.container.seek(int(second / stream.time_base), stream=stream)


def decode(stream: VideoStream, sought=False) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds, frame) in the order shown; a damaged packet is skipped, as players do. Nothing
    where `sought` has not led to a key frame: with intra-refresh, frames would be half grey."""
    raw = bool(stream.container.format.flags & Flags.no_timestamps.value)  # its times are guesses
    late, interval = _is_late(stream), _interval(stream)
    seconds, due = -math.inf, 0.0
    waiting = deque()  # times of decoding, which only rise: the next frame shown has the first
    for packet in dropwhile(lambda packet: not packet.is_keyframe, _packets(stream)):
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            continue
        waiting.append(packet.dts)
        for frame in decoded:
            if sought and not frame.key_frame:
                return
            sought = False
            if late and waiting:
                frame.pts = waiting.popleft()
            known = not raw and frame.time is not None and frame.time > seconds  # not in all AVI
            seconds = frame.time if known else due
            due = seconds + interval
            yield seconds, frame


def picture(
    path: Path, stream: VideoStream, to_rgb: VideoReformatter, cut: Callable, frame: VideoFrame
) -> np.ndarray:
    """(H, W, 3) uint8 RGB as a player shows it: colours, square pixels, upright; then cut."""
    width = max(1, round(frame.width * (stream.sample_aspect_ratio or 1)))
    check_pixels(path, width, frame.height)
    hd = frame.colorspace == UNTAGGED and frame.height >= HD and not frame.format.is_rgb
    matrix = Colorspace.ITU709 if hd else None
    pixels = to_rgb.reformat(frame, width, format="rgb24", src_colorspace=matrix).to_ndarray()
    try:  # a pixel (x, y) is shown at (ax + cy, bx + dy)
        a, b, _, c, d, *_ = np.frombuffer(frame.side_data["DISPLAYMATRIX"], np.int32).tolist()
    except KeyError:
        return cut(pixels)
    except ValueError:  # beside it is side data that PyAV has no name for; only the turn is known
        return cut(np.rot90(pixels, round(frame.rotation / 90)))
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return cut(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _kind(stream: VideoStream) -> str:
    """First name of its demuxer: "mov" for "mov,mp4,m4a,3gp,3g2,mj2"."""
    return stream.container.format.name.split(",")[0]


def _is_late(stream: VideoStream) -> bool:
    return _kind(stream) in LATE and stream.codec_context.has_b_frames


def _packets(stream: VideoStream) -> Iterator[av.Packet]:
    with suppress(IndexError):  # PyAV's, after the last one, where another stream began midway
        yield from stream.container.demux(stream)


def _interval(stream: VideoStream) -> float:
    """Seconds from a frame to the next one."""
    return float(1 / (stream.average_rate or stream.guessed_rate or 25))


def _end(packet: av.Packet) -> float:
    """Second at which the frame in a packet leaves the screen."""
    begin = packet.dts if packet.pts is None else packet.pts  # neither marks the end of the file
    shown = begin is not None and not packet.is_discard  # which an edit list cuts off
    return float((begin + (packet.duration or 0)) * packet.time_base) if shown else 0.0
