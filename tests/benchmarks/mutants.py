"""Damaged videos by the thousand: each must give frames or a VideoError, soon and in little memory.

`python tests/benchmarks/mutants.py --count 10000 --seed 0`. Exits with 1 where anything else
happens, and names the mutant: `--first I --count 1` reads mutant I again, `--keep FOLDER` keeps it.
"""

import argparse
import collections
import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from lib.data.video import VideoError, duration, read_clip  # noqa: E402

SECONDS, MEMORY = 20, 3 * 2**30  # limits: of the processor for one read, of all addresses
TIMERS = (signal.SIGPROF, signal.SIGALRM)
BATCH = 50
VIDEOS = {  # with settings that give the same bytes each time
    ".webm": ("libvpx-vp9", {"g": "8", "deadline": "realtime", "cpu-used": "8"}),
    ".mp4": ("libx264", {"g": "8", "bf": "2", "qp": "20", "threads": "1"}),
    ".gif": ("gif", {}),
    ".avi": ("mpeg4", {"g": "8"}),
    ".ts": ("mpeg2video", {"g": "8", "bf": "2"}),
    ".mkv": ("libx264", {"g": "8", "bf": "2", "qp": "20", "threads": "1"}),
}
ZIPS = {".zip": zipfile.ZIP_STORED, ".deflated.zip": zipfile.ZIP_DEFLATED}
OUTCOMES = ("frames", "VideoError", "other error", "too slow", "crash")


def drawn(count: int = 20, height: int = 48, width: int = 64) -> np.ndarray:
    """(T, H, W, 3) uint8: a bright square that moves over noise."""
    frames = np.random.default_rng(0).integers(0, 60, (1, height, width, 3), np.uint8)
    frames = np.repeat(frames, count, axis=0)
    for i, frame in enumerate(frames):
        frame[16:32, 2 * i : 2 * i + 16] = 220
    return frames


def originals() -> dict[str, bytes]:
    """The whole files, by suffix; two zips, stored and deflated."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, (codec, options) in VIDEOS.items():
            path = Path(folder) / f"whole{suffix}"
            how = {"fflags": "bitexact", "movflags": "faststart"}
            with av.open(str(path), "w", container_options=how) as container:
                stream = container.add_stream(codec, 25, options=options)
                stream.height, stream.width = drawn().shape[1:3]
                stream.pix_fmt = "rgb8" if suffix == ".gif" else "yuv420p"
                for frame in drawn():
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode())
            files[suffix] = path.read_bytes()
    for name, method in ZIPS.items():
        files[name] = zipped([jpeg(frame) for frame in drawn()], method)
    return files


def jpeg(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG")
    return file.getvalue()


def zipped(jpegs: list[bytes], method: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as file:
        for number, content in enumerate(jpegs, start=1):
            entry = zipfile.ZipInfo(f"{number:05}.jpg")  # of no date: always the same bytes
            file.writestr(entry, content, method)
    return packed.getvalue()


def mutant(files: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """(suffix, bytes) of a file with a few faults; always the same for a seed and number."""
    rng = np.random.default_rng([seed, number])
    suffix = list(files)[number % len(files)]
    if suffix in ZIPS and rng.random() < 0.5:  # damage that the checksums of the zip do not tell
        jpegs = [jpeg(frame) for frame in drawn()]
        for i in rng.integers(0, len(jpegs), 2):
            jpegs[i] = damaged(jpegs[i], list(files.values()), rng)
        return suffix, zipped(jpegs, ZIPS[suffix])
    return suffix, damaged(files[suffix], list(files.values()), rng)


def damaged(file: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """With one to three faults: bytes flipped, the end cut off, pieces left out or spliced in."""
    changed = bytearray(file)
    for _ in range(rng.integers(1, 4)):
        fault = rng.choice(["flip", "header", "cut", "drop", "splice"])
        if fault in ("flip", "header"):  # most of what a reader can trip over is at the beginning
            end = len(changed) if fault == "flip" else min(len(changed), 1000)
            for at in rng.integers(0, end, rng.integers(1, 20)):
                changed[at] ^= rng.integers(1, 256)
        elif fault == "cut":
            del changed[rng.integers(1, len(changed) + 1) :]
        else:
            piece = b""
            if fault == "splice":
                source = file if rng.random() < 0.7 else others[rng.integers(len(others))]
                begin = rng.integers(len(source))
                piece = source[begin : begin + rng.integers(1, 400)]
            at = rng.integers(len(changed))
            changed[at : at + rng.integers(1, 400)] = piece
        changed = changed or bytearray(1)
    return bytes(changed)


def read(files: dict[str, bytes], seed: int, numbers: range) -> Iterator[tuple[int, str]]:
    """(number, one of OUTCOMES) of each mutant, read in a child process with limits.

    A child reads BATCH of them, as to start one takes longer than to read one. Where it dies, the
    next one goes on behind that mutant.
    """
    while numbers:
        batch = numbers[:BATCH]
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                for number in batch:
                    signal.setitimer(signal.ITIMER_PROF, SECONDS)
                    signal.alarm(6 * SECONDS)  # where it waits instead of working
                    os.write(writer, bytes([_outcome(*mutant(files, seed, number))]))
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            codes = pipe.read()
        _, status = os.waitpid(child, 0)
        yield from zip(batch, [OUTCOMES[code] for code in codes])
        numbers = numbers[len(codes) :]
        if len(codes) < len(batch):
            slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) in TIMERS
            yield numbers[0], "too slow" if slow else "crash"
            numbers = numbers[1:]


def _outcome(suffix: str, file: bytes) -> int:
    """Which of OUTCOMES: a clip must be whole, an error must name the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mutant{suffix}"
        path.write_bytes(file)
        try:
            clip = read_clip(path, frames=8)
            assert clip.frames.shape[0] == 8 and clip.frames.dtype == np.uint8
            assert np.isfinite(clip.times).all() and (np.diff(clip.times) >= 0).all()
            assert duration(path) > 0
            return 0
        except VideoError as error:
            return 1 if str(error).startswith(str(path)) else 2
        except Exception:
            traceback.print_exc()
            return 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop after so many")
    parser.add_argument("--keep", type=Path, help="existing folder for the mutants that fail")
    args = parser.parse_args()
    av.logging.set_level(None)
    files, begun = originals(), time.monotonic()
    counts = {suffix: collections.Counter() for suffix in files}
    numbers = range(args.first, args.first + args.count)
    for number, outcome in read(files, args.seed, numbers):
        suffix, file = mutant(files, args.seed, number)
        counts[suffix][outcome] += 1
        if outcome not in OUTCOMES[:2]:
            print(f"mutant {number} of seed {args.seed} ({suffix}): {outcome}", flush=True)
            if args.keep:
                (args.keep / f"{number}{suffix}").write_bytes(file)
        if args.minutes and time.monotonic() - begun > 60 * args.minutes:
            break
    total = sum(counts.values(), collections.Counter())
    for name, row in {**counts, "all": total}.items():
        print(f"{name:14}", *(f"{row[outcome]:6} {outcome}" for outcome in OUTCOMES), sep="  ")
    print(f"{total.total()} mutants of seed {args.seed} in {time.monotonic() - begun:.0f} s")
    raise SystemExit(total["frames"] + total["VideoError"] != total.total())


if __name__ == "__main__":
    main()
