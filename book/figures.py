"""Figures whose code teaches nothing, drawn to be read on a phone."""

from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

POSITIVE, NEGATIVE, FAINT = "#c2410c", "#47658f", "#9a9ca5"
SIGNED = "PuOr_r"  # purple is negative, white is zero, orange is positive


def kernel_on_frames(frames: np.ndarray, t: int, side: int = 7) -> None:
    """A kernel on frame t, and one that lies on its two neighbours as well."""
    figure, axes = plt.subplots(2, 3, figsize=(3.6, 2.35), dpi=150)
    edges = (len(frames[t]) - side) / 2 - 0.5 + np.arange(side + 1)
    for axis in axes.flat:
        axis.axis("off")
    for axis, shift in [(axes[0, 1], 0), *zip(axes[1], (-1, 0, 1))]:
        axis.imshow(frames[t + shift])
        axis.vlines(edges, edges[0], edges[-1], "white", lw=0.8)
        axis.hlines(edges, edges[0], edges[-1], "white", lw=0.8)
        name = ("frame t - 1", "frame t", "frame t + 1")[shift + 1]
        axis.set_title(name, fontsize=8, pad=3)
    for row, name in enumerate((f"{side} x {side}", f"3 x {side} x {side}")):
        figure.text(0.01, 0.72 - 0.48 * row, name, fontsize=9, weight="bold")
    figure.subplots_adjust(0.22, 0.01, 0.99, 0.92, wspace=0.06, hspace=0.2)


def reach(shares: Sequence[np.ndarray]) -> None:
    """The share of each frame in one cell after 0, 1, ... layers: areas of dots."""
    figure, axis = plt.subplots(figsize=(4.4, 2.6), dpi=150)
    frames = np.arange(len(shares[0])) - len(shares[0]) // 2
    furthest = len(shares)
    for layers, share in enumerate(shares):
        seen, row = share > 0, np.full(len(frames), layers)
        axis.plot(frames[~seen], row[~seen], ".", color=FAINT, ms=2)
        axis.scatter(frames[seen], row[seen], 500 * share[seen], POSITIVE)
        said = f"{seen.sum()} frame" + "s" * (layers > 0)
        axis.text(furthest + 0.6, layers, said, va="center", fontsize=9)
    axis.set(xlim=(-furthest - 0.4, furthest + 0.4), ylim=(-0.6, furthest - 0.4))
    axis.set_xlabel("frames before and after the cell", fontsize=9)
    axis.set_ylabel("layers", fontsize=9)
    axis.tick_params(labelsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    figure.subplots_adjust(left=0.1, right=0.8, bottom=0.2, top=0.98)


def rungs(ladder: dict, profile: str) -> None:
    """Clips a second of each rung over those of the first, on every machine."""
    figure, axes = plt.subplots(
        1, len(ladder), figsize=(4.4, 2.2), dpi=150, sharex=True
    )
    for axis, (machine, found) in zip(np.atleast_1d(axes), ladder.items()):
        rows = found["profiles"][profile]["training"]
        gains = [
            row["clips_per_second"] / rows[0]["clips_per_second"] for row in rows
        ]
        names = [row["rung"].split(":")[0].replace("for a ", "") for row in rows]
        bars = axis.barh(names, gains, color=[FAINT, *[POSITIVE] * (len(rows) - 1)])
        axis.bar_label(
            bars, [f"{gain:.1f}" for gain in gains], padding=2, fontsize=8
        )
        axis.invert_yaxis()
        axis.set_title(machine.replace(" 80GB HBM3", ""), fontsize=8, loc="left")
        axis.tick_params(labelsize=8, bottom=False, labelbottom=False)
        axis.spines[:].set_visible(False)
    figure.tight_layout(w_pad=0.5)


def crossed(pictures: Mapping[str, np.ndarray], row: int, column: int) -> None:
    """Pictures side by side under their names, with a cross at one pixel."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(7.2, 2.6))
    for axis, (name, picture) in zip(axes, pictures.items()):
        axis.imshow(picture, cmap="gray")
        colour = "red" if picture.ndim == 2 else "white"  # a mask is white itself
        axis.plot(column, row, "+", color=colour, ms=12)
        axis.set(xticks=[], yticks=[], title=name)
    figure.tight_layout(pad=0.3)


def intervals(
    found: dict,
    names: Sequence[str],
    measures: Sequence[str],
    controls: Collection[str],
    yardstick: str = "frame differences",
) -> None:
    """A panel for each measure: mean and 95% interval, in hundredths."""
    figure, axes = plt.subplots(1, len(measures), figsize=(9, 4.4), sharey=True)
    for axis, measure in zip(axes, measures):
        for place, name in enumerate(names):
            cell = found[name][measure]
            colour = "#888888" if name in controls else "#b5367a"
            ends = [100 * cell["low"], 100 * cell["high"]]
            axis.plot(ends, [place] * 2, color=colour, lw=2, clip_on=False)
            mean = 100 * cell["mean"]
            axis.plot(mean, place, "o", color=colour, ms=4, clip_on=False)
        mean = 100 * found[yardstick][measure]["mean"]
        axis.axvline(mean, color="#888888", ls=":", lw=1)
        axis.set(title=measure, xlim=(0, 100))
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    figure.tight_layout()
    plt.show()  # before the table that the cell ends with


def cascade(found: dict, names: Sequence[str], controls: Collection[str]) -> None:
    """How alike the maps stay as one stage after another gets random weights."""
    figure, axis = plt.subplots(figsize=(8.4, 3.4))
    for name in names:
        style = dict(color="#888888", ls=":") if name in controls else {}
        values = [1, *(cell["mean"] for cell in found[name].values())]
        axis.plot(values, label=name, marker=".", **style)
    stages = ["trained", *found[names[0]]]
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(stages)), stages, rotation=40, fontsize=8)
    axis.set_ylabel("alike (rank correlation)")
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.tight_layout()
    plt.show()  # before the table that the cell ends with
