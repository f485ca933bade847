"""A head whose classes are split over processes: train, kill a process, go on with another number of them.

    torchrun --standalone --nproc-per-node 2 examples/sharded.py --folder runs/sharded
    torchrun --standalone --nproc-per-node 3 examples/sharded.py --folder runs/sharded    # goes on with three

Each process has a part of the head's rows, all of the trunk, and a part of every batch. `--head tree` splits a tree.
The losses do not depend on the number of processes. With GPUs each process takes one.
"""

import argparse
import os
import shutil
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from softmaxes import Head, HierarchicalSoftmax, Softmax, Tree
from softmaxes.optim import LazyRows
from softmaxes.sharded import load, save, shard

FEATURES = 32


class Network(nn.Module):
    """A trunk that every process has, and a head that is split."""

    def __init__(self, head: Head, device: torch.device) -> None:
        super().__init__()
        torch.manual_seed(0)  # the same trunk on all ranks
        self.trunk = DistributedDataParallel(nn.Sequential(nn.Linear(16, FEATURES), nn.ReLU()).to(device))
        self.head = shard(head, average=True, device=device)  # averages gradients, as DistributedDataParallel does


def batch(step: int, size: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """This process's part of a batch. Which examples the whole batch has depends on the step alone."""
    random = torch.Generator().manual_seed(step)
    target = torch.randint(classes, (size,), generator=random)
    bits = target.unsqueeze(1).bitwise_and(2 ** torch.arange(16)).ne(0).float()
    own = torch.arange(size).tensor_split(dist.get_world_size())[dist.get_rank()]
    return (bits + 0.1 * torch.randn(size, 16, generator=random))[own].to(device), target[own].to(device)


def main() -> None:
    """Train, and go on where the folder has a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints are kept; training goes on there")
    parser.add_argument("--head", choices=("flat", "tree"), default="flat")
    parser.add_argument("--classes", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=250, help="examples of all processes together")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=20, help="steps between checkpoints")
    given = parser.parse_args()
    on_gpus = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpus else torch.device("cpu")
    dist.init_process_group("nccl" if on_gpus else "gloo")
    head: Head = Softmax(FEATURES, given.classes, device="meta")  # no process ever holds all rows
    if given.head == "tree":
        head = HierarchicalSoftmax(FEATURES, Tree.balanced(given.classes), sparse=True, device="meta")
    network = Network(head, device)
    optimizer = LazyRows(network.parameters(), torch.optim.AdamW, lr=0.01)
    known = sorted(path for path in given.folder.glob("step-*") if path.suffix != ".part")
    step = load(known[-1], network, optimizer)["step"] if known else 0
    while step < given.steps:
        x, y = batch(step, given.batch_size, given.classes, device)
        optimizer.zero_grad()
        loss = network.head(network.trunk(x), y)
        (loss.sum() * dist.get_world_size() / given.batch_size).backward()  # the parts differ in size
        optimizer.step()
        step += 1
        total = loss.detach().sum()
        dist.all_reduce(total)
        if dist.get_rank() == 0:
            mean = float(total) / given.batch_size
            print(f"step {step}, {dist.get_world_size()} processes: loss {mean:.6f}", flush=True)
        if step % given.every == 0 or step == given.steps:
            save(given.folder / f"step-{step:06d}", network, optimizer, step=step)
            if dist.get_rank() == 0:
                for old in sorted(given.folder.glob("step-*"))[:-2]:
                    shutil.rmtree(old)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
