"""What the commands share: whole numbers, and one line where something stops them."""

import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread

MOST_PROCESSES = 61  # that a pool may have on Windows
KILLED = "a process that reads clips was killed, perhaps for want of memory: lower --workers"
FULL = "there is not enough memory: lower --batch or --workers"
GPU_FULL = "the GPU has too little memory: lower --batch or use none: CUDA_VISIBLE_DEVICES= COMMAND"
SIGNS = {"DataLoader worker (pid": KILLED, "terminated abruptly": KILLED}  # in an error's text
SIGNS |= {"CUDA out of memory": GPU_FULL, "CUDA error: out of memory": GPU_FULL}
SIGNS |= {"out of memory": FULL, "can't allocate memory": FULL}
STOPPED = "stopped; nothing was written"
GOES_ON = "stopped; the same command goes on from what was written, if anything was"


def whole(least: int, most: int = 10**9, kind=int) -> Callable[[str], int | float]:
    """The `type` of an argument: for another number it ends in a line, and nothing has begun."""

    def number(text: str) -> int | float:
        if not least <= kind(text) <= most:
            raise ArgumentTypeError(f"{text}: must be from {least} to {most}")
        return kind(text)

    return number


def named(text: str) -> Path:
    """The `type` of a file or folder: an empty name would be the folder that one is in."""
    if not text:
        raise ArgumentTypeError("the name is empty")
    return Path(text)


@contextmanager
def one_line(parser: ArgumentParser, *kinds: type[Exception], stopped=GOES_ON) -> Iterator[None]:
    """Errors of these kinds, a killed process, too little memory, Ctrl-C and SIGTERM end a command
    in a line; for the last two it is `stopped`. Letters that a console lacks are escaped."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    hasattr(sys.stdout, "reconfigure") and sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except KeyboardInterrupt:
        parser.exit(130, f"{stopped}\n")
    except (*kinds, RuntimeError) as error:
        told = next((told for sign, told in SIGNS.items() if sign in str(error)), "")
        if not told and not isinstance(error, kinds):
            raise
        said = str(error).rpartition("faults.VideoError: ")[2]  # a DataLoader's has a traceback
        parser.exit(2, f"{told or said.strip()}\n")
    finally:
        signal.signal(signal.SIGTERM, before)


def processes(count: int | None) -> ProcessPoolExecutor:
    """So many, or one for each core. Ctrl-C is the command's to answer; without it they end."""
    return ProcessPoolExecutor(count, initializer=_begin)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
