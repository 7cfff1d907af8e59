"""Which layers of a network can be explained, what they show, and what they cost."""

import re
import time
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from torch import nn
from tqdm import tqdm

from lib.data.video import Clip
from lib.explain.ask import network_inputs
from lib.explain.clip import explain
from lib.explain.explanation import ExplainError, Explanation
from lib.explain.maps import layers_and_logits

BLOCK = re.compile(r"(.*\.)?(blocks?|layers?|stages?)\.\d+$")  # a block, by its name
COLUMNS = "layer", "cells", "a cell sees", "half of it", "adds up", "seconds", ""
NOTE = """
Cells, and what one sees: frames x rows x columns of an input of {}. "half of it" is the part
in the middle that counts for half. adds up: map plus bias is the logit, so the bars of the frames
are parts of the score, and --method cam maps all classes at once; the other layers need
--method gradcam. seconds: of one class. --method occlusion needs no layer. default: what is
explained where no layer is named; chosen by measuring for the network that ships, else a guess.
"""
REFUSED = "Cannot be explained, as (N, C, T, h, w) with more than one cell is needed:"


def table(network: nn.Module, clip: Clip) -> str:
    """The layers of a network that are worth naming, one a line: the last with each number of
    cells, every block, and the default one. Each is explained for the most probable class of the
    clip. Below them, those that cannot be explained, and why.

    Raises ExplainError for a network of which nothing can be explained.
    """
    inputs, refused, rows = network_inputs(network, clip.frames), {}, [COLUMNS]
    reshape = getattr(network, "reshape", None)
    sizes, logits = layers_and_logits(network, inputs, reshape, refused)
    if not sizes:
        raise ExplainError("no layer gives (N, C, T, h, w) with more than one cell")
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    refused |= dict.fromkeys(linear, "linear, with no cells in the frame")
    names, method = list(sizes), getattr(network, "default_method", "cam")
    default = getattr(network, "default_layer", None) or names[-1]
    alike = re.compile(re.sub(r"\d+", r"\\d+", f"{re.escape(default)}$"))  # blocks may give tuples
    kind = BLOCK if any(map(BLOCK.match, names)) else alike
    changes = [sizes[name] != sizes.get(after) for name, after in zip(names, [*names[1:], ""])]
    chosen = [n for n, last in zip(names, changes) if last or n == default or kind.match(n)]
    first = int(logits[0].argmax())
    for name in tqdm(chosen, "layers", leave=False):
        begin = time.perf_counter()
        try:
            found = explain(network, clip, first, name, "gradcam")
        except ExplainError as error:
            refused[name] = str(error)
            continue
        seconds = f"{time.perf_counter() - begin:.1f}"
        sums = "no" if found.bias is None else "yes"
        mark = f"default, with {method}" if name == default else ""
        rows.append((name, _by(sizes[name]), *_seen(found), sums, seconds, mark))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, NOTE.format(_by(inputs.shape[2:])), *_reasons(refused)])


def _seen(found: Explanation) -> tuple[str, str]:
    """How far a cell sees, and how far half of that reaches."""
    if found.footprint is None:
        return "not measured", ""
    whole = found.footprint.shape
    return tuple(
        "all" if (size >= whole).all() else _by(np.minimum(size, whole))
        for size in (np.sum(x, 1).round(1) for x in (found.footprint.field, found.footprint.half))
    )


def _by(sides: Iterable[float]) -> str:
    return "x".join(f"{side:g}" for side in sides)


def _reasons(refused: dict[str, str]) -> list[str]:
    """Why outer layers and blocks cannot be explained, one reason a line."""
    groups = defaultdict(list)
    for name, why in refused.items():
        if "." not in name.removeprefix("model.") or BLOCK.match(name) or repr(name) in why:
            why = why.replace(f" at layer {name!r}", "")
            groups[re.split(";|(?<=refuses):", why)[0]].append(name)
    lines = []
    for why, names in groups.items():
        names = names if len(names) < 4 else [names[0], "...", names[-1]]
        lines.append(f"  {', '.join(names)}: {why}")
    return [REFUSED, *lines] if lines else []
