"""The door to the lab: compare heads, train one, tune, repeat a stored run. The command line calls these functions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from rich.console import Console

from softmaxes.files import InputError
from softmaxes.lab.bounds import check_between
from softmaxes.lab.comparison import tune as tuning
from softmaxes.lab.comparison.budget import fit
from softmaxes.lab.comparison.execute import execute
from softmaxes.lab.comparison.finished import Comparison
from softmaxes.lab.comparison.plan import (
    HEADS_BY_DEFAULT,
    Part,
    as_tuned,
    check_runs,
    heads_side_by_side,
    known_study,
    named_heads,
    tuned,
    with_own,
)
from softmaxes.lab.comparison.trackers import require
from softmaxes.lab.data import sources
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.sources import DEFAULT
from softmaxes.lab.devices import Devices, Strategy, number_of_devices, under_torchrun
from softmaxes.lab.elsewhere import read_elsewhere
from softmaxes.lab.machine import chosen_device, usable_cores
from softmaxes.lab.records import MOST_TRIALS, Own, Result, Source, Study, Training
from softmaxes.lab.report.summary import final_scores, next_one
from softmaxes.lab.resolve import give, own
from softmaxes.lab.store import Store, read_record, replaced
from softmaxes.names import file_name

MOST_JOBS = 1000  # processes


def compare(
    data: str | Path | Data | Part | None = None,
    *,
    heads: Sequence[str | Part] | Mapping[str, Part | str] | None = None,
    seeds: int = 3,
    study: str | Path | Part | None = None,
    backbone: str | Part | None = None,
    tune: int | None = None,
    tuned_as: str | Path | None = None,
    seconds: float | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    elsewhere: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    devices: int | None = None,
    strategy: Strategy = "ddp",
    log: Sequence[str] = (),
    console: Console | None = None,
    **options: Any,
) -> Comparison:
    """Train heads side by side on images or vectors, and compare them. What is done is kept, and goes on when repeated.

    It is what ``softmaxes compare`` does; each argument is the option of that name.

    Args:
        data: a name as `load` takes it, a path, `Data` of your own, or a function that gives one.
        heads: names, or heads of your own: functions of feature size and classes, or classes that derive from `Head`.
            In a mapping each has the name that the tables call it.
        seeds: seeds of each head.
        study: a study by its name, the path of its file, or a function; in place of `heads`.
        backbone: a name, or a function of a `DataCard` that makes an `nn.Module` with `out_features`.
        tune: settings to try of each head.
        tuned_as: the folder of another comparison, whose learning rate and knob each head has; in place of tuning.
        seconds: training time of every run, in place of epochs.
        jobs: runs at a time, one thread each.
        cluster: ``local`` or the address of a Ray cluster.
        elsewhere: a CSV file with results from elsewhere, set beside these.
        out: folder for the results; ``runs/DATA`` if not given.
        device: ``auto``, ``cpu`` or ``cuda``.
        devices: of each run; they share every batch. 1 if not given, under ``torchrun`` all of its processes.
        strategy: how several share a run: ``ddp``, ``fsdp`` or ``sharded-head``.
        log: trackers, ``tensorboard`` and ``mlflow``.
        console: shows the progress; standard error if not given. ``Console(quiet=True)`` shows nothing.
        options: the other fields of `Source` (`data_dir`, `image_size`, ...) and of `Training` (`epochs`, `lr`, ...).

    Raises:
        InputError: something does not fit; the message says what was expected and what came.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    source, changes = _sorted(data, backbone, options)
    check_runs(1, seeds)
    check_between("--tune", tune, 2, MOST_TRIALS)
    check_between("--jobs", jobs, 1, MOST_JOBS)
    if cluster is not None:
        from softmaxes.lab.comparison.cluster import require_ray

        if seconds is not None:
            raise InputError(f"--seconds: expected none with --cluster, whose machines may differ, got {seconds:g}.")
        require_ray()
    _check_log(log)
    beside = () if elsewhere is None else read_elsewhere(Path(elsewhere))
    if seconds is not None and number_of_devices(devices) > 1:
        raise InputError(f"--seconds: expected none with several devices a run, got {seconds:g}.")
    if seconds is not None and not 0 < seconds <= 10**9:
        raise InputError(f"--seconds: expected more than 0, got {seconds:g}.")
    if seconds is not None and "epochs" in changes:
        raise InputError(f"--epochs: expected none with --seconds, which decides on them, got {changes['epochs']}.")
    if study is not None:
        label, entry = known_study("--study", study)
        if heads is not None:
            told = " ".join(map(str, heads))
            raise InputError(f"--heads: expected none with --study {label}, which has its own, got {told}.")
        _check_out(out)
        loaded = _loaded(data, source, entry.data)
        card = loaded.data.card()
        check_runs(len(entry.make(card, 1, changes).runs), seeds)
        chosen, name = entry.make(card, seeds, changes), f"{label}-{loaded.data.name}"
    else:
        names = named_heads("--heads", HEADS_BY_DEFAULT if heads is None else heads, every=True)
        check_runs(len(names), seeds)
        _check_out(out)
        place, _ = _where(device, devices, strategy, jobs, cluster)
        loaded = _loaded(data, source, DEFAULT)
        chosen, name = heads_side_by_side(loaded.data, names, range(seeds), changes, place), loaded.data.name
    _check_validation(loaded.data, changes)
    chosen = loaded.named_in(chosen)
    if tuned_as is not None:
        if tune is not None:
            raise InputError(f"--tune: expected none with --tuned-as, which has the settings, got {tune}.")
        chosen = as_tuned(chosen, Path(tuned_as), changes)
    trials = tune if tune is not None or chosen.tuning is None else chosen.tuning.trials
    if trials is not None:
        chosen = tuned(chosen, trials, changes)
    if seconds is not None:
        said = f"{chosen.description} Each head has as many epochs as {seconds:g} seconds of training hold."
        chosen = chosen.model_copy(update={"budget": seconds, "description": said})
    chosen = chosen.model_copy(update={"elsewhere": beside})
    folder = Path("runs") / file_name(name) if out is None else Path(out)
    on: dict[str, Any] = {"device": device, "devices": devices, "strategy": strategy}
    return run_study(chosen, loaded.data, folder, jobs=jobs, **on, cluster=cluster, log=log, console=console)


