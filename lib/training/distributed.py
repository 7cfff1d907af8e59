"""One process or several: `torchrun --nproc-per-node N -m lib.training`, on one machine or more.

Alone, every function here does the obvious thing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def world() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 writes files and shows progress."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def processes() -> Iterator[torch.device]:
    """This process among those of `torchrun`, and its device: NCCL between GPUs, Gloo without."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    started = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        if started:
            dist.destroy_process_group()


def shared(network: nn.Module) -> nn.Module:
    """The network to call in training: gradients are averaged over all processes.

    On GPUs batch norm counts the clips of all processes; on CPUs, where PyTorch has no such layer,
    each process counts its own.
    """
    if world() == 1:
        return network
    if next(network.parameters()).is_cuda:
        convert_sync_batchnorm(network)
    return DistributedDataParallel(network)


def summed(numbers: Tensor) -> Tensor:
    """The sum over all processes."""
    total = numbers.clone()
    if world() > 1:
        dist.all_reduce(total)
    return total


@contextmanager
def alone_first() -> Iterator[None]:
    """`with alone_first():` process 0 goes through first, so that a download happens once."""
    if rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if rank() == 0 and world() > 1:
            dist.barrier()


def unshared(network: nn.Module, wait: bool):
    """A context in which gradients stay in this process, if they are to `wait` for more."""
    return network.no_sync() if wait and world() > 1 else nullcontext()
