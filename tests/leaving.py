"""How a process of a group ends in a test."""

import os
from typing import NoReturn

import torch.distributed as dist


def leave() -> NoReturn:
    """End this process at once, as well done.

    A thread of gloo may let go of its last tensor while Python shuts down. PyTorch then aborts the process
    (https://github.com/pytorch/pytorch/pull/179291), though all was done.
    """
    dist.destroy_process_group()
    os._exit(0)
