"""Heads split over processes of this machine: a training step's time, memory and bytes, against the number of classes.

    python benchmarks/sharded.py
    python benchmarks/sharded.py --classes 10000000 --processes 1 4

The heads are sampled softmax and hierarchical softmax over a balanced binary tree, with sparse gradients and SGD. Every
process has a part of the classes and of the batch. Printed are medians over the steps, and the slowest process counts.
Bytes are what the machine's loopback carried in a step, all processes together (Linux). Memory is what a process holds
after the steps, less what it held before the head was made.
"""

import argparse
import ctypes
import gc
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from softmaxes import Head, HierarchicalSoftmax, SampledSoftmax, Sampler, Tree
from softmaxes.sharded import shard

HEADS = ("sampled", "hierarchical")
SAMPLES = 1024
WARM_UP = 3


def plain(name: str, features: int, classes: int) -> Head:
    """The head before it is split: its rows are nowhere."""
    if name == "sampled":
        return SampledSoftmax(features, Sampler.uniform(classes), SAMPLES, sparse=True, device="meta")
    return HierarchicalSoftmax(features, Tree.balanced(classes), sparse=True, device="meta")


def held() -> float:
    """Memory that this process holds, in MB, after what is free is given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def carried() -> int:
    """Bytes that the loopback device has carried."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split()[1])
    raise RuntimeError("expected a loopback device in /proc/net/dev, got none.")


def process(rank: int, given: argparse.Namespace, name: str, classes: int, processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    before = held()
    for turn in range(processes):  # one after the other: the tables of a whole tree take more than a process keeps
        if turn == rank:
            head = plain(name, given.features, classes)
            gc.collect()
        dist.barrier()
    sharded = shard(head, device="cpu")
    del head
    optimizer = torch.optim.SGD(sharded.parameters(), lr=0.1)
    size = given.batch_size // processes
    torch.manual_seed(rank)
    seconds, bytes_sent = [], []
    for step in range(WARM_UP + given.steps):
        x, y = torch.randn(size, given.features, requires_grad=True), torch.randint(classes, (size,))
        dist.barrier()
        start, begin = carried(), time.perf_counter()
        optimizer.zero_grad()
        sharded(x, y).sum().backward()
        optimizer.step()
        taken = torch.tensor(time.perf_counter() - begin)
        dist.barrier()
        sent = carried() - start
        dist.all_reduce(taken, op=dist.ReduceOp.MAX)
        if step >= WARM_UP:
            seconds.append(float(taken))
            bytes_sent.append(sent)
    memory = torch.tensor(held() - before)
    dist.all_reduce(memory, op=dist.ReduceOp.MAX)
    if rank == 0:
        quartiles = statistics.quantiles(seconds, n=4)
        row = {
            "head": name,
            "classes": classes,
            "processes": processes,
            "milliseconds": 1e3 * quartiles[1],
            "spread": 1e3 * (quartiles[2] - quartiles[0]),
            "megabytes": float(memory),
            "kilobytes_sent": statistics.median(bytes_sent) / 1e3,
        }
        Path(folder, "row.json").write_text(json.dumps(row))
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=256, help="examples of all processes together")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    print("| head | classes | processes | ms a step (quartile range) | MB a process | rows, MB | kB sent a step |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in given.heads:
        for classes in given.classes:
            for processes in given.processes:
                with TemporaryDirectory() as folder:
                    spawn(process, args=(given, name, classes, processes, folder), nprocs=processes)
                    row = json.loads(Path(folder, "row.json").read_text())
                rows = 4 * classes * (given.features + 1) / processes / 1e6
                print(
                    f"| {name} | {classes:,} | {processes} | {row['milliseconds']:.1f} ({row['spread']:.1f}) | "
                    f"{row['megabytes']:.0f} | {rows:.0f} | {row['kilobytes_sent']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
