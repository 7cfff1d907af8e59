"""What this machine is, and in which form it runs a network fastest."""

import os
from importlib.metadata import version

import torch
from torch import nn


def device_of(network: nn.Module) -> torch.device:
    """The device of its parameters."""
    return next(network.parameters()).device


def to_gpu(network: nn.Module) -> nn.Module:
    """The network, on a GPU where there is one."""
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions beat float32 ones here: on GPUs, and CPUs with instructions."""
    has = torch.cpu.get_capabilities()
    return device.type != "cpu" or bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def trains_fast_in_bfloat16(network: nn.Module) -> bool:
    """Whether the network trains faster in bfloat16 where it is: on a CPU, not with depthwise
    convolutions, whose gradients are slower there than in float32."""
    convs = (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    dense, device = all(conv.groups == 1 for conv in convs), device_of(network)
    return fast_bfloat16(device) and (dense or device.type != "cpu")


def channels_last(network: nn.Module) -> nn.Module:
    """The same network with its kernels laid out channels last, 2D and 3D ones."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in layouts:
            parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.ndim])
    return network


def hardware(device_type: str) -> str:
    """The GPU's name, or the number of CPU cores."""
    cores = f"{os.cpu_count()} CPU cores, no GPU"
    return torch.cuda.get_device_name() if device_type == "cuda" else cores


def versions() -> dict[str, str]:
    """Of the libraries that a result depends on."""
    return {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")}
