"""Plans: from what a user asks for to a study, a list of runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from softmaxes.files import InputError
from softmaxes.lab.bounds import check_between, number
from softmaxes.lab.comparison.execute import check
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.devices import ONE, Devices
from softmaxes.lab.heads import registry
from softmaxes.lab.heads.registry import entry_of, entry_of_ours, one_name
from softmaxes.lab.records import DataCard, LeftOut, Own, Run, Study, Tuning, seed_by_seed, suited
from softmaxes.lab.resolve import callable_part, give, is_own, made_by, own, text_hash, told, unknown
from softmaxes.lab.store import Store
from softmaxes.lab.studies import STUDIES
from softmaxes.lab.studies import Entry as KnownStudy
from softmaxes.lab.training.backbones import BACKBONES
from softmaxes.lab.training.classifier import UnfitError

EVERY_HEAD = "all"
HEADS_BY_DEFAULT = ("softmax", "gumbel", "hierarchical")
HELD_OUT = 0.1  # of the training examples, to tune on
NAMED_IN_TITLE = 5  # more heads than this are counted
MOST_RUNS = 10_000  # of a study

Part = Callable[..., Any]  # of the user's own
MakeStudy = Callable[[DataCard, int, Mapping[str, Any]], Study | Iterable[Run]]


def named_heads(
    option: str, heads: Sequence[str | Part] | Mapping[str, Part | str], every: bool = False
) -> tuple[str, ...]:
    """The names of heads, each known; where `every` says so, perhaps `EVERY_HEAD` alone."""
    pairs = heads.items() if isinstance(heads, Mapping) else ((None, head) for head in heads)
    names = tuple(one_name(head, option) if isinstance(head, str) else give(option, head, name) for name, head in pairs)
    if every and EVERY_HEAD in names:
        if len(names) > 1:
            raise InputError(f"{option}: expected {EVERY_HEAD} alone, or names of heads, got {' '.join(names)}.")
        return names
    for name in names:
        entry_of(name, option, (EVERY_HEAD,) if every else ())
    if len(set(names)) < len(names):
        raise InputError(f"{option}: expected each head once, got {' '.join(names)}.")
    if not names:
        raise InputError(f"{option}: expected a head or more, got none.")
    return names


def check_runs(heads: int, seeds: int) -> None:
    """Refuse more runs than a study may have, before they are made."""
    check_between("--seeds", seeds, 1, max(1, seeds))
    if heads * seeds > MOST_RUNS:
        raise InputError(
            f"--seeds: expected a study of at most {MOST_RUNS:,} runs, "
            f"got {heads} {'head' if heads == 1 else 'heads'} at {number(seeds)} seeds."
        )


def heads_side_by_side(
    data: Data, heads: Sequence[str], seeds: Sequence[int], changes: Mapping[str, Any], devices: Devices = ONE
) -> Study:
    """Every head at every seed, at one setting; of `EVERY_HEAD` those that the data can serve and the devices share."""
    setting = {"data": data.name, "fingerprint": data.fingerprint, **suited(data.kind, changes)}
    left_out: tuple[LeftOut, ...] = ()
    if EVERY_HEAD in heads:
        heads, left_out = _that_fit(data, setting, devices)
    check_runs(len(heads), len(seeds))
    return Study(
        name=data.name,
        title=f"{' · '.join(heads) if len(heads) <= NAMED_IN_TITLE else f'{len(heads)} heads'} on {data.name}",
        description="Classifiers that differ in their output layer alone.",
        runs=with_own(seed_by_seed(heads, seeds, **setting)),
        left_out=left_out,
    )


def known_study(option: str, study: str | Path | Part) -> tuple[str, KnownStudy]:
    """A study by its name, the path of its file, ``module:function``, or as a function, and what it is called.

    Raises:
        InputError: there is no such study.
    """
    if callable(study):
        study = give(option, study)
    name = str(study)
    if name in STUDIES:
        return name, STUDIES[name]
    if name.endswith(".py"):
        make, label = _from_file(option, Path(name)), Path(name).stem
        text = Path(name).read_text(encoding="utf-8", errors="replace")
        known = Own(option=option, name=Path(name).name, source=text_hash({name: text}))
    elif is_own(name):
        make, label = callable_part(option, name, "a function that gives runs"), name.rpartition(":")[2]
        known = own(option, name)
    else:
        raise unknown(option, name, STUDIES, "FILE.py, or module:function")

    def made(card: DataCard, seeds: int, changes: Mapping[str, Any]) -> Study:
        found = made_by(option, name, make, card, seeds, changes)
        if not isinstance(found, Study):
            runs = made_by(option, name, tuple, found) if isinstance(found, Iterable) else ()
            if not runs or not all(isinstance(run, Run) for run in runs):
                raise InputError(f"{option}: expected {name} to give a Study, or Runs, got {type(found).__name__}.")
            found = Study(name=label, title=f"{label} on {card.name}", description=f"The study {label}.", runs=runs)
        for run in found.runs:
            if run.fingerprint != card.fingerprint:
                raise InputError(f"{option}: expected runs of {name} on {card.name}, got one on {run.data}.")
        return found.model_copy(update={"runs": with_own(found.runs), "own": (known,)})

    return label, KnownStudy("A study of the user's own.", "glyphs", made)


def _from_file(option: str, path: Path) -> MakeStudy:
    """The function ``study`` of a Python file, which is run."""
    if not path.is_file():
        raise InputError(f"{option}: expected a Python file with a function study, got no file {path}.")
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{option}: expected a Python file with a function study, got {path}.")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{option}: expected a Python file that runs, got {path} ({told(error)}).") from None
    make = getattr(module, "study", None)
    if not callable(make):
        raise InputError(f"{option}: expected a function study(card, seeds, changes) in {path}, got none.")
    found: MakeStudy = make
    return found


def with_own(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Runs that say which parts of the user's own they are made of."""
    known: dict[tuple[str, str], Own] = {}

    def parts(run: Run) -> tuple[Own, ...]:
        found = []
        for option, name, ours in (
            ("--heads", run.head, entry_of_ours(run.head) is not None),
            ("--backbone", run.backbone, run.backbone in BACKBONES),
        ):
            if not ours and is_own(name):
                if (option, name) not in known:
                    known[option, name] = own(option, name)
                found.append(known[option, name])
        return tuple(found)

    return tuple(run.model_copy(update={"own": parts(run)}) for run in runs)


