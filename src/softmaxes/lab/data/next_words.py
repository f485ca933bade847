"""A text of which the next word is asked for, again and again: the words are the classes.

Nothing in the file is run. It is read once, piece by piece, and becomes arrays in the cache folder.
"""

import codecs
import json
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from softmaxes.files import InputError, open_regular, write_whole
from softmaxes.lab.data.converted import Conversion, converted
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.features import MOST_NAME, PARTS
from softmaxes.lab.data.npy import Growing, Items, mapped_items, npy
from softmaxes.lab.data.ragged import Texts
from softmaxes.lab.data.row_files import Heard, files_of_parts, no_utf8, past_mark, write_together
from softmaxes.lab.data.text_files import normal
from softmaxes.lab.records import CONTEXT
from softmaxes.names import plural

VOCABULARY = 10_000  # classes, if no number is given
UNKNOWN = "<unk>"  # the class of all words that have none of their own
LEAST = 2  # times that a word with a class of its own occurs in training
HELD_OUT = 0.1  # share of a file that is the test, at its end
PIECE = 2**16  # bytes that are read at a time
PIECES = 1000  # of a small file at least, so that its end can be held out
RECIPE = 1  # of the files in the cache: another number has files converted anew
NUMBERS = Items("numbers", np.dtype(np.int64))
WRITTEN = r"(train|test)_(bytes|ends|words)\.npy|names\.json"


def load_next_words(path: Path, vocabulary: int = VOCABULARY) -> Data:
    """Reads a text. Each word is a class, and the words before it, at most `CONTEXT`, are its example.

    The path is a file, whose last tenth is the test set; or a folder with a file ``train.*`` and a file ``test.*``.
    Words are what lies between spaces or line ends; characters that cannot be printed are removed.

    Classes are the most frequent words of the training part, from the most frequent on, and before them `UNKNOWN` for
    all others. A word that occurs once in it has no class of its own.

    Args:
        path: the file or folder.
        vocabulary: how many classes there are at most.

    Raises:
        OSError: a file cannot be opened.
        InputError: something is missing or broken; the message says which file, and where in it.
    """
    if not path.exists():
        raise InputError(f"{path}: expected a file or a folder with a text, got none of that name.")
    if path.is_dir():
        kept = {
            part: _kept(file, (part,))[part] for part, file in zip(PARTS, files_of_parts(path, "a text"), strict=True)
        }
    else:
        kept = _kept(path, PARTS)
    names = kept["train"].names
    counts = torch.bincount(kept["train"].words, minlength=len(names))
    if UNKNOWN in names:
        counts[names.index(UNKNOWN)] = 0
    frequent = counts.argsort(descending=True, stable=True)[: min(vocabulary - 1, int((counts >= LEAST).sum()))]
    class_names = [UNKNOWN, *(names[word] for word in frequent.tolist())]
    if len(class_names) < 2:
        raise InputError(f"{path}: expected a text in which a word occurs {LEAST} times, got none that does.")
    of_word = torch.zeros(len(names), dtype=torch.int64)
    of_word[frequent] = torch.arange(1, len(class_names))
    labels = {part: _classes(one, kept["train"], of_word) for part, one in kept.items()}
    name = path.resolve().name if path.is_dir() else path.stem
    unknown = {part: f"{100 * (of == 0).double().mean().item():.1f} %" for part, of in labels.items()}
    return Data(
        name=name if vocabulary == VOCABULARY else f"{name}:{vocabulary}",
        description=(
            f"The next word of a text, from at most {CONTEXT} words before it"
            f"{'' if path.is_dir() else '; the last tenth of the text is the test'}. The classes are its "
            f"{len(class_names) - 1:,} most frequent words, and {UNKNOWN} for all others: {unknown['train']} of the "
            f"words in training, {unknown['test']} in the test."
        ),
        source=str(path),
        train_inputs=kept["train"].texts(),
        train_labels=labels["train"],
        test_inputs=kept["test"].texts(),
        test_labels=labels["test"],
        class_names=class_names,
        files={part: one.content for part, one in kept.items()},
        next_word=True,
    )


class _Kept(NamedTuple):
    """A part of a text as it lies in the cache.

    Attributes:
        content: the file that holds the words but the last, with a space between two.
        ends: where each of these ends there, (N,).
        words: the numbers in `names` of all words but the first, (N,).
        names: the words that there are, in the file's order.
    """

    content: Path
    ends: Tensor
    words: Tensor
    names: Sequence[str]

    def texts(self) -> Texts:
        """Before each word but the first the words that are known."""
        starts = torch.cat([self.ends.new_zeros(1), self.ends[:-1] + 1])
        begins = starts[(torch.arange(len(starts)) - (CONTEXT - 1)).clamp(min=0)]
        return Texts(mapped_items(self.content, Texts.ITEMS), self.ends, begins)


