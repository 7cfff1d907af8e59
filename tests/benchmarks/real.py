"""Other people's networks with their real weights: `python tests/benchmarks/real.py [NAME ...]`.

Needs internet, or folders as names: what `lib.model.hub` takes. Each network is loaded and explains
a drawn clip by its own layer and method, as `python -m lib.explain --network NAME` does. A line
says what it took the clip for, and how far the map is from adding up to the logit, where it should;
what goes wrong is told at the end, and is the exit status.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from lib import miniature  # noqa: E402
from lib.explain import explain  # noqa: E402
from lib.explain.ask import most_probable, network_inputs  # noqa: E402
from lib.explain.clip import sampling  # noqa: E402
from lib.model import hub  # noqa: E402

TRANSFORMERS = """MCG-NJU/videomae-base-finetuned-kinetics MCG-NJU/videomae-base-finetuned-ssv2
facebook/timesformer-base-finetuned-k400 facebook/timesformer-base-finetuned-ssv2
google/vivit-b-16x2-kinetics400 facebook/vjepa2-vitl-fpc16-256-ssv2"""
NAMES = [*hub.TORCHVISION, "timm/resnet18", *TRANSFORMERS.split()]


def look(name: str) -> str:
    """What the network makes of the clip, in a line. ValueError where that cannot be right."""
    began, network = time.time(), hub.load(name)
    frames, rate = sampling(network)
    clip = miniature.draw("test", 0, 1, np.arange(frames) / rate, 256).frames
    best = most_probable(network, network_inputs(network, clip))[0]
    found = explain(network, clip, best)
    map, told = found.map(best), ""
    if not map.any():
        raise ValueError("the map is zero everywhere")
    if found.bias is not None:
        told = f", off by {abs(map.sum() + found.bias[best] - found.logits[best]):.1e}"
    took = "; ".join(f"{p:.2f} {c}" for c, p in found.top())
    where = f"{found.method} at {found.layer}, {map.shape} cells{told}"
    return f"{took} | {where} | {time.time() - began:.0f} s"


def main(arguments: list[str] | None = None) -> str | None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument(
        "names", nargs="*", default=NAMES, metavar="NAME", help="(all that are known)"
    )
    faults = []
    for name in parser.parse_args(arguments).names:
        try:
            print(f"{name}: {look(name)}", flush=True)
        except (ValueError, RuntimeError, ImportError, OSError) as error:
            faults.append(f"{name}: {error}")
    return "\n".join(faults) or None


if __name__ == "__main__":
    sys.exit(main())
