"""What a step takes of each of many devices, by the number of classes and how the head is split: bytes and arithmetic.

    python benchmarks/scaling_out.py
    python benchmarks/scaling_out.py --classes 1e7 --devices 8 64 --flops 1e14 --bandwidth 5e10 --memory 80e9

Nothing is run on many devices. The counts are those of `softmaxes.sharded`, in float32. Every device has b examples of
D features a step; W devices have N = W b. Seconds are a count divided by a device's rate. Both rates are options; those
not given are measured here: a matrix product on one core, and what two processes exchange. Seconds leave out the trunk,
the optimiser, and what every message costs whatever its size.

| split | rows a device | multiplications | bytes that a device sends |
|---|---|---|---|
| whole | C | 3 b D C | 4 C D x 2 (W - 1) / W: the gradient of all rows |
| flat | C / W | 3 N D C / W | 4 b D x 2 (W - 1): features, and their gradient |
| sampled, K draws | C / W | 3 N D (K / W + 1) | as flat |
| tree | C / W | 3 b D log2 C | 4 (b + 255) D x 2 (W - 1) / W: features to one device each, the top's gradient to all |
"""

import argparse
import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from softmaxes.lab.cost.devices import in_bytes, sent_by_copies, sent_by_rows, sent_by_subtrees

SPLITS = ("whole", "flat", "sampled", "tree")
SECONDS = "s, whole | s, flat | s, sampled | s, tree |"
DRAWS = 0.1  # of the classes, as PartialFC draws them


class Step(NamedTuple):
    """What one device has and does in a step."""

    rows: float  # in bytes, with the optimiser's state
    multiplications: float
    sent: float  # bytes


def step(split: str, classes: float, devices: int, batch: int, features: int, state: int) -> Step:
    """The counts of the table above.

    Args:
        split: one of `SPLITS`.
        classes: C.
        devices: W.
        batch: examples of a device, b.
        features: D.
        state: numbers that the optimiser keeps for each weight.
    """
    row = 4 * features * (1 + state)
    exchanged = sent_by_rows(batch, features, devices)
    if split == "whole":
        sent = sent_by_copies(classes * features, devices)
        return Step(classes * row, 3 * batch * features * classes, sent)
    if split == "flat":
        return Step(classes * row / devices, 3 * batch * features * classes, exchanged)
    if split == "sampled":
        products = 3 * batch * devices * features * (DRAWS * classes / devices + 1)
        return Step(classes * row / devices, products, exchanged)
    sent = sent_by_subtrees(batch, features, classes, devices)
    return Step(classes * row / devices, 3 * batch * features * math.log2(classes), sent)


def measured_flops() -> float:
    """Floating-point operations a second of a matrix product on one core."""
    torch.set_num_threads(1)
    left, right = torch.randn(256, 512), torch.randn(512, 20_000)
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - begin)
    return 2 * 256 * 512 * 20_000 / sorted(times)[3]


def _exchange(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    given = torch.zeros(2, 2**20)
    found = torch.empty_like(given)
    times = []
    for _ in range(12):
        dist.barrier()
        begin = time.perf_counter()
        dist.all_to_all_single(found, given)
        times.append(time.perf_counter() - begin)
    if rank == 0:
        Path(folder, "rate").write_text(str(4 * 2**20 / sorted(times)[6]))
    dist.destroy_process_group()


def measured_bandwidth() -> float:
    """Bytes a second that a process sends to another on this machine."""
    with TemporaryDirectory() as folder:
        spawn(_exchange, args=(folder,), nprocs=2)
        return float(Path(folder, "rate").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=float, nargs="+", default=[1e6, 1e7, 1e8, 1e9])
    parser.add_argument("--devices", type=int, nargs="+", default=[8, 64, 1024])
    parser.add_argument("--batch", type=int, default=64, help="examples of each device a step")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--state", type=int, default=1, help="numbers that the optimiser keeps for a weight: AdamW 2")
    parser.add_argument("--flops", type=float, help="operations a second of a device; measured if not given")
    parser.add_argument("--bandwidth", type=float, help="bytes a second that a device sends; measured if not given")
    parser.add_argument("--memory", type=float, default=80e9, help="bytes of a device")
    given = parser.parse_args()
    flops = given.flops or measured_flops()
    bandwidth = given.bandwidth or measured_bandwidth()
    print(
        f"Each device: {flops / 1e9:,.0f} GFLOP/s, {bandwidth / 1e9:.3g} GB/s sent, {in_bytes(given.memory)} of "
        f"memory, {given.batch:,} examples of {given.features:,} features a step. Each weight: {given.state} number of "
        "the optimiser's state. What does not fit is in italics.\n"
    )
    print("| classes | devices | rows, whole | rows, split | sent, whole | sent, flat | sent, tree | " + SECONDS)
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for classes in given.classes:
        for devices in given.devices:
            of = {split: step(split, classes, devices, given.batch, given.features, given.state) for split in SPLITS}
            rows = [one.rows for one in (of["whole"], of["flat"])]
            memory = [in_bytes(size) if size <= given.memory else f"*{in_bytes(size)}*" for size in rows]
            sent = [in_bytes(of[split].sent) for split in ("whole", "flat", "tree")]
            seconds = [f"{2 * one.multiplications / flops + one.sent / bandwidth:.2g}" for one in of.values()]
            print(f"| {' | '.join([f'{classes:,.0f}', f'{devices:,}', *memory, *sent, *seconds])} |")


if __name__ == "__main__":
    main()
