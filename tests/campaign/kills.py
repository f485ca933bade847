"""Commands that are killed at random moments, and typed again: they must end as if nobody had killed them."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from campaign import bases, downloads
from campaign.bases import Bases, Finished
from campaign.case import Case, Command, Ended, Fault, Place, Script
from campaign.judge import FATAL, told

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP)
OF_TIME = re.compile(r"seconds|memory|machine|limits|fitted|forward|backward|update|step|log_prob|topk")
MINE = ("notes.txt", ".mine.part", "mine.checkpoint", "models/bert.checkpoint", "models/bert.json", "films/.a.mkv.part")
TRAINED = ["compare", "--data", "vectors.npz", "--batch-size", "4", "--seeds", "1", "--jobs", "2", "--out", "out"]
TUNED = ["--epochs", "8", "--tune", "2", "--validation", "0.3"]


def _vectors(place: Place) -> None:
    np.savez(place.work / "vectors.npz", **bases.arrays())


def _rows(place: Place) -> None:
    np.save(place.work / "rows.npy", np.random.default_rng(0).normal(size=(4000, 32)))
    (place.work / "out.json").write_text(
        '{"format": "softmaxes.tree", "version": 1, "parent": [2, 2, -1], "names": null}\n'
    )


def _server(place: Place) -> Callable[[], None]:
    return downloads.asks(1, patience=10.0)


class Verb(NamedTuple):
    """What is killed: its words, and what it needs."""

    words: list[str]
    lay: Callable[[Place], Callable[[], None] | None]


VERBS = {
    "compare": Verb([*TRAINED, "--heads", "softmax", "hierarchical-grown", "--epochs", "60"], _vectors),
    "tune": Verb([*TRAINED, *TUNED, "--heads", "softmax", "hierarchical"], _vectors),
    "scale": Verb(bases.SCALE, lambda place: None),
    "tree build": Verb(["tree", "build", "clustered", "--vectors", "rows.npy", "--out", "out.json"], _rows),
    "download": Verb(downloads.READ, _server),
}


def kills(place: Place, known: Bases, number: int) -> Case:
    """A command that is killed at a random moment."""
    name = list(VERBS)[number % len(VERBS)]
    words, lay = VERBS[name]
    finished = known.undisturbed(f"killed-{name.replace(' ', '-')}", words, lay)
    before = lay(place)
    number_of = SIGNALS[number // len(VERBS) % len(SIGNALS)]
    moment = place.random.uniform(0.03, 1.0) * finished.seconds
    about = f"{name}: {signal.Signals(number_of).name} after {moment:.2f} of {finished.seconds:.2f} s"
    first = Command(words, before=before, kill=(number_of, moment))
    (place.work / "mine.txt").write_text("of the user\n")

    def script(place: Place) -> Script:
        ended = yield first
        faults = _killed(name, place, number_of, ended)
        planted = _plant(place)
        again = yield Command(words, before=before)
        return faults + _again(name, place, again, planted, finished)

    return Case(about, first, script=script)


def _killed(name: str, place: Place, number: int, ended: Ended) -> list[Fault]:
    """What is wrong with how a command ended that was killed."""
    found = []
    if ended.left:
        found.append(Fault("left running", f"{name}, {signal.Signals(number).name}: {ended.left[0][:80]}"))
    if ended.stopped:
        found.append(Fault(ended.stopped.partition(":")[0], f"{name}: {ended.stopped}"))
    if number == signal.SIGKILL or ended.code == 0 or ended.stopped:
        return found
    said = signal.Signals(number).name
    if FATAL.search(ended.err):
        found.append(Fault("traceback", f"{name}, {said}: {told(ended.err)}"))
    elif ended.code == -number:
        found.append(Fault("without a word", f"{name}, {said}: ended without the line that says how to go on"))
    elif ended.code not in (130, 128 + number) or "softmaxes: stopped" not in ended.err:
        found.append(Fault("exit code", f"{name}, {said}: {ended.code}, {ended.err[-100:]!a}"))
    behind = [path for path in place.work.rglob("*") if path.name.endswith(".part") or path.name == "data.safetensors"]
    if behind:
        found.append(Fault("left behind", f"{name}, {said}: {re.sub('[0-9a-f]{16}|[0-9]+', '#', behind[0].name)}"))
    return found


def _plant(place: Place) -> dict[Path, bytes]:
    """Files of the user's own in a folder of ours."""
    out = place.work / "out"
    if not (out / "study.json").exists() and not (out / "scale.json").exists():
        return {}
    planted = {out / file: f"mine: {file}\n".encode() for file in MINE}
    for path, data in planted.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return planted


def _again(name: str, place: Place, ended: Ended, planted: dict[Path, bytes], finished: Finished) -> list[Fault]:
    """What is wrong with how the same command ended when it was typed again."""
    if ended.stopped or ended.code != 0:
        said = told(ended.err) if FATAL.search(ended.err) else ended.err.strip()[-150:]
        return [Fault("no way on", f"{name}: code {ended.code} when typed again: {ended.stopped or said}")]
    found = []
    for path, data in planted.items():
        if not path.is_file() or path.read_bytes() != data:
            found.append(Fault("lost", f"{name}: {path.relative_to(place.work)} of the user's own"))
            break
    if (place.work / "mine.txt").read_text() != "of the user\n":
        found.append(Fault("lost", f"{name}: mine.txt"))
    there, wanted = _kept(place, planted), _kept(finished.place, {})
    for path in sorted(there.keys() ^ wanted.keys()):
        what = "is missing" if path in wanted else "was left"
        found.append(Fault("another result", f"{name}: {_plain(path)} {what}"))
        break
    for path in sorted(there.keys() & wanted.keys()):
        if there[path] != wanted[path]:
            found.append(Fault("another result", f"{name}: {_plain(path)} is another"))
            break
    if ended.left:
        found.append(Fault("left running", f"{name}, typed again: {ended.left[0][:80]}"))
    return found


def _kept(place: Place, planted: dict[Path, bytes]) -> dict[str, Any]:
    """What lies there, by path, without times: weights and pictures of data by their bytes, records by their values."""
    kept: dict[str, Any] = {}
    for top in (place.work, place.cache):
        for path in top.rglob("*"):
            if not path.is_file() or path in planted or path.name in (".lock", "mine.txt") or path.suffix == ".lock":
                continue
            if path.name.startswith("step_memory"):
                continue  # drawn where a step took memory, which of heads as small as these is chance
            content: Any = path.read_bytes()
            if path.suffix == ".json" and path.name != "out.json":
                content = _without_times(json.loads(content))
            elif path.suffix in (".html", ".csv", ".md", ".tex") or path.parent.name == "figures":
                content = "a report, with times in it"
            kept[str(path.relative_to(place.folder))] = content
    return kept


def _plain(path: str) -> str:
    return re.sub("tmp[a-z0-9_]{8}", "tmp", re.sub("[0-9a-f]{16}", "KEY", path))


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(one) for key, one in value.items() if not OF_TIME.search(key)}
    return [_without_times(one) for one in value] if isinstance(value, list) else value
