"""Says what is wrong with how a command ended: it must succeed, or say one clear line and end with code 2."""

import contextlib
import csv
import hashlib
import io
import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from campaign.case import Case, Command, Ended, Fault, Place

LONGEST_LINE = 1000  # characters of a refusal
LARGE = 2**24  # bytes: of larger files the ends are compared, and the time of the last change
NOTICES = re.compile(  # what may be said before a refusal
    r"\d+ unreadable files? skipped:|[^:]+: .*|and \d+ more|.* is left out: .*|Waiting for another process .*|"
    r".*it is begun again|.*without its compiled .*"
)
WARNING = re.compile(r"\b[A-Z]\w*Warning: |^Exception ignored|^Fatal Python error|leaked \w+ objects")
UNDERSTOOD = re.compile(
    r"expected|Unknown|Invalid|specified|Unused|Missing|requires|Command|at most once|not allowed|must "
)
FROM_PYTHON = re.compile(
    r"has no attribute|NoneType|not subscriptable|out of range|unhashable|<class |object at 0x|\[type=|"
    r"indices must|to unpack|KeyError|__\w+__|not iterable|not callable|unexpected keyword"
)
REASONS = {os.strerror(number).lower() for number in range(1, 134)}
FORMULA = re.compile(r"[=+@\t\r]|-(?![\d.]|$|inf)")
KNOWN_PLACES = re.compile(
    r"^softmaxes: [^:]*[/.][^:]*: |--\w[\w-]*|glyphs|tree build \w+|https?:|standard output:|Unknown command"
)
FRAME = re.compile(r'File "[^"]*/softmaxes/([^"]+)", line (\d+), in (\S+)')
FATAL = re.compile(r"Traceback \(most recent call last\)|^Fatal Python error", re.MULTILINE)

State = Mapping[str, tuple[str, str]]


class Seen(NamedTuple):
    """What lies in a case's folder: of each path its kind and its content."""

    paths: State

    @classmethod
    def of(cls, place: Place) -> "Seen":
        """Look at all that the user has: the folder in which the command is typed, the home, what lies in the cache."""
        found = {}
        for top in (place.work, place.home, place.cache):
            for parent, folders, files in os.walk(os.fsencode(top)):
                for name in (*folders, *files):
                    path = os.path.join(parent, name)  # noqa: PTH118  # of bytes
                    found[os.fsdecode(os.path.relpath(path, os.fsencode(place.folder)))] = _content(path)
        return cls(found)


def _content(name: bytes) -> tuple[str, str]:
    path = Path(os.fsdecode(name))
    known = path.lstat()
    if stat.S_ISLNK(known.st_mode):
        return "link", str(path.readlink())
    if not stat.S_ISREG(known.st_mode):
        return f"{stat.S_IFMT(known.st_mode):o}", ""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if known.st_size <= LARGE:
            return "file", hashlib.sha256(file.read()).hexdigest()
        ends = file.read(2**20)
        file.seek(-(2**20), os.SEEK_END)
        return "file", hashlib.sha256(ends + file.read()).hexdigest() + f" {known.st_size} {known.st_mtime_ns}"
    return "file", "unreadable"


def faults(case: Case, place: Place, before: Seen, ended: Ended) -> list[Fault]:
    """All that is wrong with how a case ended."""
    after = Seen.of(place)
    found = [*_end(case, ended), *_folder(case, ended, before, after)]
    if place.canary.exists():
        found.append(Fault("executed", "something of the input was executed"))
    if ended.left:
        found.append(Fault("left running", ended.left[0]))
    if ended.code == 0 and case.must_refuse:
        found.append(Fault("silently taken", case.must_refuse))
    if ended.code == 2 and case.must_succeed and not found:
        found.append(Fault("wrongly refused", case.must_succeed))
    if ended.code == 0 and not found:
        found += _written(place, before, after)
    if case.check is not None and not found and (wrong := case.check(place, ended)):
        sort, _, detail = wrong.partition(": ")
        found.append(Fault(sort, detail))
    return found


def _end(case: Case, ended: Ended) -> list[Fault]:
    """What is wrong with the exit code and with what was said."""
    if ended.stopped:
        return [Fault(ended.stopped.partition(":")[0], f"{case.command.words[0]}: {common(case.about)}")]
    if ended.code < 0:
        return [Fault("crash", f"{case.command.words[0]}: ended by signal {-ended.code}: {common(case.about)}")]
    if FATAL.search(ended.err) or FATAL.search(ended.out):
        return [Fault("traceback", told(ended.err or ended.out))]
    if case.command.stdout == "broken" and ended.code in (1, 141) and not ended.err:
        return []  # as other programs end when nobody reads
    if ended.code not in (0, 2):
        return [Fault("exit code", f"{case.command.words[0]}: {ended.code}")]
    lines = [line for line in ended.err.split("\n") if line.strip()]
    if wrong := next((line for line in lines if WARNING.search(line)), ""):
        return [Fault("warning", common(wrong))]
    encoded = "PYTHONIOENCODING" in case.command.environment or "LC_ALL" in case.command.environment
    spoken = "" if encoded else ended.out + ended.err
    if wrong := next((letter for letter in spoken if _is_command(letter)), ""):
        return [Fault("raw control", f"{case.command.words[0]}: printed {wrong!a}")]
    return _refusal(case.command, lines) if ended.code == 2 else []


