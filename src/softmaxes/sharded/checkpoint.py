"""Checkpoints of models with sharded heads, by `torch.distributed.checkpoint`, as safetensors: none is executed."""

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load as read
from torch.distributed.checkpoint.state_dict_saver import save as write
from torch.distributed.tensor import DTensor

from softmaxes.head import Head
from softmaxes.heads.hierarchical.head import HierarchicalSoftmax
from softmaxes.sharded.cut import Numbers, below, cut, rows_above
from softmaxes.sharded.head import ShardedHead
from softmaxes.sharded.hierarchical import hash_of

WHOLE = "checkpoint.json"  # written last: without it a folder is no checkpoint
VERSION = 1


def save(folder: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **counts: int) -> None:
    """Write a checkpoint of a model with sharded heads in it. All ranks call it.

    It is written beside the folder first, as ``NAME.part``, and takes its name when it is whole. Load it on any number
    of ranks, with `load`, or onto one device, with `load_plain`. `DistributedDataParallel` is taken off the names.

    Args:
        folder: where; nothing may be there.
        model: the model, its sharded heads as modules in it.
        optimizer: its optimiser, or none.
        counts: whole numbers to keep beside it, such as ``step=100``.

    Raises:
        FileExistsError: something is there.
    """
    folder = Path(folder)
    part = folder.with_name(folder.name + ".part")
    first = not dist.is_initialized() or dist.get_rank() == 0
    _agree(not folder.exists(), FileExistsError(f"{folder}: expected nothing there, got something."))
    if first and part.exists():
        shutil.rmtree(part)
    _wait()
    entries = _of_model(model)
    more, told = ({}, {}) if optimizer is None else _of_optimizer(model, optimizer)
    entries = {name: value.contiguous() for name, value in (entries | more).items()}  # weights of images may not be
    writer = HuggingFaceStorageWriter(path=str(part), save_distributed=True)
    with _quietly():
        write(entries, storage_writer=writer, no_dist=not dist.is_initialized())
    if first:
        files = {path.name: path.stat().st_size for path in sorted(part.glob("*.safetensors"))}
        whole = {"version": VERSION, "files": files, "counts": counts, "optimizer": told}
        (part / WHOLE).write_text(json.dumps(whole, indent=1), encoding="utf-8")
        part.rename(folder)
    _wait()


def load(folder: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, int]:
    """Read a checkpoint of `save` into a model and its optimiser, on any number of ranks. All ranks call it.

    Args:
        folder: where the checkpoint is.
        model: a model like the one that was saved; its tensors are written to, and nothing is held twice.
        optimizer: its optimiser, or none.

    Returns:
        The counts.

    Raises:
        FileNotFoundError: there is no whole checkpoint.
        ValueError: it is damaged, or of another model.
    """
    folder = Path(folder)
    whole = _whole(folder)
    _read_module(folder, model, "model.")
    if optimizer is not None:
        _make_state(folder, model, optimizer, whole["optimizer"])
        _read(folder, _of_optimizer(model, optimizer)[0])
    return dict(whole["counts"])


def load_plain(folder: str | Path, head: Head, name: str = "") -> None:
    """Read the head of a checkpoint of `save` into a plain head, in one process, whether others are there or not.

    Args:
        folder: where the checkpoint is.
        head: the plain head, of the kind that was split; its tensors are written to.
        name: the head's name in the model that was saved, such as ``head``; none if it was the model.

    Raises:
        FileNotFoundError: there is no whole checkpoint.
        ValueError: it is damaged, or of another head.

    Cost:
        The memory of the head, and of one piece of a tree.
    """
    folder = Path(folder)
    _whole(folder)
    prefix = f"model.{name}." if name else "model."
    if not isinstance(head, HierarchicalSoftmax):
        _read_module(folder, head, prefix, alone=True)
        return
    tree, parts, whole = head.tree, cut(head.tree), Numbers.of(head.tree)
    saved = torch.zeros(32, dtype=torch.uint8)
    _read(folder, {f"{prefix}tree": saved}, alone=True)
    if not torch.equal(saved, hash_of(tree)):
        raise ValueError(f"{folder}: expected a checkpoint of the same tree, got one of another.")
    above = rows_above(parts, whole)
    with torch.no_grad():
        for key, parameter in head.named_parameters():
            known = parameter.new_zeros(len(above.row), *parameter.shape[1:])
            _read(folder, {f"{prefix}top.{key}": known}, alone=True)
            parameter[above.row] = known * above.sign.view(-1, *[1] * (parameter.dim() - 1)).to(known)
            for piece in (parts.classes > 1).nonzero().flatten().tolist():
                row = below(tree, parts, whole, [piece]).row
                known = parameter.new_zeros(len(row), *parameter.shape[1:])
                _read(folder, {f"{prefix}pieces.{piece}.{key}": known}, alone=True)
                parameter[row] = known


