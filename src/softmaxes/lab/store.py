"""Where a comparison lives on disk: a folder of small files, each written whole or not at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from softmaxes.files import check_json, read_whole, write_whole
from softmaxes.lab import InputError
from softmaxes.lab.run import DataCard, Record, Result, Run, Study

AnyRecord = TypeVar("AnyRecord", bound=Record)
MOST_BYTES = 2**28  # of a record; those of runs over some million classes have a tenth
MOST_VALUES = 2**25  # in it
MOST_LISTS = 2**22  # and dictionaries in it: there is one for each pair of classes that were confused


class Store:
    """A folder with ``study.json``, ``data.json`` and, for each run, ``runs/KEY.json`` and ``runs/KEY.safetensors``.

    Args:
        directory: the folder; it is made when something is first written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def checkpoint(self, run: Run) -> Path:
        """Where an unfinished run keeps what it needs to go on."""
        return self.directory / "runs" / f"{run.key}.checkpoint"

    def weights(self, run: Run) -> Path:
        """The weights of a finished run."""
        return self.directory / "runs" / f"{run.key}.safetensors"

    def tensors(self) -> Path:
        """The data set, for the processes that train; it is removed when the runs are done."""
        return self.directory / "data.safetensors"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing here; the system lets go of it when this process ends, however it ends."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.directory / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"{self.directory}: expected a folder of one's own, got one that is being written."
            ) from None
        except OSError as error:
            raise InputError(f"{self.directory}: expected a folder to write to, got {error.strerror}.") from None
        try:
            for part in self.directory.glob("**/.*.part"):  # of a writer that was killed
                part.unlink()
            for checkpoint in self.directory.glob("**/*.checkpoint"):
                if checkpoint.with_suffix(".json").exists():  # killed between a run's result and its checkpoint
                    checkpoint.unlink()
            yield
        finally:
            lock.release()

    def save_study(self, study: Study, card: DataCard) -> None:
        """Write what is compared, and on what."""
        self._write("data.json", card)
        self._write("study.json", study)

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
        self.checkpoint(result.run).unlink(missing_ok=True)

    def result(self, run: Run) -> Result | None:
        """A finished run, or none."""
        name = f"runs/{run.key}.json"
        if not (self.directory / name).exists():
            return None
        result = self._read(name, Result)
        if result.run != run:
            raise InputError(f"{self.directory / name}: expected the result of run {run.key}, got {result.run.key}'s.")
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
        raise InputError(f"{path}: expected {kind.__name__} as JSON, got {place}: {said}.") from None
    except ValueError as error:
        raise InputError(f"{path}: expected a {kind.__name__} that agrees with itself: {error}.") from None
    return record