def _is_command(letter: str) -> bool:
    """Whether a terminal may take it for a command, or show others in another order."""
    return letter not in "\n\t" and unicodedata.category(letter) in ("Cc", "Cf", "Cn", "Zl", "Zp")


def _refusal(command: Command, lines: list[str]) -> list[Fault]:
    """What is wrong with the one line that must be said."""
    if not lines:
        return [Fault("silent", f"{command.words[:1]}: refused without a word")]
    *notices, line = lines
    if not line.startswith("softmaxes: ") or any(
        notice.startswith("softmaxes: ") or not NOTICES.fullmatch(notice) for notice in notices
    ):
        return [Fault("several lines", common(line))]
    if len(line) > LONGEST_LINE:
        return [Fault("unclear", f"{len(line):,} characters: {common(line)}")]
    if not says_where(command, line):
        return [Fault("unclear", f"says neither file nor option: {common(line)}")]
    understood = UNDERSTOOD.search(line) or any(reason in line.lower() for reason in REASONS)
    if not understood or (FROM_PYTHON.search(line) and "expected" not in line):
        return [Fault("unclear", f"not what was expected: {common(line)}")]
    return []


def says_where(command: Command, line: str) -> bool:
    """Whether a line names an option, or something that was typed."""
    if KNOWN_PLACES.search(line):
        return True
    typed = {part for word in command.words for part in (word, *Path(word).parts)}
    shown = {" ".join("".join(map(_shown, word)).split()) for word in typed}
    return any((len(word) > 1 and word in line) or line.startswith(f"softmaxes: {word}:") for word in shown)


def _shown(letter: str) -> str:
    return letter if letter.isprintable() or letter.isspace() else "\N{REPLACEMENT CHARACTER}"


def _folder(case: Case, ended: Ended, before: Seen, after: Seen) -> list[Fault]:
    """What is wrong with what lies there now."""
    found = []
    may_write = case.writes if ended.code == 0 or case.keeps else ()
    for path, content in before.paths.items():
        top = path.split("/")[1] if path.startswith("work/") else ""
        if after.paths.get(path) != content and top not in may_write and (top or path == "cache/notes.txt"):
            what = "is gone" if path not in after.paths else "is another"
            found.append(Fault("lost", f"{case.command.words[0]}: {_plain(path)} {what}"))
    for path in after.paths.keys() - before.paths.keys():
        name = path.rpartition("/")[2]
        if name.endswith(".part") and name.startswith("."):
            found.append(Fault("left behind", f"{case.command.words[0]}: a part of a file"))
        elif path.startswith("work/"):
            top = path.split("/")[1]
            if ended.code == 2 and not case.keeps:
                found.append(Fault("left behind", f"{case.command.words[0]}: {_plain(path)} after a refusal"))
            elif ended.code == 0 and top not in case.writes:
                found.append(Fault("elsewhere", f"{case.command.words[0]}: {_plain(path)} was written"))
    return found[:1] if not found else [min(found, key=lambda fault: (fault.sort != "lost", fault.detail))]


def _plain(path: str) -> str:
    return re.sub(r"[0-9a-f]{16}", "KEY", path).encode("unicode_escape").decode()


def _written(place: Place, before: Seen, after: Seen) -> list[Fault]:
    """What is wrong with the reports that were written, which others open."""
    for path in after.paths:
        if after.paths[path] == before.paths.get(path) or after.paths[path][0] != "file":
            continue
        file = place.folder / path
        if file.suffix == ".html" and "<script>canary" in file.read_text("utf-8", "replace"):
            return [Fault("injected", f"{file.name}: a name became a script")]
        if file.suffix == ".csv":
            for row in csv.reader(io.StringIO(file.read_text("utf-8", "replace"))):
                if wrong := next((cell for cell in row if FORMULA.match(cell)), ""):
                    return [Fault("injected", f"{file.name}: a cell is a formula: {wrong[:20]!a}")]
        if file.suffix == ".md":
            rows = [line for line in file.read_text("utf-8", "replace").split("\n") if line.startswith("|")]
            widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
            if len(widths) > 1:
                return [Fault("injected", f"{file.name}: a name became a column")]
            if any(_leaves_its_code(row) for row in rows):
                return [Fault("injected", f"{file.name}: a name ends the code that it stands in")]
    return []


def _leaves_its_code(row: str) -> bool:
    """Whether a name that is set as code, in the first cell of a row, is more than one span of code."""
    name = re.split(r"(?<!\\)\|", row)[1].strip()
    ticks = re.findall("`+", name)
    return bool(ticks) and not (name.startswith(ticks[0]) and name.endswith(ticks[0]) and ticks.count(ticks[0]) == 2)


def told(err: str) -> str:
    """The last exception of a traceback and where in the project it came from."""
    places = FRAME.findall(err)
    where = "{}:{} in {}".format(*places[-1]) if places else "outside of the project"
    lines = [
        line for line in err.split("\n") if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning)", line)
    ]
    return f"{where}: {common(lines[-1]) if lines else 'no exception'}"


def common(line: str) -> str:
    """A line without what differs from case to case."""
    line = re.sub(r"/[^ :,]*/", "", line)
    return re.sub(r"\d+", "#", line)[:120].encode("unicode_escape").decode()