def train(
    data: str | Path | Data | Part | None = None,
    *,
    head: str | Part = "softmax",
    seed: int = 0,
    backbone: str | Part | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    devices: int | None = None,
    strategy: Strategy = "ddp",
    log: Sequence[str] = (),
    console: Console | None = None,
    **options: Any,
) -> Comparison:
    """Train one head, test it after every epoch, and keep its weights and scores; arguments as `compare` has them."""
    source, changes = _sorted(data, backbone, options)
    check_between("--seed", seed, 0, 2**63 - 1)
    (name,) = named_heads("--head", (head,))
    _check_log(log)
    _check_out(out)
    loaded = _loaded(data, source, DEFAULT)
    _check_validation(loaded.data, changes)
    study = loaded.named_in(heads_side_by_side(loaded.data, (name,), [seed], changes))
    folder = Path("runs") / file_name(f"{file_name(loaded.data.name)}-{name}") if out is None else Path(out)
    on: dict[str, Any] = {"device": device, "devices": devices, "strategy": strategy}
    return run_study(study, loaded.data, folder, jobs=1, **on, log=log, console=console)


class Repetition(NamedTuple):
    """A stored run and the same once more."""

    stored: Result
    again: Result | None
    interval: tuple[float, float] | None  # of accuracies, for 95 % of further seeds, by those that are stored
    seeds: int  # that are stored
    comparison: Comparison


def repeat(
    result: str | Path,
    data: str | Path | Data | Part | None = None,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    devices: int | None = None,
    strategy: Strategy = "ddp",
    console: Console | None = None,
    **options: Any,
) -> Repetition:
    """Train a stored run once more, on the same data.

    Args:
        result: a file ``runs/KEY.json`` of a comparison.
        data: the data of that run, if its name does not say where it lies.
        out: folder for the result; ``runs/repeat-KEY`` if not given.
        device: as `compare` has it, and so `devices` and `strategy`.
        devices: see there.
        strategy: see there.
        console: as `compare` has it.
        options: the other fields of `Source`.

    Raises:
        InputError: there is no such run, or the data are others.
    """
    path = Path(result)
    if not path.is_file():
        raise InputError(f"{path}: expected a file runs/KEY.json of `softmaxes compare`, got none.")
    stored = read_record(path, Result)
    if stored.diverged is not None:
        raise InputError(f"{path}: expected a run that finished, got one that diverged in epoch {stored.diverged}.")
    run = stored.run
    source, _ = _sorted(data, None, options)
    folder = Path("runs") / f"repeat-{run.key}" if out is None else Path(out)
    Store(folder).check()
    loaded = _loaded(data, source, run.data).data
    if loaded.fingerprint != run.fingerprint:
        raise InputError(
            f"{loaded.source}: expected the data of {path}, {run.data} with fingerprint {run.fingerprint[:16]}, "
            f"got {loaded.name} with {loaded.fingerprint[:16]}."
        )
    if (now := with_own((run,))[0]) != run:
        raise InputError(
            f"{path}: expected {' and '.join(part.name for part in now.own)} as it was, got another source."
        )
    study = Study(name=run.data, title=f"{run.head} on {run.data}, once more", description="A repetition.", runs=(run,))
    on: dict[str, Any] = {"device": device, "devices": devices, "strategy": strategy}
    comparison = run_study(study, loaded, folder, jobs=1, **on, console=console)
    others = Store(path.parent.parent)
    seeds = others.results(others.study()) if others.has_study() else []
    known = [final_scores(one).accuracy for one in seeds if one.run.setting == run.setting and one.diverged is None]
    interval = next_one(known) if len(known) > 1 else None
    return Repetition(stored, Store(folder).result(run), interval, len(known), comparison)


