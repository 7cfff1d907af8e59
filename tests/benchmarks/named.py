"""Maps of every network that is known by name, held against captum's.

    python tests/benchmarks/named.py [NAME ...]

With random weights, so nothing is fetched: torchvision at their own size, two of timm, and small
ones of each kind of transformers, by the folder they were saved in. At the default layer: HiResCAM
is captum's `LayerGradientXActivation`, summed over the channels; Grad-CAM is its `LayerGradCam`,
which takes layers that give (N, C, T, h, w) alone. The figures are the largest differences, as
shares of the largest value of the map; above 1e-4 the exit status is 1.
"""

import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from test_hub import KINDS, saved  # noqa: E402

from lib import miniature  # noqa: E402
from lib.explain.ask import most_probable, network_inputs  # noqa: E402
from lib.explain.clip import sampling  # noqa: E402
from lib.explain.maps import maps_of, watching  # noqa: E402
from lib.model import hub  # noqa: E402

TIMM = ("timm/resnet18", "timm/efficientnet_lite0")
MOST = 32  # frames: s3d was trained on 128, and takes any number
CLOSE = 1e-4


def row(name: str) -> list[str]:
    """Name, layer, cells, the two differences, seconds."""
    began = time.time()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if name in KINDS:
            saved(folder, name)
            network = hub.load(folder)
        else:
            network = hub.load(name, pretrained=False)
    frames, rate = sampling(network)
    times = np.arange(min(frames, MOST)) / rate
    clip = miniature.draw("test", 0, 1, times, network.preprocess.size)
    inputs = network_inputs(network, clip.frames)
    best = most_probable(network, inputs, 1)[0]
    ours, classes = {}, torch.tensor([[best]])
    for method in ("hirescam", "gradcam"):
        with watching(network, inputs, network.default_layer, True, network.reshape) as seen:
            ours[method] = maps_of(seen, classes, method)[0][0, 0]  # (t, h, w)
    layer = network.get_submodule(seen.layer)
    unfold = seen.reshape or (lambda x: x)
    product = LayerGradientXActivation(network, layer).attribute(inputs, target=best)
    apart = [difference(ours["hirescam"], unfold(product.detach()).sum(1)[0])]
    if product.ndim == 5 and seen.reshape is None:
        theirs = LayerGradCam(network, layer).attribute(inputs, target=best)
        apart.append(difference(ours["gradcam"], theirs.detach()[0, 0]))
    cells = "x".join(map(str, ours["gradcam"].shape))
    told = [f"{x:.0e}" for x in apart] + ["no volume"] * (2 - len(apart))
    right = "" if max(apart) < CLOSE else "DIFFERENT"
    return [name, seen.layer, cells, *told, f"{time.time() - began:.0f}", right]


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def main() -> int:
    names = sys.argv[1:] or [*hub.TORCHVISION, *TIMM, *KINDS]
    rows = [["network", "layer", "cells", "HiResCAM", "Grad-CAM", "seconds", ""]]
    print(*rows[0], sep="  ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            rows.append(row(name))
            print(*rows[-1], sep="  ", flush=True)
    return int(any(right for *_, right in rows[1:]))


if __name__ == "__main__":
    sys.exit(main())