def tuned(study: Study, trials: int, changes: Mapping[str, Any]) -> Study:
    """The study, to be tuned."""
    if "lr" in changes:
        raise InputError(f"--lr: expected none with --tune, which decides on it, got {changes['lr']:g}.")
    if changes.get("validation") == 0:
        raise InputError("--validation: expected more than 0 with --tune, which chooses on what is held out, got 0.")
    said = (
        f"{study.description} The learning rate of each head, and one setting more of some, is the best of {trials} on "
        "training examples that are held out."
    )
    held_out = study.runs[0].validation or HELD_OUT
    runs = tuple(run.model_copy(update={"validation": held_out}) for run in study.runs)
    return study.model_copy(update={"runs": runs, "tuning": Tuning(trials=trials), "description": said})


def as_tuned(study: Study, folder: Path, changes: Mapping[str, Any]) -> Study:
    """The study with the settings that another comparison has, and without tuning.

    Raises:
        InputError: there is no comparison, or it has no such head.
    """
    if "lr" in changes:
        raise InputError(f"--lr: expected none with --tuned-as, which decides on it, got {changes['lr']:g}.")
    store = Store(folder)
    if not store.has_study():
        raise InputError(f"--tuned-as: expected the folder of a comparison, got {folder}, which has no study.json.")
    other = store.study()
    known = {run.head: run for run in other.runs}
    if missing := [head for head in dict.fromkeys(run.head for run in study.runs) if head not in known]:
        raise InputError(f"--tuned-as: expected a comparison with {' and '.join(missing)}, got {', '.join(known)}.")
    runs = tuple(run.model_copy(update={"lr": known[run.head].lr, "knob": known[run.head].knob}) for run in study.runs)
    said = f"{study.description} Each head has the learning rate and the setting that it has in: {other.title}."
    return study.model_copy(update={"runs": runs, "tuning": None, "description": said})


def _that_fit(data: Data, setting: Mapping[str, Any], devices: Devices) -> tuple[list[str], tuple[LeftOut, ...]]:
    """Every head that the data can serve and the devices can share, and every other one with the reason."""
    card = data.card()
    reasons: dict[str, str] = {}
    for head in registry.HEADS:
        try:
            check(Run(head=head, **setting), data, card, devices)
        except UnfitError as error:
            reasons[head] = str(error).removeprefix(f"{head}: ")
    if len(reasons) == len(registry.HEADS):
        told = "; ".join(dict.fromkeys(reason.rstrip(".") for reason in reasons.values()))
        raise InputError(f"--heads: expected data that at least one head can serve, got {data.name} ({told}).")
    left_out = tuple(LeftOut(head=head, reason=reason) for head, reason in reasons.items())
    return [head for head in registry.HEADS if head not in reasons], left_out