def tune(
    data: str | Path | Data | Part | None = None,
    *,
    heads: Sequence[str | Part] | Mapping[str, Part | str] | None = None,
    trials: int = 6,
    backbone: str | Part | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    devices: int | None = None,
    strategy: Strategy = "ddp",
    console: Console | None = None,
    **options: Any,
) -> dict[str, "tuning.Setting"]:
    """The best of some settings of each head, on training examples that are held out.

    ``compare(..., tune=trials, out=out)`` with the same arguments goes on from what was tried here.

    Args:
        data: as `compare` has it, and so all arguments that are not here.
        heads: see there.
        trials: settings to try of each head.
        backbone: see there.
        jobs: see there.
        cluster: see there.
        out: see there.
        device: see there.
        devices: see there.
        strategy: see there.
        console: see there.
        options: see there.

    Returns:
        The chosen setting of each head, by its name.
    """
    source, changes = _sorted(data, backbone, options)
    check_between("trials", trials, 2, MOST_TRIALS)
    check_between("--jobs", jobs, 1, MOST_JOBS)
    names = named_heads("--heads", HEADS_BY_DEFAULT if heads is None else heads, every=True)
    _check_out(out)
    place, jobs = _where(device, devices, strategy, jobs, cluster)
    loaded = _loaded(data, source, DEFAULT)
    _check_validation(loaded.data, changes)
    study = loaded.named_in(heads_side_by_side(loaded.data, names, range(1), changes, place))
    study = tuned(study, trials, changes)
    store = Store(Path("runs") / file_name(loaded.data.name) if out is None else Path(out))
    with store.lock():
        if not store.has_study():
            store.save_study(study, loaded.data.card())
        study = tuning.choose(study, loaded.data, store, jobs, place, console or Console(stderr=True), cluster)
    return {run.head: tuning.Setting(run.lr, run.knob) for run in study.runs}


