"""Draw the moving picture at the top of the README: a clip, its evidence, its ledger.

python book/_ext/landing.py            (what `make landing` runs)
"""

from pathlib import Path

import numpy as np
from lib import miniature
from lib.explain import Explanation, explain, overlay
from lib.model import load
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

PICTURE = Path(__file__).resolve().parents[1] / "_static" / "landing.webp"
SIZE = 256  # of a frame, in pixels
QUALITY = 55


def picture(explanation: Explanation, frame: int, evidence: np.ndarray) -> Image.Image:
    """One frame: the original and its overlay as in the article, the ledger below them."""
    figure = Figure(figsize=(6.4, 4.55), dpi=100, facecolor="white")
    left, right, ledger = figure.subplot_mosaic(
        [["left", "right"], ["ledger", "ledger"]],
        height_ratios=[4, 1],
        gridspec_kw={"left": 0.02, "right": 0.98, "top": 0.9, "bottom": 0.02, "wspace": 0.04,
                     "hspace": 0.06},
    ).values()  # fmt: skip
    for axis, shown in (left, explanation.frames[frame]), (right, evidence[frame]):
        axis.imshow(shown)
        axis.axis("off")
    bars = explanation.ledger(explanation.label)
    colours = np.where(bars < 0, "#47658f", "#c2410c").astype(object)
    colours[frame + 1 :] = "#e3e4e8"
    ledger.bar(range(len(bars)), bars, color=colours)
    ledger.axhline(0, color="#1d1e22", linewidth=0.8)
    ledger.axis("off")
    (first, p), (second, q) = explanation.top(2)
    figure.text(0.02, 0.955, f"{first}  {p:.2f}", weight="bold", fontsize=12)
    figure.text(0.98, 0.957, f"2nd: {second}  {q:.2f}", ha="right", color="#5a5d66", fontsize=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def main() -> None:
    network = load()
    index = network.classes.index("Closing [something]")
    times = np.arange(16) / 4
    drawn = miniature.draw("test", 1, seed=5, times=times, size=SIZE, class_index=index)
    explanation = explain(network, drawn)
    evidence = overlay(explanation, index)
    first, *others = (picture(explanation, t, evidence) for t in range(len(times)))
    first.save(PICTURE, save_all=True, append_images=others, duration=250, loop=0, quality=QUALITY)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
