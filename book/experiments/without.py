"""Drawn again without: how much does the network need the hand, the object, the rest?

A clip is drawn in layers, so it can be drawn again without one of its parts, all else being the
same: nothing is blurred or cut out that the network has never seen so. What the logit of the true
class loses is how much that part matters, and a map should rank the parts alike: by the "sum" of
the map on a part, which favours large parts as the logit does, or by its "mean". FunnyBirds (Hesse
et al. 2023, arXiv 2308.06248) asks this of drawn images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from book.experiments.maps import begin, by_gradient, drawings
from book.experiments.rows import Row, made_by, spearman, table
from lib import miniature
from lib.evaluation import add_to_record, controls
from lib.miniature.clip import PARTS


def agreement(lost: Sequence[float], shares: Sequence[float]) -> float:
    """Rank correlation; what differs by rounding alone is equal."""
    return spearman(*(np.round(values, 9) for values in (lost, shares)))


def without(network: nn.Module, indices: Sequence[int], seed: int) -> Iterator[list[Row]]:
    """Of each clip what its true class's logit loses without each part, and how every map agrees
    with that: none where the camera moves, or with fewer than two parts in sight."""
    for i, drawn, inputs, cls in drawings(network, indices, seed):
        lost, places, size = {}, {}, network.preprocess.size
        with torch.inference_mode():
            whole = network(inputs)[0, cls]
        for part in PARTS:
            other = miniature.draw("test", i, seed, drawn.times, size, without=[part])
            place = (other.frames != drawn.frames).any(3)  # (T, H, W)
            if place.any():
                with torch.inference_mode():
                    less = network(network.preprocess(other.frames).to(inputs.device))[0, cls]
                lost[part], places[part] = float(whole - less), place
        rows: list[Row] = [dict(clip=i, map="the network") | lost]
        if not drawn.truth.camera_moves and len(lost) > 1:
            for name, heat in (by_gradient(network, inputs, cls) | controls(drawn, i)).items():
                row: Row = dict(clip=i, map=name)
                for measure, how in ("sum", np.sum), ("mean", np.mean):
                    on_part = [float(how(heat[place])) for place in places.values()]
                    row[measure] = agreement([*lost.values()], on_part)
                rows.append(row)
        yield rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m book.experiments.without",
        description="Draw test clips again without one of their parts: what does the logit lose, "
        "and does a map rank the parts alike? A stopped run goes on.",
    )
    parser.add_argument("--clips", type=int, default=400, help="to draw (%(default)s)")
    args, network, about, rows = begin(parser, ("without",))
    found = rows["without"].measure(args.clips, lambda i: without(network, i, args.seed))
    about = made_by("without") | dict(measured_on=about | dict(clips=args.clips))
    figures = {against: table(found, against) for against in ("frame differences", "centre blob")}
    add_to_record(args.record, about | figures)


if __name__ == "__main__":
    main()
