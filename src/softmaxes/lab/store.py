"""Where a comparison lives on disk: a folder of small files, each written whole or not at all."""

import hashlib
import json
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from softmaxes.files import InputError, check_json, is_part, read_whole, remove_parts, write_whole
from softmaxes.lab.fields import Record
from softmaxes.lab.records import DataCard, Result, Run, Study
from softmaxes.lab.stopping import uninterrupted
from softmaxes.names import file_name

AnyRecord = TypeVar("AnyRecord", bound=Record)
MOST_BYTES = 2**28  # of a record; those of runs over some million classes have a tenth
MOST_VALUES = 2**25  # in it
MOST_LISTS = 2**22  # and dictionaries in it: there is one for each pair of classes that were confused
Marks = Mapping[str, type[Record]]

COMPARISON: Marks = {"study.json": Study, "data.json": DataCard}
KEY = "[0-9a-f]{16}"
LOCK = ".lock"
TUNING = "tuning"  # a folder as this one, in it
EARLIER = "earlier"  # has a folder for each comparison whose page made room for another's; the runs stay where they are
FILES = {  # all that is written whole, by the folder that it lies in: the names, as a regular expression
    ".": r"(study|data|scale|together)\.json|data\.safetensors|report\.html|mlflow\.db"
    r"|(table|differences|frequency|nearest|tuning)\.(csv|md|tex)",
    "runs": rf"{KEY}\.(json|safetensors|checkpoint)",
    "cells": rf"{KEY}\.json",
    "figures": r"\w[\w.-]*\.(png|pdf|svg)",
}
INSIDE = (
    *list(FILES)[1:],
    TUNING,
    EARLIER,
    "tensorboard",
    "mlflow.db",
    "mlflow-artifacts",
)  # what others write to, too