def run_study(
    study: Study,
    data: Data,
    out: Path,
    *,
    jobs: int | None = None,
    device: str = "auto",
    devices: int | None = None,
    strategy: Strategy = "ddp",
    cluster: str | None = None,
    log: Sequence[str] = (),
    console: Console | None = None,
) -> Comparison:
    """Tune, train and report a study; arguments as `compare` has them.

    Where some runs fail, or the user stops, the report is of those that are whole.
    """
    console = console or Console(stderr=True)
    place, jobs = _where(device, devices, strategy, jobs, cluster)
    store = Store(out)
    with store.lock():
        before = store.study() if store.has_study() else None
        if before is not None and not study.elsewhere and not replaced(before, study):
            study = study.model_copy(update={"elsewhere": before.elsewhere})
        if study.budget is not None:
            study = fit(study, data, place.kind, before, console)
            if before is None:  # or what is cut off while it is tuned would be measured anew
                store.save_study(study, data.card())
        if (other := store.other_before(study)) is not None:
            console.print(
                f"{out}: the page here shows another comparison, {other.title}. It will be kept in "
                f"{store.place_of(other)}, and the page of this one has a link to it.",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        if study.tuning is not None:
            study = tuning.choose(study, data, store, jobs, place, console, cluster)
        try:
            execute(study, data, store, jobs, place, console, cluster, log)
        finally:
            comparison = Comparison.read(out) if store.has_study() else None
            # Unless it was refused: then the folder keeps what was there before.
            if comparison is not None and comparison.study == study and comparison.results:
                _keep_pages(store, console)
                comparison.write_report()
    return comparison or Comparison.read(out)


def _keep_pages(store: Store, console: Console) -> None:
    """Write the pages of earlier comparisons that have none yet where they are kept."""
    for other in store.earlier():
        if not (other.directory / "report.html").exists():
            try:
                Comparison.read(other.directory).write_report()
            except InputError as error:  # its runs were taken away
                console.print(
                    f"{other.directory}: without a page. {error}", highlight=False, markup=False, soft_wrap=True
                )


def _sorted(data: object, backbone: str | Part | None, options: Mapping[str, Any]) -> tuple[Source, dict[str, Any]]:
    """Options of the data, and changes to the training."""
    of_source = {name: options[name] for name in options if name in Source.model_fields}
    changes = {name: options[name] for name in options if name not in of_source}
    if unknown := [name for name in changes if name not in Training.model_fields]:
        raise TypeError(f"expected options that are fields of Source or Training, got {', '.join(unknown)}.")
    if backbone is not None:
        changes["backbone"] = backbone if isinstance(backbone, str) else give("--backbone", backbone)
    Training(**changes)  # refuses values that cannot be
    if isinstance(data, (str, Path)):
        of_source["data"] = str(data)
    return Source(**of_source), changes


class Loaded(NamedTuple):
    """A data set, and what a study says of where it is from."""

    data: Data
    words: tuple[str, ...]  # that name it again on the command line
    own: tuple[Own, ...] = ()  # the function that gave it, if it is the user's own

    def named_in(self, study: Study) -> Study:
        """The study, which says where its data are from."""
        return study.model_copy(update={"data_options": self.words, "own": (*study.own, *self.own)})


def _loaded(data: object, source: Source, default: str) -> Loaded:
    """The data that were given, or named, or of a name that is taken where none is."""
    if isinstance(data, Data):
        data.check_distinct()
        return Loaded(data, Source(data=data.name).words())
    if data is None or isinstance(data, (str, Path)):
        name = source.data if source.data is not None else default
        named = source.model_copy(update={"data": name})
        parts = (own("--data", name),) if sources.is_own_function(name) else ()
        return Loaded(sources.load_source(named), named.words(), parts)
    if not callable(data):
        raise TypeError(f"expected data by name or path, as Data or as a function, got {type(data).__name__}.")
    name = give("--data", data)
    return Loaded(sources.own_data(name), Source(data=name).words(), (own("--data", name),))


def _check_out(out: str | Path | None) -> None:
    """Refuse a folder that is not ours to write to, before anything is loaded."""
    if out is not None:
        Store(Path(out)).check()


def _check_validation(data: Data, changes: Mapping[str, Any]) -> None:
    """Refuse a share to hold out of data that bring a validation part."""
    if data.validation is not None and "validation" in changes:
        raise InputError(
            f"--validation: expected none with {data.name}, which brings {int(data.validation.sum()):,} validation "
            f"{data.kind}s, got {changes['validation']:g}."
        )


def _check_log(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed, before anything is loaded or written."""
    if len(set(names)) < len(names):
        raise InputError(f"--log: expected each tracker once, got {' '.join(names)}.")
    if names:
        require(names)


def _where(
    device: str, number: int | None, strategy: Strategy, jobs: int | None, cluster: str | None
) -> tuple[Devices, int | None]:
    """Devices of each run and number of jobs; on a cluster its machines say what there is."""
    number = number_of_devices(number)
    if number > 1 and not dist.is_available():
        raise InputError(f"--devices: expected 1, for torch was built without torch.distributed, got {number}.")
    if cluster is not None:
        if under_torchrun():
            raise InputError("--cluster: expected none under torchrun, whose processes train, got one.")
        return Devices(device, number, strategy), jobs
    if under_torchrun() and (jobs or 1) > 1:
        raise InputError(f"--jobs: expected 1 under torchrun, whose processes all train one run, got {jobs}.")
    kind = chosen_device(device)
    if kind == "cuda":
        if number > torch.cuda.device_count() and not under_torchrun():
            raise InputError(f"--devices: expected at most {torch.cuda.device_count()} GPUs, got {number}.")
        if number > 1 and (jobs or 1) > 1:
            raise InputError(f"--jobs: expected 1 with several GPUs a run, got {jobs}.")
    return Devices(kind, number, strategy), jobs or (1 if kind == "cuda" else max(1, usable_cores() // number))
