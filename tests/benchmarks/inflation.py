"""Which 2D networks `inflate` takes: `python tests/benchmarks/inflation.py [NAME ...]`.

`--record book/results/inflation.json` keeps what was found, one network after another: stopped and
started again it goes on, and only the networks that are named are run anew.

The smallest of each family of CNNs of torchvision, and fifty of timm, with random weights, norms
and statistics, in float64. A network is exact if

    still   a clip that stands still gets the 2D network's logits: by the centre start, and by the
            mean start where the first and last frame go on beyond the ends, in place of zeros
    moving  by the centre start, the last volume (N, C, T, h, w) of a moving clip holds for every
            frame what it holds where that frame stands still: no frames are mixed

Any other has to be refused by a TypeError. Differences are shares of how far two pictures' logits
(cells) lie apart.
"""

import argparse
import json
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))

from lib.files import write_text  # noqa: E402
from lib.model.inflate import inflate  # noqa: E402

TORCHVISION = """alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet
inception_v3 mnasnet0_5 mobilenet_v2 mobilenet_v3_small regnet_y_400mf resnet18 resnext50_32x4d
shufflenet_v2_x0_5 squeezenet1_0 vgg11_bn wide_resnet50_2"""
TIMM = """gcresnext26ts convmixer_768_32 convnext_atto cspdarknet53 dla34 dpn48b eca_nfnet_l0
ecaresnet26t edgenext_xx_small efficientnet_b0 ese_vovnet19b_slim_dw fasternet_t0 fbnetc_100
gernet_s ghostnet_050 hardcorenas_a hgnetv2_b0 hrnet_w18_small inception_next_atto
inception_resnet_v2 inception_v4 lcnet_035 legacy_seresnet18 legacy_xception mambaout_femto mixnet_s
mobilenetv1_100 mobilenetv3_small_050 mobilenetv4_conv_small_035 mobileone_s0 nf_resnet26 rdnet_tiny
regnetx_002 repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_14w_8s resnest14d resnet10t resnetv2_50
rexnet_100 selecsls42 skresnet18 starnet_s050 tf_efficientnet_lite0 tinynet_e tresnet_m vgg11
visformer_tiny xception41"""
FRAMES, CLOSE = 5, 1e-6


@torch.no_grad()
def network(library: str, name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A 2D network, the frames of two clips (2, T, 3, S, S), small, and their logits (2, T, K). No
    bias, gamma or statistic is the same for all channels, and pictures can be told apart."""
    import timm
    import torchvision

    make = dict(torchvision=torchvision.models.get_model, timm=timm.create_model)[library]
    options = dict(init_weights=False) if name in ("googlenet", "inception_v3") else {}
    net = make(name, num_classes=7, **options).double().eval()
    for key, x in net.named_parameters():
        if key.endswith("bias"):
            x.normal_(0, 0.1)
        elif x.ndim < 2 or x.std() < 1e-3:
            x.uniform_(0.3, 0.9)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train().momentum = 1.0
    for size in (64, 96, 128, 224):
        frames = torch.rand(2, FRAMES, 3, size, size, dtype=torch.float64)
        try:
            net(frames.flatten(0, 1))
        except (RuntimeError, AssertionError, ValueError):  # too small
            continue
        for norm in norms:
            norm.running_mean += torch.randn_like(norm.running_mean) * norm.running_var.sqrt() / 9
            norm.running_var *= 1 + torch.rand_like(norm.running_var) / 2
        return net, frames, net.eval()(frames.flatten(0, 1)).unflatten(0, (2, FRAMES))
    raise ValueError(f"{name}: no size fits")


def answers(net3d: nn.Module, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Of clips (N, T, 3, S, S): logits (N, K), and the last volume with several cells, by frame."""
    volumes = []

    def keep(_module, _inputs, output) -> None:
        if isinstance(output, Tensor) and output.ndim == 5 and output.shape[3:].numel() > 1:
            volumes[:] = [output.transpose(1, 2)]  # (N, T, C, h, w)

    handles = [m.register_forward_hook(keep) for m in net3d.modules() if m is not net3d]
    logits = net3d(clips.transpose(1, 2))
    for handle in handles:
        handle.remove()
    return logits, volumes[0]


def go_on(net3d: nn.Module) -> nn.Module:
    """Has every 3D convolution repeat a clip's first and last frame, in place of zeros."""
    for conv in net3d.modules():
        if isinstance(conv, nn.Conv3d):
            pads, conv.padding = (0, 0, 0, 0, *2 * conv.padding[:1]), (0, *conv.padding[1:])
            hook = lambda _, x, pads=pads: F.pad(x[0], pads, mode="replicate")  # noqa: E731
            conv.register_forward_pre_hook(hook)
    return net3d


def apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, as a share of how far what is wanted lies apart."""
    return float((found - wanted).abs().max() / (wanted[0] - wanted[-1]).abs().max())


@torch.inference_mode()
def check(library: str, name: str) -> tuple[str, str]:
    """ "exact", "refused", "wrong" or "raw", and what there is to say of it."""
    torch.manual_seed(0)
    net2d, frames, wanted = network(library, name)
    still = frames.flatten(0, 1).unsqueeze(1).expand(-1, FRAMES, -1, -1, -1)
    try:
        centre, mean = inflate(net2d), go_on(inflate(net2d, init="mean"))
    except TypeError as error:
        return "refused", str(error)
    try:
        (logits, volume), (_, moving) = answers(centre, still), answers(centre, frames)
        by_mean, _ = answers(mean, still[[0, -1]])
    except Exception as error:  # whatever it is, it is for this table to show
        return "raw", f"{type(error).__name__}: {error}"
    wanted = wanted.flatten(0, 1)  # (N*T, K)
    off = [apart(logits, wanted), apart(by_mean, wanted[[0, -1]])]
    off += [apart(moving.flatten(0, 1), volume[:, 0])]
    convs = [
        sum(isinstance(m, k) for m in net.modules())
        for net in (centre, net2d)
        for k in ((nn.Conv3d,) if net is centre else (nn.Conv2d,))
    ]
    said = "still {:.0e}, by mean {:.0e}, moving {:.0e}".format(*off)
    return ("exact" if max(off) < CLOSE else "wrong"), f"{said}; {convs[0]} of {convs[1]} grown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    known = args.record.is_file() if args.record else False
    found = json.loads(args.record.read_text())["networks"] if known else {}
    command = "python tests/benchmarks/inflation.py --record book/results/inflation.json"
    versions = {name: version(name) for name in ("torch", "torchvision", "timm")}
    for library, names in ("torchvision", TORCHVISION), ("timm", TIMM):
        for name in names.split():
            key, begun = f"{library}/{name}", time.perf_counter()
            if name in args.names or not args.names and key not in found:
                verdict, said = check(library, name)
                found[key] = dict(verdict=verdict, said=said)
                seconds = time.perf_counter() - begun
                print(f"{key:<40}{verdict:<8}{seconds:4.0f} s  {said}", flush=True)
                if args.record:
                    record = dict(command=command, versions=versions, networks=found)
                    write_text(args.record, json.dumps(record, indent=1) + "\n")
    counts = Counter(of["verdict"] for of in found.values())
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))


if __name__ == "__main__":
    main()
