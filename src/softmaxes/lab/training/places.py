"""Where one run is trained: on one device, or on one of several that share its batches.

The engine is PyTorch's own, through Lightning Fabric. Ranks count from 0; the first one alone writes files.
"""

import copy
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _BatchNorm

from softmaxes import Tree
from softmaxes.files import InputError, write_whole
from softmaxes.lab.devices import Devices, Strategy
from softmaxes.lab.heads.registry import entry_of
from softmaxes.lab.records import DataCard, Run
from softmaxes.lab.training.checkpoint import check_device, opened_checkpoint, whatever_does_not_fit
from softmaxes.lab.training.classifier import Classifier, UnfitError, rebuild, set_up
from softmaxes.lab.training.fabric import Fabric
from softmaxes.noise import part_of_batch
from softmaxes.sharded import ShardedHead, load, load_plain, save, shard
from softmaxes.sharded.shard import KINDS

PATIENCE = timedelta(days=30)  # that ranks wait for each other: one may load data, or tune, for hours
EPOCH, LAST = "epoch-", "last"  # folders of a checkpoint in parts


def meet(devices: Devices, rank: int, meeting: str) -> None:
    """Join the other processes of a run on this machine. Does nothing where it has one device.

    Args:
        devices: what the run is trained on.
        rank: which of them this process has.
        meeting: an address as `torch.distributed.init_process_group` has it.
    """
    if devices.number == 1:
        return
    size = str(devices.number)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ |= {"GROUP_RANK": "0"}
    dist.init_process_group(
        _backend(devices.kind), init_method=meeting, rank=rank, world_size=devices.number, timeout=PATIENCE
    )


def join_torchrun() -> None:
    """Join the other processes that `torchrun` started."""
    dist.init_process_group(_backend("cuda" if torch.cuda.is_available() else "cpu"), timeout=PATIENCE)


def check_shared(run: Run, classifier: Classifier, devices: Devices) -> None:
    """Refuse a run that several devices cannot share.

    Raises:
        UnfitError: the head or the network is not of a kind that the strategy can share.
    """
    if devices.kind == "cpu" and any(isinstance(module, _BatchNorm) for module in classifier.modules()):
        raise UnfitError(
            f"{run.head}: expected a network without batch normalisation for --devices {devices.number} on the CPU, "
            f"where its statistics would be of a part of each batch, got {run.backbone}."
        )
    learns = entry_of(run.head).growth is not None
    if devices.strategy == "sharded-head" and (learns or type(classifier.head) not in KINDS):
        able = ", ".join(kind.__name__ for kind in KINDS)
        got = "which learns its tree in training" if learns else f"a {type(classifier.head).__name__}"
        raise UnfitError(f"{run.head}: expected one of {able} for --strategy sharded-head, got {run.head}, {got}.")
    if devices.strategy == "fsdp":
        got = "a head that learns its tree in training" if learns else ""
        got = "a network with sparse gradients" if _has_sparse(classifier.trunk) else got
        got = "a parameter that is a single number" if any(one.dim() == 0 for one in classifier.parameters()) else got
        if got:
            raise UnfitError(f"{run.head}: expected what torch's fully_shard can split for --strategy fsdp, got {got}.")


def _has_sparse(network: nn.Module) -> bool:
    return any(getattr(module, "sparse", False) for module in network.modules())


def _backend(kind: str) -> str:
    return "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"