def _whole(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, if all of it is there."""
    try:
        whole = json.loads((folder / WHOLE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder}: expected a checkpoint, got none that is whole: no {WHOLE}.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / WHOLE}: expected the description of a checkpoint, got {error}.") from None
    if not isinstance(whole, dict) or whole.get("version") != VERSION or not isinstance(whole.get("files"), dict):
        raise ValueError(f"{folder / WHOLE}: expected a checkpoint of version {VERSION}, got another.")
    for name, size in whole["files"].items():
        file = folder / name
        got = file.stat().st_size if file.is_file() else None
        if got != size:
            raise ValueError(f"{file}: expected {size} bytes, got {'no file' if got is None else got}.")
    return whole


def _read(folder: Path, entries: dict[str, Tensor], alone: bool = False) -> None:
    reader = HuggingFaceStorageReader(path=str(folder))
    try:
        with _quietly():
            read(entries, storage_reader=reader, no_dist=alone or not dist.is_initialized())
    except (CheckpointException, KeyError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ValueError(f"{folder}: expected a checkpoint of this model, got another: {reason}") from None


def _read_module(folder: Path, module: nn.Module, prefix: str, alone: bool = False) -> None:
    """Read a module's state: first what it checks, such as its tree, then parameters and buffers, in place."""
    state = module.state_dict()
    places = {_place(own) for own in (*module.parameters(), *module.buffers())}
    checked = {name: value.clone() for name, value in state.items() if _place(value) not in places}
    _read(folder, {prefix + _plain(name): value for name, value in checked.items()}, alone)
    try:
        module.load_state_dict(state | checked)
    except RuntimeError as error:
        raise ValueError(f"{folder}: {str(error).strip().splitlines()[-1].strip()}") from None
    _read(folder, {prefix + _plain(name): value for name, value in state.items() if name not in checked}, alone)


def _place(tensor: Tensor) -> int:
    """Where a tensor lies, a part of it where the whole lies."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).untyped_storage().data_ptr()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without a warning that there is one process alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _plain(name: str) -> str:
    return name.removeprefix("module.")


def _of_model(model: nn.Module) -> dict[str, Tensor]:
    return {f"model.{_plain(name)}": value for name, value in model.state_dict().items()}


def _owners(model: nn.Module) -> dict[Tensor, tuple[str, str, ShardedHead | None]]:
    """Of each parameter the prefix of its sharded head, and its name there."""
    owners: dict[Tensor, tuple[str, str, ShardedHead | None]] = {
        parameter: ("", _plain(name), None) for name, parameter in model.named_parameters()
    }
    for prefix, module in model.named_modules():
        if isinstance(module, ShardedHead):
            before = f"{_plain(prefix)}." if prefix else ""
            owners |= {parameter: (before, name, module) for name, parameter in module.named_parameters()}
    return owners


def _of_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its state by name, and what is told of it: the state's parts that have a parameter's shape, and the groups."""
    entries: dict[str, Tensor] = {}
    owners = _owners(model)
    shapes: dict[str, dict[str, Any]] = {}
    groups = []
    for group in optimizer.param_groups:
        names = []
        for parameter in group["params"]:
            prefix, name, head = owners[parameter]
            names.append(prefix + name)
            for key, value in optimizer.state.get(parameter, {}).items():
                if not isinstance(value, Tensor):
                    continue
                like = value.shape == parameter.shape
                shapes.setdefault(prefix + name, {})[key] = [like, str(value.dtype).removeprefix("torch.")]
                stored = head.stored(name, value) if head is not None and like else {name: value}
                entries |= {f"optimizer.{prefix}{entry}.{key}": one for entry, one in stored.items()}
        options = {
            option: value
            for option, value in group.items()
            if isinstance(value, (bool, int, float, str, type(None), tuple, list)) and option != "params"
        }
        groups.append({"params": names, "options": options})
    return entries, {"state": shapes, "groups": groups}


def _make_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, told: dict[str, Any]) -> None:
    """Give the optimiser what is to be read into, and its groups the options that were saved."""
    owners = _owners(model)
    saved = told.get("groups", [])
    if len(saved) != len(optimizer.param_groups):
        raise ValueError(
            f"{folder}: expected the state of an optimiser with {len(optimizer.param_groups)} groups, got {len(saved)}."
        )
    for group, known in zip(optimizer.param_groups, saved, strict=True):
        for option, value in known["options"].items():
            group[option] = tuple(value) if isinstance(value, list) else value
        for parameter in group["params"]:
            prefix, name, _ = owners[parameter]
            state = optimizer.state.get(parameter, {})
            for key, (like, dtype) in told["state"].get(prefix + name, {}).items():
                if key not in state:
                    made = torch.zeros_like(parameter) if like else torch.zeros(())
                    state[key] = made.detach().to(getattr(torch, dtype))
            if state:
                optimizer.state[parameter] = state


def _agree(well: bool, error: Exception) -> None:
    """Raise on all ranks if one of them has a reason to."""
    if dist.is_initialized():
        told = torch.tensor([int(well)])
        dist.all_reduce(told, op=dist.ReduceOp.MIN)
        well = bool(told)
    if not well:
        raise error


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
