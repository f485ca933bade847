"""The runs of a study on a Ray cluster: each a task with one core or one GPU, their results written here.

No file system is shared: the data set goes to the machines through Ray's object store, results and weights come back
the same way. Ray is an extra: ``pip install 'softmaxes[cluster]'``, the same on every machine of the cluster.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from softmaxes import __version__
from softmaxes.files import InputError, write_bytes
from softmaxes.lab.comparison.executor import End, Parcel, Task, work
from softmaxes.lab.comparison.processes import Processes
from softmaxes.lab.devices import Devices
from softmaxes.lab.extras import not_installed
from softmaxes.lab.machine import usable_cores
from softmaxes.lab.records import DataCard, Result, Run
from softmaxes.lab.stopping import handlers_kept, uninterrupted
from softmaxes.lab.store import Store
from softmaxes.lab.training.train import Progress as Step

LOCAL = "local"
CONNECT_SECONDS = 10.0
END_SECONDS = 5.0


class Whole(NamedTuple):
    """A finished run, as it comes back from a worker."""

    result: Result
    weights: bytes  # of its .safetensors file


def require_ray() -> Any:
    """Ray, which is an extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise not_installed("--cluster", "ray", "cluster") from None
    return ray


class Cluster:
    """Workers of a Ray cluster, a new process for each run. A worker that dies is replaced, and its run begun anew.

    Args:
        address: ``local`` starts a cluster on this machine, and stops it at the end; or that of one that runs, of which
            this machine is a part.
        card: what is known of the data.
        store: holds the data's tensors, and takes the results. Checkpoints stay with the workers.
        jobs: how many runs at a time; as many as the cluster has cores, or GPUs, if not given.
        devices: of each run, all on one machine; ``auto`` is ``cuda`` where the cluster has GPUs.
        runs: how many there are.

    Raises:
        InputError: there is no Ray, no such cluster, no GPU in it, or no machine with as many as a run has.
    """

    attempts = 3

    def __init__(
        self, address: str, card: DataCard, store: Store, jobs: int | None, devices: Devices, runs: int
    ) -> None:
        self._ray = ray = require_ray()
        self._store = store
        self._running: dict[Any, Run] = {}
        self._failures: dict[Any, str] = {}
        self._jobs = jobs
        _connect(ray, address, jobs)
        try:
            gpu = devices.kind == "cuda" or (devices.kind == "auto" and self._units("GPU") > 0)
            self._kind, self._number = "GPU" if gpu else "CPU", devices.number
            if not self._units(self._kind):
                raise InputError(f"--cluster: expected a cluster with a {self._kind}, got none at {address}.")
            largest = max(int(node.get(self._kind, 0)) for node in _nodes(ray))
            if largest < self._number:
                raise InputError(
                    f"--devices: expected at most {largest}, as many {self._kind}s as a machine of the cluster has, "
                    f"got {self._number}."
                )
            side_by_side = min(self.slots, runs, largest // self._number)
            needs = {"num_cpus": self._number, "num_gpus": self._number if gpu else 0}
            # A process that ends with its run, so that its peak memory is the run's; what dies `run_all` begins again.
            self._task = ray.remote(**needs, max_calls=1, max_retries=0, num_returns="streaming")(_work)
            content = np.memmap(store.tensors(), dtype=np.uint8, mode="r").view(np.ndarray)
            devices = devices._replace(kind="cuda" if gpu else "cpu")
            self._given = ray.put(card), ray.put(content), devices, side_by_side, __version__
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """How many runs there is room for; more when machines join the cluster."""
        return self._jobs or max(1, self._units(self._kind) // self._number)

    @property
    def running(self) -> int:
        """How many there are."""
        return len(self._running)

    def start(self, run: Run) -> None:
        """Hand a run to the cluster, which finds it a machine."""
        self._running[self._task.remote(run, Parcel.of(run), *self._given)] = run

    def news(self) -> Iterator[tuple[Run, Step | End]]:
        """Wait until something is heard of some run; what has finished is stored."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1)
        for stream in ready:
            run = self._running[stream]
            try:
                message = self._ray.get(next(stream))
            except StopIteration:
                del self._running[stream]
                yield run, End(self._failures.pop(stream, None))
            except self._ray.exceptions.RayTaskError as error:  # of the task itself: it would fail again
                del self._running[stream]
                yield run, End(" ".join(str(error.cause).split()))
            except self._ray.exceptions.RayError as error:
                del self._running[stream]
                yield run, End(f"its worker was lost ({type(error).__name__})", lost=True)
            else:
                if isinstance(message, Whole):
                    weights = message.weights
                    write_bytes(self._store.weights(run), weights)
                    self._store.save_result(message.result)
                elif isinstance(message, str):
                    self._failures[stream] = message
                else:
                    yield run, message

    def close(self) -> None:
        """Leave the cluster, which ends what still runs; one that was started here is stopped."""
        with uninterrupted():
            with suppress(Exception):  # whatever became of the cluster
                for stream in self._running:
                    self._ray.cancel(stream)
                ends = [stream.completed() for stream in self._running]  # when their temporary folders are gone
                if ends:
                    self._ray.wait(ends, num_returns=len(ends), timeout=END_SECONDS)
            self._ray.shutdown()

    def _units(self, kind: str) -> int:
        return int(self._ray.cluster_resources().get(kind, 0))


def _connect(ray: Any, address: str, jobs: int | None) -> None:
    """Start a cluster here, or join one; neither prints nor reports anything to anybody."""
    if address.startswith("ray://"):
        raise InputError(f"--cluster: expected local or HOST:PORT of a machine's own cluster, got {address}.")
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # as processes of this machine have it; Ray's own is 15
        with handlers_kept():
            ray.init(address=LOCAL, num_cpus=jobs or usable_cores(), include_dashboard=False, **quiet)
        return
    host, colon, port = address.rpartition(":")
    try:
        if colon:  # which Ray itself would ask for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        with handlers_kept():
            ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise InputError(
            f"--cluster: expected local or the address of a Ray cluster, got {address} ({said})."
        ) from None


def _nodes(ray: Any) -> list[dict[str, float]]:
    """What each machine of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _work(
    run: Run,
    parcel: Parcel,
    card: DataCard,
    content: npt.NDArray[np.uint8],
    devices: Devices,
    jobs: int,
    version: str,
) -> Iterator[Step | str | Whole]:
    """One run, in a process of a worker: it tells what it tells, and at last hands over what came of it."""
    if version != __version__:
        yield f"expected softmaxes {version} on every machine, got {__version__}"
        return
    messages: SimpleQueue[Step | str | None] = SimpleQueue()
    with TemporaryDirectory(prefix="softmaxes-") as folder:
        store = Store(Path(folder))
        content.tofile(store.tensors())
        if devices.number > 1:
            yield from _of_several(run, card, store, devices, jobs)
            if (result := store.result(run)) is not None:
                yield Whole(result, store.weights(run).read_bytes())
            return
        stopped = Event()

        def tell(message: Step | str) -> None:
            if stopped.is_set():
                raise SystemExit
            messages.put(message)

        def train() -> None:
            try:
                with suppress(SystemExit):
                    work(Task(run, card, store, devices, jobs, parcel), tell)
            finally:
                messages.put(None)

        thread = Thread(target=train, daemon=True)
        thread.start()
        try:
            while (message := messages.get()) is not None:
                yield message
        finally:  # which writes to the folder
            stopped.set()
            thread.join(END_SECONDS)
        if (result := store.result(run)) is not None:
            yield Whole(result, store.weights(run).read_bytes())


def _of_several(run: Run, card: DataCard, store: Store, devices: Devices, jobs: int) -> Iterator[Step | str]:
    """A run on several devices of a worker's machine, in a process for each: what it tells, and why it failed."""
    processes = Processes(card, store, jobs, devices)
    try:
        processes.start(run)
        while processes.running:
            for _, news in processes.news():
                if isinstance(news, Step):
                    yield news
                elif news.failure is not None:
                    yield news.failure
    finally:
        processes.close()