class _Copies(DDPStrategy):
    """`DistributedDataParallel` of the whole network."""

    def setup_module(self, module: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # later versions have another word
            return super().setup_module(module)


class Place:
    """A device that a run has for itself, or one of several that each hold the whole classifier.

    Args:
        devices: what the run is trained on; the processes of several have met.
        precision: as Fabric has it.
    """

    wrapper: ClassVar[type[DDPStrategy]] = _Copies

    def __init__(self, devices: Devices, precision: str) -> None:
        self.devices = devices
        if devices.number == 1:
            self.fabric = Fabric(accelerator=devices.kind, devices=1, precision=precision)  # type: ignore[arg-type]
            self.rank, self.size = 0, 1
            return
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        self.fabric = Fabric(
            accelerator=devices.kind,
            devices=here,
            num_nodes=devices.number // here,
            strategy=self.wrapper(broadcast_buffers=False),  # none differs between ranks
            precision=precision,  # type: ignore[arg-type]
            plugins=[TorchElasticEnvironment()],
        )
        self.fabric.launch()
        self.rank, self.size = self.fabric.global_rank, self.fabric.world_size

    def set_up(self, run: Run, classifier: Classifier) -> tuple[Any, Any]:
        """The model on its device, and an optimiser of all its parameters."""
        if self.size > 1 and self.devices.kind == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(classifier)  # type: ignore[no-untyped-call]
        return set_up(self.fabric, run, classifier)

    def twin(self, classifier: Classifier) -> Classifier | None:
        """A copy of the classifier to try out, or none where it cannot be copied."""
        return copy.deepcopy(classifier)

    def noise_of(self, first: int, size: int) -> AbstractContextManager[None]:
        """Let heads draw a rank's noise as part of the whole batch's.

        Args:
            first: where in the batch the rank's part begins.
            size: how many examples the batch has.
        """
        return part_of_batch(first, size) if self.size > 1 else nullcontext()

    def part(self, batch: Tensor) -> tuple[Tensor, int]:
        """The rows of a batch that are this rank's, and where in the batch they begin."""
        parts = batch.tensor_split(self.size)
        return parts[self.rank], sum(len(part) for part in parts[: self.rank])

    def sum(self, number: Tensor) -> Tensor:
        """The sum over the ranks."""
        if self.size == 1:
            return number
        total = number.detach().clone()
        dist.all_reduce(total)
        return total

    def save(self, path: Path, classifier: Classifier, optimiser: Any, rest: Mapping[str, Any]) -> None:
        """Write what a run needs to go on. All ranks call it."""
        state = {"model": self._weights(classifier), "optimiser": self._state(classifier, optimiser), **rest}
        if self.rank == 0:
            write_whole(path, lambda part: torch.save(state, part))

    def has(self, path: Path) -> bool:
        """Whether there is something to go on from."""
        return path.exists()

    @contextmanager
    def opened(self, path: Path) -> Iterator[Mapping[str, Any]]:
        """What `save` wrote. Whatever does not fit while it is put to use is an error that names the file."""
        self._check_kind(path, folder=False)
        with opened_checkpoint(self.fabric.device, path) as saved:
            yield saved

    def load(self, saved: Mapping[str, Any], classifier: Classifier, optimiser: Any) -> None:
        """Put the weights and the optimiser's state of `opened` where they belong."""
        classifier.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])

    def whole(
        self, run: Run, card: DataCard, tree: Tree | None, path: Path, classifier: Classifier
    ) -> Classifier | None:
        """The trained classifier with all its rows, on the first rank; none on others that lack some."""
        return classifier

    def _weights(self, classifier: Classifier) -> dict[str, Any]:
        return classifier.state_dict()

    def _state(self, classifier: Classifier, optimiser: Any) -> dict[str, Any]:
        state: dict[str, Any] = optimiser.state_dict()
        return state

    def _check_kind(self, path: Path, folder: bool) -> None:
        """Refuse a checkpoint of the other kind: a folder is of a sharded head."""
        if path.is_dir() != folder:
            told = "with --strategy sharded-head" if path.is_dir() else "without --strategy sharded-head"
            raise InputError(
                f"{path}: expected to go on {told}, as the run began, got --strategy {self.devices.strategy}; "
                "delete it to start the run anew."
            )


class _InParts(DDPStrategy):
    """FSDP as `torch.distributed.fsdp.fully_shard` has it: the trunk, and the classifier with what is left."""

    def setup_module(self, module: Any) -> Any:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        module.to(memory_format=torch.contiguous_format)  # the only one that it takes
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        if any(True for _ in module.trunk.parameters()):
            fully_shard(module.trunk, mesh=mesh)
        fully_shard(module, mesh=mesh)
        register_fsdp_forward_method(module, "log_prob")
        return module


class InParts(Place):
    """One of several devices that hold a part of every tensor each. Checkpoints are as those of `Place`."""

    wrapper = _InParts

    def twin(self, classifier: Classifier) -> Classifier | None:
        """None: it cannot be copied."""
        return None

    def load(self, saved: Mapping[str, Any], classifier: Classifier, optimiser: Any) -> None:
        """Put the weights and the optimiser's state of `opened` where they belong."""
        own = classifier.state_dict()
        classifier.load_state_dict({name: _in_parts(whole, own[name]) for name, whole in saved["model"].items()})
        state = saved["optimiser"]
        like = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        parts = {
            place: {name: _in_parts(one, like[place]) for name, one in known.items()}
            for place, known in state["state"].items()
        }
        optimiser.load_state_dict({**state, "state": parts})

    def whole(
        self, run: Run, card: DataCard, tree: Tree | None, path: Path, classifier: Classifier
    ) -> Classifier | None:
        """The trained classifier with all its tensors, on the first rank."""
        weights = self._weights(classifier)
        if self.rank > 0:
            return None
        plain = _rebuilt(run, card, tree, classifier).to(self.fabric.device)
        plain.load_state_dict(weights)
        return plain

    def _weights(self, classifier: Classifier) -> dict[str, Any]:
        return {name: _in_whole(one) for name, one in classifier.state_dict().items()}

    def _state(self, classifier: Classifier, optimiser: Any) -> dict[str, Any]:
        state = optimiser.state_dict()
        known = {
            place: {name: _in_whole(one) for name, one in one.items()} for place, one in sorted(state["state"].items())
        }
        return {**state, "state": known}


