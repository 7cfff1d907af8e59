"""Other people's networks, by name: the video networks of torchvision and of transformers, and the
2D networks of timm, inflated.

`load` gives them the form that `explain` takes, what they were trained on, and a layer to explain.
"""

import socket
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from lib.model.inflate import inflate
from lib.model.networks import Preprocess, fetch

TORCHVISION = {  # frames of a clip and how many a second, as trained; layer; method
    "r3d_18": (16, 15.0, "layer4", "cam"),
    "mc3_18": (16, 15.0, "layer4", "cam"),
    "r2plus1d_18": (16, 15.0, "layer4", "cam"),
    "s3d": (128, 15.0, "features", "gradcam"),
    "mvit_v1_b": (16, 7.5, "blocks.15.norm1", "gradcam"),
    "mvit_v2_s": (16, 7.5, "blocks.15.norm1", "gradcam"),
    "swin3d_t": (32, 15.0, "norm", "cam"),
    "swin3d_s": (32, 15.0, "norm", "cam"),
    "swin3d_b": (32, 15.0, "norm", "cam"),
}
NEEDED = "give a folder of save_pretrained, with the processor's configuration beside the network"
ELSEWHERE = "fetch it where there is internet, and give its folder (--network FOLDER)"
TRANSFORMERS = ("videomae", "timesformer", "vivit", "vjepa2")


@dataclass(frozen=True)
class Tokens:
    """Makes activations (N, C, t, h, w) of a transformer's tokens (N, [1 +] t h w, C).

    grid: t, h, w. skip: how many class tokens come first; they are left out. time_last: the tokens
    run through (h, w, t), as in TimeSformer, whose attention in space sees them frame by frame,
    (N t, 1 + h w, C). Volumes of five axes stay as they are; RuntimeError where tokens do not fit.
    """

    grid: tuple[int, int, int]
    skip: int = 0
    time_last: bool = False

    def __call__(self, tokens: Tensor) -> Tensor:
        if tokens.ndim == 5:
            return tokens
        t, h, w = self.grid
        cells = tokens[:, self.skip :]
        if self.time_last and cells.shape[1] == h * w:
            cells = cells.unflatten(0, (-1, t)).flatten(1, 2)  # (N, t h w, C)
        elif self.time_last:
            cells = cells.unflatten(1, (h, w, t)).movedim(3, 1).flatten(1, 3)  # (N, t h w, C)
        return cells.unflatten(1, self.grid).movedim(-1, 1)  # (N, C, t, h, w)


def channels_first(volume: Tensor) -> Tensor:
    """(N, t, h, w, C), as in Swin, to (N, C, t, h, w); what has its channels first stays as it is.
    The channels are the longest axis."""
    last = volume.shape[-1] == max(volume.shape[1:])
    return volume.movedim(-1, 1) if last else volume


def load(name: str | Path, pretrained: bool = True) -> nn.Module:
    """A network that takes (N, 3, T, H, W) and gives logits (N, K), in eval mode, float32.

    name: of a network of torchvision, such as "swin3d_t"; OWNER/NAME of one on huggingface.co, such
        as "MCG-NJU/videomae-base-finetuned-kinetics"; a folder that one was saved in; or timm/NAME
        of a 2D network of ImageNet, such as "timm/resnet18", which sees a clip frame by frame.
    pretrained: False leaves the weights of a network of torchvision or timm random.

    It carries `classes`; `preprocess`, frames (T, S, S, 3) uint8 to (1, 3, T, H, W), resized and
    never cropped; `frames` and `fps`, the clips it was trained on; and what `explain` begins with,
    `default_layer`, `default_method` and `reshape`, None where the layer gives (N, C, T, h, w).

    Raises ValueError for a name or folder of something else, RuntimeError where weights cannot be
    fetched, ImportError without transformers where it is needed: each says what to do.
    """
    name = str(name)
    if name in TORCHVISION:
        return _torchvision(name, pretrained)
    if name.startswith("timm/") and not Path(name).is_dir():
        return _timm(name.removeprefix("timm/"), pretrained)
    if Path(name).is_dir() or name.count("/") == 1:
        return _transformers(name)
    from timm import is_model

    near = get_close_matches(name, TORCHVISION, n=3, cutoff=0.4) or TORCHVISION
    others = f"timm/{name if is_model(name) else 'NAME'}, or one of torchvision ({', '.join(near)})"
    raise ValueError(f"no network {name!r}: name a folder, OWNER/NAME on huggingface.co, {others}")


def _torchvision(name: str, pretrained: bool) -> nn.Module:
    from torchvision.models import get_model, get_model_weights

    weights = get_model_weights(name).DEFAULT
    network, trained = get_model(name), weights.transforms()
    if pretrained:
        network.load_state_dict(fetch(weights))
    network.classes = list(weights.meta["categories"])
    network.preprocess = Preprocess(trained.crop_size[0], tuple(trained.mean), tuple(trained.std))
    network.frames, network.fps, network.default_layer, network.default_method = TORCHVISION[name]
    reshapes = {"mvit": Tokens((8, 7, 7), skip=1), "swin": channels_first}  # of the last blocks
    network.reshape = reshapes.get(name[:4])
    return network.eval()


