"""Odd names, odd files in place of files, odd folders, odd environments, full disks."""

import contextlib
import ctypes
import os
import resource
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from campaign import bases, mutate, stores, trees
from campaign.bases import Bases
from campaign.case import Case, Command, Ended, Place
from campaign.options import QUICK

NOBODY = 65534  # the user of that name
NEW_MOUNTS = 0x20000  # CLONE_NEWNS: mounts that end with the process
WRITES = ("out", "out.json", "out.csv", "out.html", "out.png")


class Reader(NamedTuple):
    """What lies there before a verb, and the words that read it.

    Attributes:
        lay: lays the valid input below a folder.
        path: what is named in the words, below that folder.
        words: the words, with ``{}`` for the path.
        files: those that the verb opens, below that folder.
    """

    lay: Callable[[Path, Bases], None]
    path: str
    words: list[str]
    files: list[str]


def _one(name: str, content: Callable[[], bytes], words: list[str]) -> Reader:
    return Reader(lambda folder, known: bases.lay(folder, {name: content()}), name, words, [name])


def _of(name: str, files: Callable[[], bases.Files], words: list[str], opened: list[str]) -> Reader:
    def lay(folder: Path, known: Bases) -> None:
        bases.lay(folder / name, files())

    return Reader(lay, name, words, [f"{name}/{file}" for file in opened])


def _comparison(folder: Path, known: Bases) -> None:
    bases.copy(known.comparison / "work" / "out", folder / "out")
    first = sorted((folder / "out" / "runs").glob("*.json"))[0]
    first.rename(first.with_name("KEY.json"))
    first.with_suffix(".safetensors").rename(first.with_name("KEY.safetensors"))


def _vectors() -> dict[str, bytes]:
    names = np.array(["a", "b", "c"])
    return {f"{name}.npy": bases.npy(array) for name, array in {**bases.arrays(), "class_names": names}.items()}


READERS = {
    "cifar10": _of(
        "data",
        lambda: bases.cifar_pickles("cifar10"),
        ["data", "cifar10", "--data-dir", "{}", "--out", "out.png"],
        ["data_batch_1", "test_batch", "batches.meta"],
    ),
    "cifar100": _of(
        "data",
        lambda: bases.cifar_binary("cifar100"),
        ["data", "cifar100", "--data-dir", "{}", "--out", "out.png"],
        ["train.bin", "test.bin", "fine_label_names.txt"],
    ),
    "archive": _one(
        "data.tar.gz",
        lambda: bases.tar(bases.cifar_binary("cifar10"), "gz"),
        ["data", "cifar10", "--data-dir", "{}", "--out", "out.png"],
    ),
    "photos": _of(
        "photos",
        lambda: bases.photos(each=3),
        ["data", "{}", "--image-size", "16", "--out", "out.png"],
        ["pet/cat/1.png", "pet/cat", "plant/rose/0.png"],
    ),
    "npz": _one(
        "vectors.npz",
        lambda: bases.npz({f"{name}.npy": bases.npy(array) for name, array in bases.arrays().items()}),
        ["data", "features", "--data-dir", "{}"],
    ),
    "npy": _of("vectors", _vectors, ["data", "features", "--data-dir", "{}"], list(_vectors())),
    "parquet": _of(
        "vectors",
        lambda: {f"{part}.parquet": bases.parquet(bases.table_of(part)) for part in ("train", "test")},
        ["data", "{}"],
        ["train.parquet", "test.parquet"],
    ),
    "font": Reader(
        lambda folder, known: bases.lay(folder, {"font.ttf": known.font}),
        "font.ttf",
        ["data", "glyphs:4", "--fonts", "{}", "--train-per-class", "2", "--test-per-class", "2", "--out", "out.png"],
        ["font.ttf"],
    ),
    "fonts": Reader(
        lambda folder, known: bases.lay(folder, {"fonts/a.ttf": known.font, "fonts/b.ttf": known.font + b"\0"}),
        "fonts",
        ["data", "glyphs:4", "--fonts", "{}", "--train-per-class", "2", "--test-per-class", "2", "--out", "out.png"],
        ["fonts/a.ttf", "fonts/b.ttf"],
    ),
    "json": _one("tree.json", lambda: trees.FILES["tree.json"].encode(), ["tree", "show", "{}", "--out", "out.html"]),
    "csv": _one("edges.csv", lambda: trees.FILES["edges.csv"].encode(), ["tree", "export", "{}", "--out", "out.json"]),
    "napkinxc": _one(
        "napkin.txt", lambda: trees.FILES["napkin.txt"].encode(), ["tree", "show", "{}", "--format", "napkinxc"]
    ),
    "compared": _one("tree.json", lambda: trees.FILES["tree.json"].encode(), ["tree", "compare", "{}", "{}"]),
    "counts": _one(
        "counts.txt", lambda: b"5\n3\n2\n", ["tree", "build", "huffman", "--counts", "{}", "--out", "out.json"]
    ),
    "counts of numpy": _one(
        "counts.npy",
        lambda: bases.npy(np.arange(1, 5)),
        ["tree", "build", "huffman", "--counts", "{}", "--out", "out.json"],
    ),
    "paths": _one(
        "paths.txt", lambda: b"a/b\na/c\nd\n", ["tree", "build", "paths", "--paths", "{}", "--out", "out.json"]
    ),
    "rows": _one(
        "rows.npy",
        lambda: bases.npy(np.random.default_rng(0).normal(size=(6, 3))),
        ["tree", "build", "clustered", "--vectors", "{}", "--out", "out.json"],
    ),
    "weights": Reader(
        lambda folder, known: bases.copy(known.comparison / "work" / "out" / "runs", folder / "runs"),
        "runs",
        ["tree", "build", "agglomerative", "--vectors", "{}", "--out", "out.json"],
        [],
    ),
    "result": Reader(
        _comparison,
        "out/runs/KEY.json",
        ["tree", "build", "confusion", "--result", "{}", "--out", "out.json"],
        ["out/runs/KEY.json"],
    ),
    "report": Reader(
        lambda folder, known: bases.copy(known.comparison / "work" / "out", folder / "out"),
        "out",
        ["report", "{}"],
        ["out/study.json", "out/data.json"],
    ),
    "table": Reader(
        lambda folder, known: bases.lay(
            folder, {"table.csv": (known.scale / "work" / "out" / "table.csv").read_bytes()}
        ),
        "table.csv",
        ["advise", "--classes", "50", "--measured", "{}"],
        ["table.csv"],
    ),
}


