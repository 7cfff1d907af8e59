"""Several actions in one clip: does the map of an action lie where that action is?

Of clips that the network names rightly, four in a grid or two one after the other, the map of each
one's class should lie in its part. No truth is needed, so this runs on anybody's videos; and a map
that is the same for every class is right in exactly one part of four, or of two. It is the grid
pointing game of Bohle et al. (2021, arXiv 2104.00032) and Rao et al. (2022, arXiv 2205.10435),
carried to time; Li et al. (2021, IEEE TCSVT, "Spatio-temporal perturbations") splice pairs. Here
on a dataset, or on newly drawn miniature clips."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from tqdm import tqdm

from lib.data.arguments import STOPPED, one_line, whole
from lib.evaluation.accuracy import wilson
from lib.evaluation.command import add_to_record, begin, made_with, make_parser
from lib.explain.ask import network_inputs
from lib.explain.explanation import ExplainError
from lib.explain.maps import GRADIENT_METHODS, maps_of, watching
from lib.model.networks import evaluation_mode

PARTS = {"space": (1, 2, 2), "time": (2, 1, 1)}  # along time, height and width
SEED = 11  # of the clips that are drawn
CERTAIN = 0.5  # the least probability of a clip's own class

Group = list[tuple[Tensor, int]]  # inputs (1, 3, T, H, W), each with its class index


def well_known(network: nn.Module, clips: Dataset, size: int) -> Iterator[Group]:
    """Groups of `size` clips of different classes, each named rightly with a probability of at
    least `CERTAIN`, in an order that is drawn once for all. A clip is in one group at most."""
    waiting: list[dict[int, Tensor]] = []
    for index in np.random.default_rng(0).permutation(len(clips)).tolist():
        frames, cls = clips[index]
        inputs = network_inputs(network, frames)
        with evaluation_mode(network), torch.inference_mode():
            probabilities = network(inputs).float().softmax(1)[0]
        if probabilities.argmax() != cls or probabilities[cls] < CERTAIN:
            continue
        group = next((g for g in waiting if cls not in g), None)
        if group is None:
            waiting.append(group := {})
        group[cls] = inputs
        if len(group) == size:
            waiting.remove(group)
            yield [(found, k) for k, found in group.items()]


def together(inputs: list[Tensor], where: str, fit: bool = False) -> Tensor:
    """One input of four (1, 3, T, H, W) in a "space" of 2 by 2, or of two one after the other in
    "time". It is as many times larger, or with `fit` as each was: half the size or frames."""
    if where == "time":
        return torch.cat([x[:, :, :: 2 if fit else 1] for x in inputs], 2)
    if fit:
        half = inputs[0].shape[3] // 2, inputs[0].shape[4] // 2
        inputs = [F.interpolate(x, (x.shape[2], *half), mode="area") for x in inputs]
    return torch.cat([torch.cat(row, 4) for row in (inputs[:2], inputs[2:])], 3)


def shares(
    network: nn.Module, group: Group, where: str, method="cam", layer=None, fit=False
) -> Tensor:
    """Of each clip's class (rows), how the positive part of its map lies on the parts (columns) of
    the clips put together: (P, P), each row sums to 1."""
    x = together([inputs for inputs, _ in group], where, fit)
    classes = torch.tensor([[cls for _, cls in group]], device=x.device)
    with watching(network, x, layer, method != "cam") as seen:
        maps = maps_of(seen, classes, method)[0][0]  # (P, t, h, w)
    if any(cells < parts for cells, parts in zip(maps.shape[1:], PARTS[where])):
        raise ExplainError(f"layer {seen.layer!r}: {tuple(maps.shape[1:])} cells are too few")
    mass = F.adaptive_avg_pool3d(maps.clip(min=0), PARTS[where]).flatten(1)  # (P, P)
    even = torch.full_like(mass, 1 / mass.shape[1])  # of a map without any positive part
    return torch.where(mass.sum(1, keepdim=True) > 0, mass / mass.sum(1, keepdim=True), even)


def figures(found: Iterable[Tensor]) -> dict:
    """How often the right part has the largest share, and how large its share is, with 95%
    intervals: Wilson's, as if the clips of a group, which depend on each other, were one; and the
    normal one of the mean over groups."""
    found = torch.stack(list(found)).double()  # (G, P, P)
    n, p = found.shape[:2]
    own = found.diagonal(dim1=1, dim2=2)  # (G, P)
    others = found - 2 * torch.eye(p)  # below 0 on the diagonal
    right, share = (own > others.amax(2)).double().mean().item(), own.mean().item()
    low, high = wilson(right, n)
    error = 1.96 * own.mean(1).std().item() / n**0.5 if n > 1 else 1.0
    told = dict(groups=n, chance=1 / p, right=right, right_low=low, right_high=high)
    told |= dict(share=share, share_low=max(0.0, share - error), share_high=min(1.0, share + error))
    return {name: round(value, 3) for name, value in told.items()}


def splice(
    network: nn.Module, clips: Dataset, groups: int = 50, methods=("cam",), layer=None, fit=False
) -> dict[str, dict[str, dict]]:
    """`figures` of each method in "space" and "time". ValueError where the network names too few
    clips rightly to make a group."""
    found: dict = {where: {method: [] for method in methods} for where in PARTS}
    for where, parts in PARTS.items():
        known = well_known(network, clips, int(np.prod(parts)))
        for _, group in zip(tqdm(range(groups), where, leave=False), known):
            for method in methods:
                each = shares(network, group, where, method, layer, fit)
                found[where][method].append(each.cpu())
        if not found[where][methods[0]]:
            raise ValueError(f"of {len(clips)} clips too few are named rightly: give more")
    return {where: {m: figures(each) for m, each in of.items()} for where, of in found.items()}


def main() -> None:
    parser = make_parser("lib.evaluation.splice", __doc__)
    add = parser.add_argument
    add("--groups", type=whole(1, 10_000), default=50, help="of four clips, of two (%(default)s)")
    methods = ("cam", *GRADIENT_METHODS)
    add("--methods", nargs="+", choices=methods, default=["cam"], help="of explaining (cam)")
    add("--layer", metavar="NAME", help="module to explain (default: the last)")
    add("--fit", action="store_true", help="shrink the parts: for a network of a single input size")
    args = parser.parse_args()
    network, clips = begin(parser, args, 40 * args.groups, SEED)
    with one_line(parser, OSError, ValueError, stopped=STOPPED):
        found = splice(network, clips, args.groups, args.methods, args.layer, args.fit)
        add_to_record(args.record, {"splice": found | made_with(parser, args, "layer")})


if __name__ == "__main__":
    main()