class Store:
    """A folder with ``study.json``, ``data.json`` and, for each run, ``runs/KEY.json`` and ``runs/KEY.safetensors``.

    A folder is ours if it has such a record. There we write, and remove, what has a name of `FILES` in its place, and
    nothing else; nor do we write to any other folder but to one that is empty.

    Args:
        directory: the folder; it is made when something is first written.
        marks: the records by which the folder is known as ours, by their files' names.
    """

    def __init__(self, directory: Path, marks: Marks = COMPARISON) -> None:
        self.directory = directory
        self._marks = marks

    def checkpoint(self, run: Run) -> Path:
        """Where an unfinished run keeps what it needs to go on."""
        return self._runs / f"{run.key}.checkpoint"

    def weights(self, run: Run) -> Path:
        """The weights of a finished run."""
        return self._runs / f"{run.key}.safetensors"

    @property
    def _runs(self) -> Path:
        """The folder of the runs: of an earlier comparison that of the latest one."""
        return (self.directory.absolute().parent.parent if self.is_earlier else self.directory) / "runs"

    @property
    def is_earlier(self) -> bool:
        """Whether it holds a comparison whose page made room for another's."""
        above = self.directory.absolute().parent
        return above.name == EARLIER and (above.parent / "study.json").is_file()

    def tensors(self) -> Path:
        """The data set, for the processes that train; it is removed when the runs are done."""
        return self.directory / "data.safetensors"

    def check(self) -> None:
        """Refuse a folder that is not ours to write to. Nothing is written.

        Raises:
            InputError: it holds other files than ours, or a link that leads out of it where we would write.
        """
        try:
            names = {path.name for path in self.directory.iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return  # it will be made, or cannot be
        except OSError as error:
            raise InputError(f"{self.directory}: expected a folder to write to, got {error.strerror}.") from None
        for name in INSIDE:
            if name in names and (self.directory / name).is_symlink():
                raise InputError(f"{self.directory / name}: expected a place in this folder, got a link to another.")
        marked = [name for name in self._marks if name in names]
        for name in marked:
            read_record(self.directory / name, self._marks[name])
        if marked:
            return
        for name in sorted(names):
            if not self._begun(name):
                raise InputError(
                    f"{self.directory}: expected an empty folder or one that this command made, got one with {name!r}."
                )

    def _begun(self, name: str) -> bool:
        """Whether what is called so in the folder may be of a command that was killed before its first record."""
        path = self.directory / name
        if name == TUNING and path.is_dir():
            Store(path).check()
            return True
        try:
            known = path.lstat()
        except FileNotFoundError:  # of a process that works there and has gone on
            return True
        empty = stat.S_ISREG(known.st_mode) and known.st_size == 0
        return is_part(name, FILES["."]) or (name == LOCK and empty)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing here; the system lets go of it when this process ends, however it ends.

        What a writer that was killed has left is removed. If nothing is written the folder is as before, or gone.

        Raises:
            InputError: the folder is not ours to write to, or another process writes there, or its name is not UTF-8,
                which safetensors requires.
        """
        self.check()
        if self.is_earlier:
            raise InputError(f"{self.directory}: expected a folder of one's own, got one that keeps an earlier page.")
        try:
            str(self.directory).encode()
        except UnicodeEncodeError:
            raise InputError(f"{self.directory}: expected a name in UTF-8, got other bytes.") from None
        made: list[Path] = []
        path = self.directory / LOCK
        lock = FileLock(path)
        try:
            with uninterrupted():
                made += [folder for folder in (self.directory, *self.directory.parents) if not folder.exists()]
                self.directory.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=0)
                self._tidy()
            yield
        except Timeout:
            raise InputError(
                f"{self.directory}: expected a folder of one's own, got one that is being written."
            ) from None
        except OSError as error:
            if lock.is_locked:
                raise
            raise InputError(f"{self.directory}: expected a folder to write to, got {error.strerror}.") from None
        finally:
            with uninterrupted():
                if lock.is_locked:
                    self._tidy()
                    with suppress(OSError):
                        if path.lstat().st_size == 0:
                            path.unlink()
                    lock.release()
                with suppress(OSError):
                    for folder in made:
                        folder.rmdir()  # which it is not if anything was written

    def _tidy(self) -> None:
        """Remove what writers that were killed have left."""
        for place in (self.directory, *(other.directory for other in self.earlier())):
            for folder, names in FILES.items():
                remove_parts(place / folder, names)
        for checkpoint in (self.directory / "runs").glob("*.checkpoint"):
            done = checkpoint.with_suffix(".json").is_file()  # killed between a run's result and its checkpoint
            if done and re.fullmatch(KEY, checkpoint.stem) and not checkpoint.is_symlink():
                _remove(checkpoint)

    def save_study(self, study: Study, card: DataCard) -> None:
        """Write what is compared, and on what.

        A comparison whose page is here, and of which this one leaves out a run, is kept as an earlier one.
        """
        if (before := self.other_before(study)) is not None:
            kept = Store(self.place_of(before))
            kept._write("data.json", self.card())
            kept._write("study.json", before)
        self._write("data.json", card)
        self._write("study.json", study)
        for other in self.earlier():
            if not replaced(other.study(), study):  # it is back, or a part of what is
                other._remove()

    def other_before(self, study: Study) -> Study | None:
        """The comparison whose page is here, if a study leaves out a run of it."""
        if not self.has_study() or not (self.directory / "report.html").exists():
            return None
        before = self.study()
        return before if replaced(before, study) else None

    def place_of(self, study: Study) -> Path:
        """Where a comparison is kept when its page makes room for another's."""
        digest = hashlib.sha256("".join(sorted(run.key for run in study.runs)).encode()).hexdigest()[:8]
        title = re.sub(r"[^\w.]+", "-", study.title).strip("-.")[:40]
        return self.directory / EARLIER / file_name(f"{title}-{digest}")

    def earlier(self) -> list["Store"]:
        """The comparisons whose page made room for another's."""
        found = sorted((self.directory / EARLIER).glob("*/study.json"))
        return [Store(path.parent) for path in found if not path.parent.is_symlink()]

    def _remove(self) -> None:
        """Remove what is kept of an earlier comparison: our own files, and the folders if they are empty then."""
        for folder in ("figures", "."):
            for path in (self.directory / folder).glob("*"):
                if re.fullmatch(FILES[folder], path.name):
                    path.unlink()
        for path in (self.directory / "figures", self.directory, self.directory.parent):
            with suppress(OSError):
                path.rmdir()

    def forget_study(self) -> None:
        """Take back what `save_study` wrote, where nothing came of it."""
        for name in ("study.json", "data.json"):
            (self.directory / name).unlink(missing_ok=True)

    def has_study(self) -> bool:
        """Whether a comparison has been written here."""
        return (self.directory / "study.json").exists()

    def study(self) -> Study:
        """Read what is compared; an error says where there is nothing."""
        return self._read("study.json", Study)

    def card(self) -> DataCard:
        """Read what the data set was."""
        return self._read("data.json", DataCard)

    def save_result(self, result: Result) -> None:
        """Write a finished run; what it needed to go on is let go."""
        self._write(f"runs/{result.run.key}.json", result)
        _remove(self.checkpoint(result.run))

    def result(self, run: Run) -> Result | None:
        """A finished run, or none."""
        path = self._runs / f"{run.key}.json"
        if not path.exists():
            return None
        result = read_record(path, Result)
        if result.run != run:
            raise InputError(f"{path}: expected the result of run {run.key}, got {result.run.key}'s.")
        return result

    def results(self, study: Study) -> list[Result]:
        """The finished runs of a study, in its order."""
        return [result for run in study.runs if (result := self.result(run)) is not None]

    def _write(self, name: str, record: Record) -> None:
        write_record(self.directory / name, record)

    def _read(self, name: str, kind: type[AnyRecord]) -> AnyRecord:
        path = self.directory / name
        try:
            return read_record(path, kind)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{path}: expected the folder of a comparison, made by `softmaxes compare --out`, got none."
            ) from None


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint: a file, or a folder if several devices each hold a part of it."""
    if checkpoint.is_dir() and not checkpoint.is_symlink():
        shutil.rmtree(checkpoint)
    else:
        checkpoint.unlink(missing_ok=True)


def replaced(before: Study, study: Study) -> bool:
    """Whether a study leaves out a run of the one before it, whatever is tuned in both."""
    chosen = {"lr", "knob"} if before.tuning is not None and study.tuning is not None else set()
    kept = {run.model_dump_json(exclude=chosen) for run in study.runs}
    return any(run.model_dump_json(exclude=chosen) not in kept for run in before.runs)


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON, whole or not at all."""
    fields = json.loads(record.model_dump_json()).items()  # a line each, so that versions can be compared
    lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields)
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_record(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Read a record from its JSON file; an error says what is wrong and where."""
    content = read_whole(path, MOST_BYTES)
    check_json(str(path), content, MOST_VALUES, MOST_LISTS)
    try:
        record = kind.model_validate_json(content)
        record.check()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        said = first["msg"].removeprefix("Value error, ")
        got = f"no {place}" if first["type"] == "missing" else f"{place}: {said}"
        raise InputError(f"{path}: expected {kind.__name__} as JSON, got {got}.") from None
    except ValueError as error:
        raise InputError(f"{path}: expected a {kind.__name__} that agrees with itself: {error}.") from None
    return record