# Other files in place of files


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _sock(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


def _hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20 * 2**30)


def _unreadable(path: Path) -> None:
    path.write_bytes(b"secret")
    path.chmod(0)


INSTEAD: dict[str, Callable[[Path], None]] = {
    "a pipe": _pipe,
    "a socket": _sock,
    "a folder": Path.mkdir,
    "an empty file": Path.touch,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to /dev/urandom": lambda path: path.symlink_to("/dev/urandom"),
    "a link to /dev/null": lambda path: path.symlink_to("/dev/null"),
    "a link to /proc/self/mem": lambda path: path.symlink_to("/proc/self/mem"),
    "a link to the folder above": lambda path: path.symlink_to(".."),
    "a hole of 20 GiB": _hole,
    "a file that must not be read": _unreadable,
}


def files(place: Place, known: Bases, number: int) -> Case:
    """Something else than a file where a file is expected."""
    places = [(reader, file) for reader in READERS for file in READERS[reader].files]
    name, file = places[number % len(places)]
    kinds = list(INSTEAD)
    kind = kinds[(number // len(places) * 5 + number) % len(kinds)]
    reader = READERS[name]
    reader.lay(place.work, known)
    path = place.work / file
    if path.is_dir():
        for below in path.iterdir():
            below.unlink()
        path.rmdir()
    else:
        path.unlink()
    INSTEAD[kind](path)
    words = [word.replace("{}", reader.path) for word in reader.words]
    before = None
    if kind.startswith("a file that") and os.getuid() == 0:
        before = _drop(place)
    return Case(f"{name}: {file} is {kind}", Command(words, before=before), writes=WRITES)


def _drop(place: Place) -> Callable[[], None]:
    """What makes a process one of a user who owns what is in the place but has no rights beside."""
    for parent, folders, names in os.walk(place.folder):
        for name in (".", *folders, *names):
            os.chown(Path(parent, name), NOBODY, NOBODY, follow_symlinks=False)

    def drop() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    return drop


# Names


HEADS = ("Softmax", '=HYPERLINK("http://example.org")', "back`tick", "pi|pe", "@SUM(1)", "<script>canary", "a/../../b")
IN_ADDRESSES = (("exp?1", "mlflow"), ("a%20b#c", "mlflow"), ("r&x=1;y", "mlflow"), ("exp?1#%41", "tensorboard"))


def names(place: Place, known: Bases, number: int) -> Case:
    """A good input of an odd name, or one that is not there."""
    random = place.random
    chosen = random.choice([name for name in READERS if READERS[name].files and name != "result"])
    reader = READERS[chosen]
    odd = mutate.IN_FILES[number // 4 * 11 % len(mutate.IN_FILES)].replace("/", "\N{DIVISION SLASH}")
    odd = odd.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "surrogateescape")
    how = number % 4
    if how == 2:
        return _written(place, known, odd, number // 4)
    if how == 3:
        return _called(place, known, odd, number // 4)
    folder = place.work / "in"
    reader.lay(folder, known)
    _, dot, suffix = reader.path.partition(".")
    new = f"{odd}{dot}{suffix}"
    (folder / reader.path).rename(folder / new)
    must_succeed = "a name is a name" if odd.isprintable() else ""
    path = f"in/{new}"
    if how == 1:
        path, must_succeed = f"in/not there {new}", ""
    words = [word.replace("{}", path) for word in reader.words]
    what = "not there" if how == 1 else "called"
    writes = (*WRITES, "in") if chosen == "report" else WRITES
    return Case(f"{chosen}: {what} {odd[:30]!a}", Command(words), writes=writes, must_succeed=must_succeed)


def _written(place: Place, known: Bases, odd: str, number: int) -> Case:
    """A result of an odd name."""
    np.savez(place.work / "vectors.npz", **bases.arrays())
    READERS["json"].lay(place.work, known)
    READERS["photos"].lay(place.work, known)
    train = ["train", "--data", "vectors.npz", "--epochs", "1", "--batch-size", "8"]
    if number < len(IN_ADDRESSES):
        odd, log = IN_ADDRESSES[number]
        return Case(f"logged to {odd}", Command([*train, "--log", log, "--out", odd]), writes=(odd,))
    verbs = [
        ["tree", "export", "tree.json", "--out", f"out/{odd}.json"],
        ["tree", "export", "tree.json", "--out", f"out/{odd}/tree.csv"],
        ["tree", "show", "tree.json", "--out", f"out/{odd}.html"],
        ["data", "photos", "--out", f"out/{odd}.png"],
        [*train, "--out", f"out/{odd}"],
        [*train, "--log", "tensorboard", "--out", f"out/{odd}"],
        [*train, "--log", "mlflow", "--out", f"out/{odd}"],
    ]
    return Case(f"written to {odd[:30]!a}", Command(verbs[number % len(verbs)]), writes=("out",))


def _called(place: Place, known: Bases, odd: str, number: int) -> Case:
    """Classes, groups, nodes or studies of odd names, in reports."""
    random = place.random
    if number >= len(HEADS) and random.random() < 0.4:
        text = (
            trees.FILES["nested.json"].replace('"cat"', bases.as_json(odd)).replace('"pet"', bases.as_json(f"{odd}s"))
        )
        (place.work / "tree.json").write_text(text)
        words = random.choice(
            [
                ["tree", "show", "tree.json", "--out", "out.html"],
                ["tree", "export", "tree.json", "--out", "out.csv"],
                ["tree", "compare", "tree.json", "tree.json"],
            ]
        )
        return Case(f"a node called {odd[:30]!a}", Command(words), writes=WRITES)
    out = place.work / "out"
    bases.copy(known.comparison / "work" / "out", out)
    if number < len(HEADS):
        return _head(place, HEADS[number])
    for file, good in (
        ("data.json", "pet/cat"),
        ("data.json", "plant"),
        ("study.json", "softmax · hierarchical"),
        ("study.json", "photos"),
    ):
        path = out / file
        if random.random() < 0.7:
            path.write_text(path.read_text("utf-8").replace(good, bases.as_json(odd)[1:-1]), "utf-8")
    return Case(f"classes called {odd[:30]!a}", Command(["report", "out"]), writes=("out",))


def _head(place: Place, name: str) -> Case:
    """A head of an odd name in a stored comparison; at least its figures must be apart from those of the others."""
    stores.rename_head(place.work / "out", "hierarchical", name)
    for path in (place.work / "out" / "figures").iterdir():
        path.unlink()

    def check(place: Place, ended: Ended) -> str:
        found = list((place.work / "out" / "figures").glob("confusion_*"))
        return "" if ended.code or len(found) == 3 else f"lost: {len(found)} figures of confusion for 3 heads"

    return Case(f"a head called {name[:30]!a}", Command(["report", "out"]), writes=("out",), check=check)


# Folders of the user's own


MINE = (
    "table.csv",
    "report.html",
    "data.safetensors",
    "data.json",
    "study.json",
    "notes.txt",
    "models/bert.checkpoint",
    "models/bert.json",
    "downloads/.movie.mkv.part",
    ".draft.part",
    "figures/accuracy.png",
    "runs/0123456789abcdef.json",
    "runs/0123456789abcdef.safetensors",
    "runs/0123456789abcdef.checkpoint",
    "runs/mine.checkpoint",
    "runs/mine.json",
    "cells/mine.json",
    "scale.json",
    "differences.csv",
    "frequency.md",
    "tuning.csv",
    "tuning/study.json",
    "tensorboard/events",
    "mlflow.db",
)


def folders(place: Place, known: Bases, number: int) -> Case:
    """A folder for results that is none: the user's own, a file, a link."""
    random = place.random
    np.savez(place.work / "vectors.npz", **bases.arrays())
    out = place.work / "out"
    verbs = {
        "train": ["train", "--data", "vectors.npz", *QUICK],
        "compare": ["compare", "--data", "vectors.npz", "--heads", "softmax", "--seeds", "1", "--jobs", "1", *QUICK],
        "tune": [
            "compare",
            "--data",
            "vectors.npz",
            "--heads",
            "softmax",
            "--seeds",
            "1",
            "--jobs",
            "1",
            "--tune",
            "2",
        ],
        "scale": [
            "scale",
            "--heads",
            "softmax",
            "--classes",
            "10",
            "--features",
            "4",
            "--batch-size",
            "4",
            "--out",
            "out",
        ],
        "log": ["train", "--data", "vectors.npz", "--log", "tensorboard", "mlflow", *QUICK],
    }
    verbs["tune"] += ["--validation", "0.3", *QUICK]
    verb = list(verbs)[number % len(verbs)]
    words = verbs[verb]
    how = number // len(verbs)
    mine = {name: f"mine: {name}\n".encode() for name in MINE}
    must_refuse, writes = "the folder holds files of the user's own", ()
    if how == 0:
        bases.lay(out, mine)
        about = "many files of the user's own"
    elif how == 1:
        bases.lay(out, dict(random.sample(sorted(mine.items()), 1)))
        about = f"{next(path for path in out.rglob('*') if path.is_file()).relative_to(out)} of the user's own"
    elif how == 2:
        bases.lay(place.work / "other", mine)
        out.symlink_to("other")
        about = "a link to a folder of the user's own"
    elif how == 3:
        bases.copy(known.comparison / "work" / "out", out)
        bases.lay(out, {name: data for name, data in mine.items() if "0123" not in name and name not in OURS})
        about, must_refuse, writes = "another comparison, and files beside it", "", ()
        return Case(f"{verb}: {about}", Command(words), must_refuse="", writes=("out",), check=_kept(mine), keeps=True)
    elif how == 4:
        bases.copy(known.comparison / "work" / "out", out)
        about, must_refuse, writes = "another comparison", "", ("out",)
        return Case(f"{verb}: {about}", Command(words), writes=("out",), check=_told_or_kept(place), keeps=True)
    elif how == 5:
        (out / ".lock").mkdir(parents=True)
        about, must_refuse = "a folder for a lock", "nobody can lock it"
    elif how == 6:
        (out / "runs").mkdir(parents=True)
        (out / "runs").rmdir()
        (out / "runs").write_text("mine")
        about = "a file called runs"
    else:
        out.symlink_to("nowhere")
        about, must_refuse, writes = "a link to nothing", "", ("out", "nowhere")
    return Case(f"{verb}: {about}", Command(words), writes=writes, must_refuse=must_refuse)


OURS = ("table.csv", "report.html", "data.safetensors", "data.json", "study.json", "figures/accuracy.png", "scale.json")
OURS += ("differences.csv", "frequency.md", "tuning.csv", "tuning/study.json", "tensorboard/events", "mlflow.db")


def _kept(mine: dict[str, bytes]) -> Callable[[Place, Ended], str]:
    """Says which of the user's files in a folder of ours is not as it was."""

    def check(place: Place, ended: Ended) -> str:
        for name, data in mine.items():
            path = place.work / "out" / name
            if "0123" not in name and name not in OURS and not (path.is_file() and path.read_bytes() == data):
                return f"lost: {name} of the user's own, in a folder of ours"
        return ""

    return check


def _told_or_kept(place: Place) -> Callable[[Place, Ended], str]:
    """Says whether the page of another comparison was replaced without a word."""
    page = (place.work / "out" / "report.html").read_bytes()

    def check(place: Place, ended: Ended) -> str:
        path = place.work / "out" / "report.html"
        said = [line for line in ended.err.splitlines() if line and ": epoch" not in line and ": step" not in line]
        kept = path.is_file() and path.read_bytes() == page
        return "" if kept or said else "lost: another comparison's page was replaced without a word"

    return check


# Disks


def disks(place: Place, known: Bases, number: int) -> Case:
    """A disk that is full, or a limit on the size of files, while something is written."""
    random = place.random
    np.savez(place.work / "vectors.npz", **bases.arrays())
    READERS["json"].lay(place.work, known)
    READERS["photos"].lay(place.work, known)
    READERS["parquet"].lay(place.work / "tables", known)
    bases.copy(known.comparison / "work" / "out", place.work / "old")
    (place.work / "font.ttf").write_bytes(known.font)
    verbs: list[tuple[list[str], int]] = [
        (["train", "--data", "vectors.npz", *QUICK], 15),
        (
            [
                "data",
                "glyphs:4",
                "--train-per-class",
                "9",
                "--test-per-class",
                "9",
                "--fonts",
                "font.ttf",
                "--out",
                "out.png",
            ],
            18,
        ),
        (["data", "tables/vectors"], 12),
        (["report", "old"], 19),
        (["tree", "show", "tree.json", "--out", "out.html"], 12),
        (["tree", "export", "tree.json", "--out", "out.json"], 6),
        (["data", "photos", "--out", "out.png"], 12),
        (["train", "--data", "photos", "--image-size", "16", *QUICK], 16),
        (["train", "--data", "vectors.npz", "--log", "mlflow", *QUICK], 17),
    ]
    words, most = verbs[number % len(verbs)]
    size = int(2 ** random.uniform(min(9, most), most))  # standard error, a file too, has room for its line
    writes, keeps = (*WRITES, "old"), words[0] in ("train", "report")
    if number // len(verbs) % 2 or os.getuid() != 0:

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        command = Command(words, stdout="away", before=limit)
        return Case(f"{words[0]}: files of at most {size} bytes", command, writes, keeps=keeps)
    for name in ("out", "small"):
        (place.work / name).mkdir()
    words = [word.replace("out.", "small/out.") for word in words]

    def mount() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(NEW_MOUNTS) or libc.mount(b"none", b"/", None, 0x44000, None):
            os._exit(0)  # no mounts here: nothing is tried
        for target in (place.work / "out", place.work / "small", place.cache):
            if libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", 0, f"size={-(-size // 4096) * 4}k".encode()):
                os._exit(0)

    return Case(f"{words[0]}: {size} bytes of room", Command(words, before=mount), (*writes, "small"), keeps=keeps)


# Environments


def environments(place: Place, known: Bases, number: int) -> Case:
    """A verb in an odd environment, in a Python of its own."""
    READERS["json"].lay(place.work, known)
    READERS["photos"].lay(place.work, known)
    bases.copy(known.comparison / "work" / "out", place.work / "out")
    (place.work / "nämé").write_text("no tree")
    report, show = ["report", "out"], ["tree", "show", "tree.json"]
    images = ["data", "photos", "--image-size", "16", "--out", "out.png"]
    wrong = ["tree", "show", "nämé", "--format", "csv"]
    gone = lambda: os.rmdir(Path.cwd())  # noqa: E731, PTH106
    fine = "this environment hinders nothing"
    ascii_alone: dict[str, str | None] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    tried: list[tuple[str, Command, str]] = [
        ("ascii", Command(report, {"PYTHONIOENCODING": "ascii"}), fine),
        ("latin-1", Command(report, {"PYTHONIOENCODING": "latin-1"}), fine),
        ("utf-16", Command(report, {"PYTHONIOENCODING": "utf-16"}), ""),
        ("ascii", Command(show, {"PYTHONIOENCODING": "ascii"}), fine),
        ("ascii", Command(wrong, {"PYTHONIOENCODING": "ascii"}), ""),
        ("ascii", Command(["heads"], {"PYTHONIOENCODING": "ascii"}), fine),
        ("ascii", Command(["--help"], {"PYTHONIOENCODING": "ascii"}), fine),
        ("ascii", Command(["compare", "--help"], {"PYTHONIOENCODING": "ascii"}), fine),
        ("ascii", Command(["advise", "--classes", "50"], {"PYTHONIOENCODING": "ascii"}), fine),
        ("latin-1", Command(["advise", "--classes", "50"], {"PYTHONIOENCODING": "latin-1"}), fine),
        ("C", Command(report, ascii_alone), fine),
        ("C", Command(show, ascii_alone), fine),
        ("C", Command(wrong, ascii_alone), ""),
        ("C", Command(images, ascii_alone), fine),
        ("no terminal", Command(report, {"TERM": None, "COLUMNS": None}), fine),
        ("one column", Command(report, {"COLUMNS": "1"}), fine),
        ("no columns", Command(report, {"COLUMNS": "0"}), fine),
        ("columns below zero", Command(show, {"COLUMNS": "-5"}), fine),
        ("columns that are none", Command(show, {"COLUMNS": "wide"}), fine),
        ("10^9 columns", Command(["heads"], {"COLUMNS": "1000000000"}), ""),
        ("colours", Command(["heads"], {"NO_COLOR": "1", "TERM": "xterm"}), fine),
        ("no home", Command(report, {"HOME": None}), fine),
        ("a home that is none", Command(images, {"HOME": "/nonexistent", "SOFTMAXES_CACHE": None}), fine),
        ("a home that is a device", Command(report, {"HOME": "/dev/null"}), fine),
        ("no home", Command([*bases.GLYPHS, "--out", "out.png"], {"HOME": "/dev/null", "SOFTMAXES_CACHE": None}), ""),
        ("a cache that is a file", Command([*bases.GLYPHS, "--out", "out.png"], {"SOFTMAXES_CACHE": "tree.json"}), ""),
        ("a cache on a device", Command([*bases.GLYPHS, "--out", "out.png"], {"SOFTMAXES_CACHE": "/dev/full"}), ""),
        ("no temporary folder", Command(images, {"TMPDIR": "/nonexistent"}), fine),
        ("no folder of matplotlib's", Command(report, {"MPLCONFIGDIR": "/nonexistent"}), ""),
        ("threads that are none", Command(show, {"OMP_NUM_THREADS": "many"}), ""),
        ("no output", Command(report, stdout="closed"), ""),
        ("no output", Command(show, stdout="closed"), ""),
        ("no output", Command(["--help"], stdout="closed"), ""),
        ("no output", Command(["heads"], stdout="closed"), ""),
        ("output that nobody reads", Command(report, stdout="broken"), ""),
        ("output that nobody reads", Command(show, stdout="broken"), ""),
        ("output that nobody reads", Command(["heads"], stdout="broken"), ""),
        ("output that nobody reads", Command(["--help"], stdout="broken"), ""),
        ("full output", Command(report, stdout="full"), ""),
        ("full output", Command(show, stdout="full"), ""),
        ("full output", Command(["heads"], stdout="full"), ""),
        ("full output", Command(["--help"], stdout="full"), ""),
        ("full output", Command(["--version"], stdout="full"), ""),
        ("a folder that is gone", Command(["heads"], before=gone), ""),
        (
            "a folder that is gone",
            Command(["tree", "build", "balanced", "--classes", "5", "--out", "a.json"], before=gone),
            "",
        ),
        ("few files", Command(report, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))), ""),
        ("python -m softmaxes", Command(["--help"], module=("-m", "softmaxes")), fine),
        ("python -m softmaxes", Command(show, module=("-m", "softmaxes")), fine),
        (
            "python -OO",
            Command(show, module=("-OO", "-c", "import sys; from softmaxes.lab import main; sys.exit(main())")),
            fine,
        ),
    ]
    about, command, must_succeed = tried[number % len(tried)]
    before = command.before
    if before is gone:
        for path in sorted(place.work.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    valid = bool(must_succeed) or command.words == report
    own = replace(command, fresh=before is not gone, valid=valid)
    return Case(f"{about}: {' '.join(command.words[:2])}", own, WRITES, must_succeed=must_succeed)