def _classes(part: _Kept, train: _Kept, of_word: Tensor) -> Tensor:
    """The class of each word of a part, from the classes of the words in training."""
    if part.names is not train.names:  # they are of another file
        place = {name: number for number, name in enumerate(train.names)}
        own = torch.tensor([place.get(name, -1) for name in part.names])
        of_word = of_word[own.clamp(min=0)].where(own >= 0, 0)
    return of_word[part.words]


# Conversion


def _kept(path: Path, parts: Sequence[str]) -> dict[str, _Kept]:
    """The parts of a file, which is converted if it has not been."""
    convert = partial(_convert, parts=parts)
    recipe = f"{'+'.join(parts)}/{RECIPE}"
    folder = converted(path, Conversion("next-words", recipe, "a text", WRITTEN, last="names.json", convert=convert))
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    kept = {}
    for part in parts:
        ends, words = (torch.from_numpy(npy(folder / f"{part}_{what}.npy").read()) for what in ("ends", "words"))
        kept[part] = _Kept(folder / f"{part}_bytes.npy", ends, words, names)
    return kept


def _convert(path: Path, folder: Path, console: Console, *, parts: Sequence[str]) -> None:
    """Write the words of a file as .npy files, holding a piece at a time."""
    names: dict[str, int] = {}

    def write(files: tuple[BinaryIO, ...]) -> None:
        three = zip(*[iter(files)] * 3, strict=True)
        taken = {part: _Taken(*some) for part, some in zip(parts, three, strict=True)}
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(f"Converting {path.name}", total=path.stat().st_size)
            for share, words in _words(path, lambda size: progress.advance(task, size)):
                of = taken[parts[-1] if share >= 1 - HELD_OUT else parts[0]]
                of.add(words, [names.setdefault(word, len(names)) for word in words])
        number = sum(one.number for one in taken.values())
        for part, one in taken.items():
            if one.number < 2:
                among = "" if len(parts) == 1 else f", and 2 in the {part} part of it"
                raise InputError(f"{path}: expected a text of 2 words and more{among}, got {plural(number, 'word')}.")
            one.finish()

    write_together([folder / f"{part}_{what}.npy" for part in parts for what in ("bytes", "ends", "words")], write)
    text = json.dumps(list(names))
    write_whole(folder / "names.json", lambda place: place.write_text(text, encoding="utf-8"))


class _Taken:
    """The words of a part: they go to files at once, the last one's bytes and the first one's number excepted."""

    def __init__(self, content: BinaryIO, ends: BinaryIO, words: BinaryIO) -> None:
        self.number = 0
        self._content, self._ends, self._words = (
            Growing(content, Texts.ITEMS),
            Growing(ends, NUMBERS),
            Growing(words, NUMBERS),
        )
        self._last: str | None = None

    def add(self, words: Sequence[str], numbers: Sequence[int]) -> None:
        """Take words, with their numbers."""
        if not words:
            return
        first = self._last is None
        known = [*words[:-1]] if self._last is None else [self._last, *words[:-1]]
        self._last = words[-1]
        encoded = [word.encode() for word in known]
        if encoded:
            begun = self._content.length > 0
            end = self._content.length - (not begun)
            ends = array("q")
            for word in encoded:
                end += 1 + len(word)
                ends.append(end)
            self._content.write((b" " if begun else b"") + b" ".join(encoded))
            self._ends.write(ends.tobytes())
        self._words.write(array("q", numbers[1:] if first else numbers).tobytes())
        self.number += len(words)

    def finish(self) -> None:
        """Say in the files how many there are."""
        for one in (self._content, self._ends, self._words):
            one.finish()


def _words(path: Path, heard: Heard) -> Iterator[tuple[float, list[str]]]:
    """The words of a file, some at a time, with the share of the file that lies before them.

    Raises:
        InputError: it is not in UTF-8, or a word is too long.
    """
    with open_regular(path) as file:
        beginning = past_mark(path, file)
        size = max(1, path.stat().st_size)
        at_once = min(PIECE, max(1, size // PIECES))
        decoder = codecs.getincrementaldecoder("utf-8")()
        line, rest, done = 1, "", 0

        def decoded(piece: bytes, final: bool) -> str:
            try:
                return decoder.decode(piece, final)
            except UnicodeDecodeError as error:
                raise no_utf8(path, beginning, line + error.object[: error.start].count(b"\n")) from None

        while True:
            piece = file.read(at_once)
            text = rest + decoded(piece, final=not piece)
            words = text.split()
            rest = words.pop() if piece and words and not text[-1].isspace() else ""
            for word in (*words, rest):
                if len(word) > MOST_NAME:
                    place = line + text[: text.index(word)].count("\n")
                    raise InputError(
                        f"{path}: expected words of at most {MOST_NAME:,} characters, got a longer one in line "
                        f"{place:,}."
                    )
            line += text.count("\n")
            yield done / size, list(filter(None, map(normal, words)))
            if not piece:
                return
            done += len(piece)
            heard(len(piece))