def _in_parts(whole: Any, like: Tensor) -> Any:
    """This rank's part of a tensor, as another of its shape is in parts; anything else as it is."""
    if not isinstance(like, DTensor) or not isinstance(whole, Tensor) or whole.shape != like.shape:
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)


def _in_whole(part: Any) -> Any:
    """A tensor that is in parts, whole, in the host's memory; anything else as it is. All ranks call it."""
    return part.full_tensor().cpu() if isinstance(part, DTensor) else part


class _BesideTheHead(_Copies):
    """`DistributedDataParallel` of all but the head's rows, which are not copies of each other."""

    def setup_module(self, module: Any) -> Any:
        own = {f"head.{name}" for name, _ in module.head.named_parameters()}
        if all(name in own for name, _ in module.named_parameters()):
            return module
        module._ddp_params_and_buffers_to_ignore = [*own, *(f"head.{name}" for name, _ in module.head.named_buffers())]
        return super().setup_module(module)


class ByClass(Place):
    """One of several devices that hold the rows of a part of the classes each. A checkpoint is a folder."""

    wrapper = _BesideTheHead

    def noise_of(self, first: int, size: int) -> AbstractContextManager[None]:
        """Nothing: a sharded head draws for the whole batch."""
        return nullcontext()

    def set_up(self, run: Run, classifier: Classifier) -> tuple[Any, Any]:
        """The model on its device with its part of the head, and an optimiser of all its parameters."""
        if not isinstance(classifier.head, ShardedHead):
            classifier.head = shard(classifier.head, average=True, device=self.fabric.device)
        return super().set_up(run, classifier)

    def save(self, path: Path, classifier: Classifier, optimiser: Any, rest: Mapping[str, Any]) -> None:
        """Write what a run needs to go on. All ranks call it."""
        epoch = len(rest["epochs"])
        if self.rank == 0:
            path.mkdir(parents=True, exist_ok=True)
            write_whole(path / f"{EPOCH}{epoch}.json", lambda part: part.write_text(json.dumps(rest), "utf-8"))
        self.fabric.barrier()
        if (folder := path / f"{EPOCH}{epoch}").exists():
            return
        save(folder, classifier, optimiser.optimizer)
        if self.rank == 0:
            for old in path.glob(f"{EPOCH}*"):
                if old.name not in (folder.name, f"{folder.name}.json"):
                    shutil.rmtree(old) if old.is_dir() else old.unlink()

    def has(self, path: Path) -> bool:
        """Whether there is a whole checkpoint; or a file, which is of another kind."""
        return path.is_file() or self._latest(path) is not None

    def _latest(self, path: Path) -> Path | None:
        """The folder of the last epoch that is whole."""
        whole = [one for one in path.glob(f"{EPOCH}*") if re.fullmatch(rf"{EPOCH}\d+", one.name) and one.is_dir()]
        return max(whole, key=lambda one: int(one.name.removeprefix(EPOCH)), default=None)

    @contextmanager
    def opened(self, path: Path) -> Iterator[Mapping[str, Any]]:
        """What `save` wrote."""
        self._check_kind(path, folder=True)
        with whatever_does_not_fit(path):
            if (folder := self._latest(path)) is None:
                raise FileNotFoundError
            saved = json.loads(folder.with_suffix(".json").read_text("utf-8"))
            check_device(path, saved["device"], self.fabric.device)
            yield {**saved, "folder": folder}

    def load(self, saved: Mapping[str, Any], classifier: Classifier, optimiser: Any) -> None:
        """Put the weights and the optimiser's state of `opened` where they belong."""
        load(saved["folder"], classifier, optimiser.optimizer)

    def whole(
        self, run: Run, card: DataCard, tree: Tree | None, path: Path, classifier: Classifier
    ) -> Classifier | None:
        """The trained classifier with all its rows, in the memory of the first rank's host."""
        folder = path / LAST
        if self.rank == 0:
            path.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        self.fabric.barrier()
        save(folder, classifier)
        if self.rank > 0:
            return None
        plain = _rebuilt(run, card, tree, classifier)
        weights = {name: one for name, one in classifier.state_dict().items() if not name.startswith("head.")}
        plain.load_state_dict(weights, strict=False)
        load_plain(folder, plain.head, "head")
        return plain


def _rebuilt(run: Run, card: DataCard, tree: Tree | None, classifier: Classifier) -> Classifier:
    """A whole classifier like one that is in parts, yet without its numbers."""
    return rebuild(run, card, tree).to(next(classifier.parameters()).dtype)


def place_of(devices: Devices, precision: str) -> Place:
    """Where this process trains."""
    kinds: dict[Strategy, type[Place]] = {"ddp": Place, "fsdp": InParts, "sharded-head": ByClass}
    return (Place if devices.number == 1 else kinds[devices.strategy])(devices, precision)
