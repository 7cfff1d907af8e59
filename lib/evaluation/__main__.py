"""Accuracy of a trained network on a dataset, or on newly drawn miniature test clips, whose
objects, hands and backgrounds it has never seen."""

import numpy as np

from lib.data.arguments import STOPPED, one_line, whole
from lib.data.views import Windows
from lib.evaluation.accuracy import ORDERS, Results, evaluate
from lib.evaluation.command import add_to_record, begin, made_with, make_parser

FRAMES = [f"frame {t}" for t in range(16)]  # each alone


def main() -> None:
    parser = make_parser("lib.evaluation", __doc__)
    add = parser.add_argument
    add("--windows", type=whole(1), default=1, help="with --data: of a clip (%(default)s)")
    add("--clips", type=whole(1), default=600, help="without --data: to draw (%(default)s)")
    add("--seed", type=whole(0, 2**32), default=7, help="without --data: another draws other clips")
    add("--single", action="store_true", help="for a network trained on single frames")
    add("--workers", type=whole(0), default=2, help="processes that read clips (%(default)s)")
    args = parser.parse_args()
    only_with_data = ("split", "classes", "resplit", "windows")
    for name in ("clips", "seed") if args.data else only_with_data:
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} has no effect {'with' if args.data else 'without'} --data")
    network, clips = begin(parser, args, args.clips, args.seed)
    clips = Windows(clips, args.windows) if args.data else clips
    orders = FRAMES if args.single else ORDERS
    with one_line(parser, OSError, ValueError, stopped=STOPPED):
        results = evaluate(network, clips, orders, args.workers).over(args.windows)
        figures = figures_of_frames(results) if args.single else figures_of(results)
        depends = only_with_data if args.data else ("split", "classes", "seed")
        about = made_with(parser, args, *depends)
        add_to_record(args.record, {"single_frame" if args.single else args.split: figures | about})


def figures_of(results: Results) -> dict:
    """The figures of a network, rounded to a thousandth; top-5 where there are more classes."""
    k, (low, high) = len(results.classes), results.interval()
    figures = dict(chance=1 / k, top1=results.accuracy(), top1_low=low, top1_high=high)
    figures |= dict(top5=results.accuracy(k=5)) if k > 5 else {}
    figures |= dict(called_opposite_when_reversed=results.called_opposite())
    figures |= {order: results.accuracy(order) for order in ("shuffled", "still")}
    rounded = {name: round(share, 3) for name, share in figures.items() if not np.isnan(share)}
    recall = {name: round(share, 3) for name, share in results.recall().items()}
    return dict(clips=len(results.labels), **rounded, recall=recall, mistakes=results.mistakes())


def figures_of_frames(results: Results) -> dict:
    """The accuracy of a single-frame network: at its best frame, and of its mean prediction."""
    best = max(map(results.accuracy, FRAMES))
    p = np.mean([results.probabilities(frame) for frame in FRAMES], 0)  # (N, K)
    mean = Results({"forward": p}, results.labels, results.classes).accuracy()
    return dict(clips=len(p), best_frame=round(best, 3), mean_of_frames=round(mean, 3))


if __name__ == "__main__":
    main()