def _timm(name: str, pretrained: bool) -> nn.Module:
    import timm
    from huggingface_hub import constants
    from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_model_data_config

    try:
        with _one_try():
            net2d = timm.create_model(name, pretrained=pretrained).eval()
        trained, subset = resolve_model_data_config(net2d), infer_imagenet_subset(net2d)
        if subset is None:
            raise ValueError(f"its {net2d.num_classes} classes are none of ImageNet's")
        network = inflate(net2d, kernel=3, init="centre")
    except OSError as error:
        file = str(timm.get_pretrained_cfg(name).hf_hub_id).replace("/", "--")
        put = f"fetch it where there is internet; put it in {constants.HF_HUB_CACHE}/models--{file}"
        reason = textwrap.shorten(str(error), 160)
        raise RuntimeError(f"timm/{name} cannot be fetched ({reason}): {put}") from error
    except (ValueError, TypeError, RuntimeError) as error:
        remedy = "choose a 2D CNN of timm.list_models(), such as timm/resnet18"
        raise ValueError(f"timm/{name} cannot be loaded ({error}): {remedy}") from error
    network.classes = ImageNetInfo(subset).label_descriptions()
    size, mean, std = (trained[name] for name in ("input_size", "mean", "std"))
    network.preprocess = Preprocess(_side(size[1:]), tuple(mean), tuple(std))
    network.frames, network.fps, network.reshape = 16, 4.0, None  # it takes any clip
    network.default_layer, network.default_method = None, "cam"
    return network


@contextmanager
def _one_try() -> Iterator[None]:
    """Where huggingface.co has no address, what was fetched before is looked for, and nothing else:
    its library would ask again for half a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        if not getproxies():
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


class Transformer(nn.Module):
    """A video classifier of transformers, `model`, in the form of the other networks.

    Where the head reads one token, no logit depends on the other tokens of the last layer: the
    default layer is the last where they still speak, before the last attention.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, c = model, model.config
        *_, layer = [""] + [n for n, _ in self.named_modules() if n.endswith(".layernorm_before")]
        skip, time_last = 1, False
        if c.model_type == "videomae":  # no class token; the head reads the mean, or the first
            skip, size, cell, fps = 0, c.image_size, (c.tubelet_size, _side(c.patch_size)), 7.5
            layer = layer.removesuffix(".layernorm_before") if c.use_mean_pooling else layer
        elif c.model_type == "timesformer":  # its clips are of 256 frames at 30 a second
            time_last, size, cell = True, c.image_size, (1, _side(c.patch_size))
            fps = c.num_frames * 30 / 256
        elif c.model_type == "vivit":  # every second frame of 25 a second
            size, cell, fps = c.image_size, (c.tubelet_size[0], _side(c.tubelet_size[1:])), 12.5
        else:  # vjepa2: no class token; an attention reads all tokens of the encoder
            skip, size, cell, fps = 0, c.crop_size, (c.tubelet_size, _side(c.patch_size)), 4.0
            layer = "model.vjepa2.encoder.layernorm"
        self.frames = c.frames_per_clip if c.model_type == "vjepa2" else c.num_frames
        self.size, self.fps = _side(size), fps
        grid = self.frames // cell[0], self.size // cell[1], self.size // cell[1]
        self.reshape = Tokens(grid, skip, time_last)
        self.classes = [c.id2label[k] for k in range(c.num_labels)]
        self.default_layer, self.default_method = layer, "gradcam"

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) to logits (N, K). ValueError for another T than `frames`."""
        if x.shape[2] != self.frames:
            raise ValueError(f"a clip of {x.shape[2]} frames: this network takes {self.frames}")
        return self.model(x.transpose(1, 2)).logits  # of (N, T, 3, H, W)


def _side(sides: int | Sequence[int]) -> int:
    """The side of a square, given as one number or two."""
    sides = {sides} if isinstance(sides, int) else set(sides)
    if len(sides) != 1:
        raise ValueError(f"sides {sorted(sides)}: frames and patches have to be square")
    return sides.pop()


def _transformers(name: str) -> nn.Module:
    try:
        from transformers import AutoConfig, AutoModelForVideoClassification, AutoVideoProcessor
    except ImportError as error:
        raise ImportError(f"{name} needs transformers: pip install '.[hub]'") from error
    local, safe = Path(name).is_dir(), dict(trust_remote_code=False)
    try:
        with nullcontext() if local else _one_try():
            kind = AutoConfig.from_pretrained(name, **safe)
            if kind.model_type not in TRANSFORMERS:
                raise ValueError(f"{kind.model_type!r} is none of {', '.join(TRANSFORMERS)}")
            if getattr(kind, "attention_type", "") == "space_only":
                raise ValueError("space_only: it gives logits for each frame, not for the clip")
            processor = AutoVideoProcessor.from_pretrained(name, **safe)
            model, found = AutoModelForVideoClassification.from_pretrained(
                name, dtype=torch.float32, weights_only=True, output_loading_info=True, **safe
            )
        if missing := sorted(found["missing_keys"]):
            raise ValueError(f"it has no {missing[0]}: not a network that was trained to classify")
        network = Transformer(model)
        network.preprocess = _preprocess(network.size, processor)
        network.fps = getattr(processor, "fps", None) or network.fps
        if not (isinstance(network.fps, int | float) and network.fps > 0):
            raise ValueError(f"fps is {network.fps!r}")
    except Exception as error:  # a damaged folder raises many kinds
        reason = textwrap.shorten(str(error), 160)
        if local or not isinstance(error, OSError):
            raise ValueError(f"{name} cannot be loaded ({reason}): {NEEDED}") from error
        raise RuntimeError(f"{name} cannot be fetched ({reason}): {ELSEWHERE}") from error
    return network.eval()


def _preprocess(size: int, processor) -> Preprocess:
    """The colours of a processor of transformers, by what it makes of black and of white."""
    ends = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)  # (T, 3, H, W)
    ends[1] = 255
    as_it_is = dict(do_resize=False, do_center_crop=False, do_sample_frames=False)
    (colours,) = processor([ends], return_tensors="pt", **as_it_is).values()  # (1, T, 3, H, W)
    black, white = colours[0, :, :, 0, 0]  # (3,)
    std = 1 / (white - black)
    return Preprocess(size, tuple((-black * std).tolist()), tuple(std.tolist()))
