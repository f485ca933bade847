"""The machine: cores, memory, clock and device, as far as the system tells."""

import math
import os
import platform
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from softmaxes.files import InputError
from softmaxes.lab.devices import ONE, Devices
from softmaxes.lab.records import Machine

if TYPE_CHECKING:
    import torch

TOO_LITTLE = "expected memory for the network and a batch, got too little; a smaller one of either needs less."


def machine(device: "torch.device", jobs: int, devices: Devices = ONE) -> Machine:
    """Where this process runs; `jobs` runs share the machine, each with some devices."""
    import torch

    processor = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text("utf-8", "replace").splitlines()
            if "model name" in line
        ]
        processor = names[0] if names else processor
    return Machine(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        processor=processor,
        cores=os.cpu_count() or 1,
        jobs=jobs,
        devices=devices.number,
        strategy=devices.strategy if devices.number > 1 else None,
        python=platform.python_version(),
        torch=torch.__version__,
        softmaxes=version("softmaxes"),
    )


def now(device: "torch.device") -> float:
    """Seconds of a clock, after all that a GPU was given to do is done."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory(device: "torch.device") -> float:
    """MiB: the peak of this process on a CPU, of the allocator on a GPU; NaN where the system does not tell."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return math.nan
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def limit_memory(more: int) -> None:
    """Let the system refuse this process more than `more` bytes, at once: before a page of them is touched.

    What the process has reserved already is not counted, as most of it is never touched: the stacks and buffers of
    linear algebra's threads are 80 MiB a core.
    """
    if sys.platform == "win32":
        return
    import resource

    with suppress(ValueError, OSError):
        most = _reserved() + more
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def of_process(name: str) -> int:
    """KiB that the system says of this process under a name; an OSError where it says nothing."""
    lines = Path("/proc/self/status").read_text("utf-8", "replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def _reserved() -> int:
    """Bytes of memory that this process may write to, touched or not; 0 where the system does not tell."""
    try:
        return of_process("VmData") * 2**10
    except OSError:
        return 0


def too_little(error: BaseException) -> bool:
    """Whether an error says that there was too little memory: torch's own is a RuntimeError like others."""
    text = str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and ("alloc" in text or "memory" in text))


def chosen_device(name: str) -> Literal["cpu", "cuda"]:
    """The device that an option means: ``auto`` takes a GPU if there is one.

    Raises:
        InputError: it is a GPU, and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise InputError("--device: expected a GPU that torch can use for cuda, got none.")
    return "cuda" if there and name != "cpu" else "cpu"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that this process may still take, as far as Linux says; none where nobody does."""
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    group = Path("/sys/fs/cgroup")  # of a container, if there is one
    try:
        limit, used = (int((group / f"memory.{name}").read_text("utf-8")) for name in ("max", "current"))
        lines = (group / "memory.stat").read_text("utf-8").splitlines()
        given_back = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, StopIteration):  # none, or without a limit
        return free
    return max(min(free, limit - used + given_back), 0)


def memory_at_hand() -> float:
    """GiB of memory that may be taken without others having to give theirs up; 4 where the system does not tell."""
    free = free_memory()
    return 4.0 if free is None else round(0.9 * free / 2**30, 1)
