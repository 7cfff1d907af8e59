"""Whole numbers that a command is given."""

from argparse import ArgumentTypeError
from collections.abc import Callable

MOST_PROCESSES = 61  # that a pool may have on Windows


def whole(least: int, most: float = float("inf")) -> Callable[[str], int]:
    """The `type` of an argument: for another number it ends in a line, and nothing has begun."""

    def number(text: str) -> int:
        if not least <= int(text) <= most:
            limits = f"at least {least}" if most == float("inf") else f"from {least} to {most}"
            raise ArgumentTypeError(f"{text}: must be {limits}")
        return int(text)

    return number
