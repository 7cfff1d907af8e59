"""What several pages share: drawn clips, recorded figures, grids of pictures."""

import json
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure

from lib import miniature
from lib.model import WEIGHTS

CLOSER = "Moving [something] closer to [something]"


def example(label=CLOSER, index=23, seed=5, size=256, frames=16) -> miniature.Drawn:
    """A drawn test clip at 4 frames a second; None: the index picks the class."""
    chosen = None if label is None else miniature.CLASSES.index(label)
    times = np.arange(frames) / 4
    return miniature.draw("test", index, seed, times, size, class_index=chosen)


def record() -> dict:
    """How the shipped network was trained, and how well it did."""
    return json.loads(WEIGHTS.with_suffix(".json").read_text())


def results(name: str) -> dict:
    """The figures in book/results/NAME.json."""
    path = Path(__file__).parent / "results" / f"{name}.json"
    return json.loads(path.read_text())


def show(pictures, titles=(), columns=8, rows=(), width=7.2, **how) -> None:
    """Pictures in a grid, line by line; `titles` stand above the first ones, `rows`
    (names) to the left of each line.

    `how` goes to `imshow`, for pictures of one channel: their colours and limits.
    """
    height, across = np.shape(pictures[0])[:2]
    lines = -(-len(pictures) // columns)
    points = max(8, width / 0.6)  # still read on a phone, where it is shrunk
    deep = max([1 + title.count("\n") for title in titles] or [0])
    above = deep * points / 40 * -(-len(titles) // columns)  # inches
    tall = lines * (width / columns * height / across + 0.05) + above
    figure, axes = plt.subplots(
        lines, columns, figsize=(width, tall), squeeze=False
    )
    longest = max([len(x) for title in titles for x in title.split("\n")] or [1])
    size = min(points, 120 * width / columns / longest)  # of titles: what fits
    for axis, picture in zip(axes.flat, pictures):
        axis.imshow(picture, **how)
    for axis, title in zip(axes.flat, titles):
        axis.set_title(title, fontsize=size)
    for axis, name in zip(axes[:, 0], rows):
        axis.set_ylabel(name, fontsize=points)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    figure.tight_layout(pad=0.3)


def roles_in_colour(truth: miniature.Truth) -> np.ndarray:
    """(T, H, W, 3) uint8: the object orange, the hand blue, a second one green."""
    colours = [[40, 40, 46], [230, 159, 0], [86, 180, 233], [0, 158, 115]]
    return np.array(colours, np.uint8)[truth.roles]


class table:
    """Rows of cells under the names of the columns; the first cell names its row.

    A `note` stands below. HTML that folds on a narrow screen, elsewhere plain text.
    """

    def __init__(self, columns: list[str], rows: list[list], note: str = ""):
        self.columns, self.note = columns, note
        self.rows = [[str(cell) for cell in row] for row in rows]

    def __repr__(self) -> str:
        lines = [self.columns, *self.rows]
        name, *widths = (max(map(len, cells)) for cells in zip(*lines))
        text = [
            "  ".join(
                [line[0].ljust(name), *map(str.rjust, line[1:], widths)]
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*text, *filter(None, [self.note])])

    def _repr_html_(self) -> str:
        first, *others = map(escape, self.columns)
        # A header without words would be read out as one.
        head = f"<th>{first}</th>" if first else "<td></td>"
        columns = list(zip(*self.rows))[1:]
        kinds = [
            ""
            if all(re.match(r"[-+–−.\d]|$", x) for x in cells)
            else ' class="words"'
            for cells in columns
        ]
        head += "".join(
            f"<th{kind}>{name}</th>" for kind, name in zip(kinds, others)
        )
        rows = "".join(
            f"<tr><th>{escape(row[0])}</th>"
            + "".join(
                f'<td{kind} data-column="{name}">{escape(cell)}</td>'
                for kind, name, cell in zip(kinds, others, row[1:])
            )
            + "</tr>"
            for row in self.rows
        )
        note = f"<caption>{escape(self.note)}</caption>" if self.note else ""
        return (
            f'<table class="folds">{note}<thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )


def hundredths(cell: dict) -> str:
    """Mean and 95% interval of a record's cell, in hundredths."""
    mean, low, high = (round(100 * cell[name]) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def verdict(cell: dict, better: str = "ahead", worse: str = "behind") -> str:
    """Is a record's cell greater or less than that of frame differences?"""
    if cell["p"] > 0.05:  # corrected for the number of comparisons
        return "not told apart"
    return better if cell["ahead"][0] > 0 else worse


def marks_table(
    found: dict,
    names: Sequence[str],
    measures: Sequence[str],
    note: str = "",
    said: Callable[[dict], str] = hundredths,
) -> table:
    """Of a record's maps those of these names: what is `said` of each measure."""
    rows = [
        [
            name.replace(", one stage earlier", ", earlier"),
            *(said(found[name][measure]) for measure in measures),
        ]
        for name in names
    ]
    return table(["", *measures], rows, note)


def interval(values: np.ndarray) -> np.ndarray:
    """95% interval of the mean, by resampling: its two ends."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    return np.quantile(means, [0.025, 0.975])


def refused(call: Callable, error: type[Exception]) -> str:
    """What is said where `call` is refused, in short lines; it has to be."""
    try:
        call()
    except error as said:
        return fill(str(said), 60)
    raise AssertionError("this should have been refused, and was not")


def vectors() -> None:
    """Show graphs as vectors; figures with pictures in them stay pixels."""

    def vector(figure: Figure) -> str | None:
        return None if drawn_over(figure) else print_figure(figure, "svg")

    def pixels(figure: Figure) -> str | None:
        return print_figure(figure, base64=True) if drawn_over(figure) else None

    def drawn_over(figure: Figure) -> bool:
        return any(axis.images for axis in figure.axes)

    plt.switch_backend(plt.get_backend())  # now, or it would choose the formats
    formats = get_ipython().display_formatter.formatters
    formats["image/svg+xml"].for_type(Figure, vector)
    formats["image/png"].for_type(Figure, pixels)


if get_ipython():
    vectors()
