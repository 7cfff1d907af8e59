"""Draw the miniature Something-Something: the clips and annotations of one of its releases, and the
truth. A run that was stopped goes on where it was."""

import argparse
import re

from lib.data.arguments import MOST_PROCESSES, named, one_line, whole
from lib.data.something import RELEASES
from lib.miniature.clip import CLASSES
from lib.miniature.dataset import MOST_CLIPS, write
from lib.miniature.drawing import FRAME


def _size(text: str) -> tuple[int, int]:
    """(width, height) of "128" or "320x240"."""
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", text, re.ASCII)
    if not sides:
        raise argparse.ArgumentTypeError(f"{text!r}: write a side or both, as 128 or 320x240")
    return int(sides[1]), int(sides[2] or sides[1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.miniature", description=__doc__)
    add = parser.add_argument
    add("root", type=named, nargs="?", default="data/miniature", help="folder (%(default)s)")
    add("--clips", type=whole(1, MOST_CLIPS), default=1600, help="split 8:1:1 (%(default)s)")
    add("--seed", type=whole(0, 2**32), default=0)
    sides = "side, or WIDTHxHEIGHT, in pixels (%(default)s)"
    add("--size", type=_size, default=FRAME, help=sides)
    add("--layout", choices=RELEASES, default="v2", help="v1: JPEGs and CSV; v2: .webm and JSON")
    add("--workers", type=whole(1, MOST_PROCESSES), help="processes (one for each core)")
    args = parser.parse_args()
    with one_line(parser, OSError, ValueError):
        root = write(args.root, args.clips, args.seed, args.size, args.workers, args.layout)
    print(f"{args.clips} clips of {len(CLASSES)} classes in {root}")


if __name__ == "__main__":
    main()
