"""One process or several: `torchrun --nproc-per-node N -m lib.training`, on one machine or more."""

import atexit
import os
from contextlib import nullcontext

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def join() -> torch.device:
    """Join the processes of `torchrun`, if there are several; the device of this one."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return device


def world() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 writes files and shows progress."""
    return dist.get_rank() if dist.is_initialized() else 0


def shared(network: nn.Module) -> nn.Module:
    """The network as training calls it: gradients are averaged over all processes. On GPUs batch
    norm counts the clips of all, too; on CPUs PyTorch has no such layer."""
    if world() > 1 and next(network.parameters()).is_cuda:
        convert_sync_batchnorm(network)
    return DistributedDataParallel(network) if world() > 1 else network


def unshared(network: nn.Module, wait: bool):
    """A context in which gradients stay in this process, if they are to `wait` for more."""
    return network.no_sync() if wait and world() > 1 else nullcontext()


def summed(numbers: Tensor) -> Tensor:
    """The sum over all processes."""
    if world() > 1:
        dist.all_reduce(numbers)
    return numbers
