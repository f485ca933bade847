"""How much memory a process may take, and errors that say there was no more."""

import sys
from contextlib import suppress
from pathlib import Path

TOO_LITTLE = "expected memory for the network and a batch, got too little; a smaller one of either needs less."


def limit_memory(more: int) -> None:
    """Let the system refuse this process more than so many bytes, at once: before a page of them is touched.

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
