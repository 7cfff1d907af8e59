"""Draw the miniature Something-Something: `python -m lib.miniature --help`."""

import argparse
import re

from lib.data.something import RELEASES
from lib.miniature.clip import CLASSES
from lib.miniature.dataset import write
from lib.miniature.drawing import FRAME


def _size(text: str) -> tuple[int, int]:
    """(width, height) of "128" or "320x240"."""
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", text, re.ASCII)
    if not sides:
        raise argparse.ArgumentTypeError(f"{text!r}: write a side or both, as 128 or 320x240")
    return int(sides[1]), int(sides[2] or sides[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.miniature",
        description="Draw the miniature Something-Something: the clips and annotations of one of "
        "its releases, and the truth. A run that was stopped goes on where it was.",
    )
    parser.add_argument("root", nargs="?", default="data/miniature", help="folder (%(default)s)")
    parser.add_argument("--clips", type=int, default=1600, help="in all, split 8:1:1 (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--size", type=_size, default=FRAME, help="side, or WIDTHxHEIGHT, in pixels (%(default)s)"
    )
    parser.add_argument(
        "--layout", choices=RELEASES, default="v2", help="v1: JPEGs and CSV; v2: .webm and JSON"
    )
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    args = parser.parse_args()
    if args.workers is not None and args.workers < 1:
        parser.error("--workers must be at least 1")
    try:
        root = write(args.root, args.clips, args.seed, args.size, args.workers, args.layout)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    print(f"{args.clips} clips of {len(CLASSES)} classes in {root}")


if __name__ == "__main__":
    main()
