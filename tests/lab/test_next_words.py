"""Next words: a text as examples, the network that sees a window of it, and a comparison with its perplexity."""

import codecs
import math
import tracemalloc
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from softmaxes.files import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.data import next_words
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.next_words import UNKNOWN, load_next_words
from softmaxes.lab.data.ragged import Texts
from softmaxes.lab.data.sources import load_data
from softmaxes.lab.records import CONTEXT, Training
from softmaxes.lab.report.wording import training_in_words
from softmaxes.lab.store import Store
from softmaxes.lab.training.backbones import trunk_for
from softmaxes.lab.training.ngrams import BagOfNgrams

WORDS = ("a", "b", "Köln", "日本", "don't", "🙂", ",")
SONG = "the cat sat on a mat and then it ran off "


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def folder_of(path: Path, train: str, test: str) -> Path:
    path.mkdir(exist_ok=True)
    for part, text in (("train", train), ("test", test)):
        (path / f"{part}.txt").write_text(text, encoding="utf-8")
    return path


def examples(data: Data, part: str) -> list[tuple[str, str]]:
    """Of each word the words before it, and its class."""
    inputs, labels = getattr(data, f"{part}_inputs"), getattr(data, f"{part}_labels")
    return [(inputs.text(row), data.class_names[label]) for row, label in enumerate(labels.tolist())]


def by_hand(words: list[str], known: set[str]) -> list[tuple[str, str]]:
    return [
        (" ".join(words[max(0, at - CONTEXT) : at]), words[at] if words[at] in known else UNKNOWN)
        for at in range(1, len(words))
    ]


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from(WORDS), min_size=4, max_size=60),
    st.lists(st.sampled_from((*WORDS, "new")), min_size=2, max_size=30),
    st.sampled_from([" ", "\n", " \t\r\n", "\N{NO-BREAK SPACE}"]),
    st.integers(1, 40),
)
def test_each_word_is_asked_for_once(train: list[str], test: list[str], space: str, piece: int) -> None:
    """From the words before it, at most ten; whatever is read at a time."""
    counts = Counter(train[1:])  # nothing is before the first word
    known = {word for word, count in counts.items() if count >= 2}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(next_words, "PIECE", piece)
        patched.setattr(next_words, "PIECES", 1)
        with TemporaryDirectory() as place:
            patched.setenv("SOFTMAXES_CACHE", f"{place}/cache")
            folder = folder_of(Path(place, "mine"), space.join(train) + space, space + space.join(test))
            if not known:
                with pytest.raises(InputError, match="expected a text in which a word occurs 2 times"):
                    load_next_words(folder)
                return
            data = load_next_words(folder)
            assert examples(data, "train") == by_hand(train, known)
            assert examples(data, "test") == by_hand(test, known)
    order = [counts[name] for name in data.class_names[1:]]
    assert data.class_names[0] == UNKNOWN
    assert order == sorted(order, reverse=True)


def test_the_end_of_a_file_is_held_out(tmp_path: Path) -> None:
    words = [f"w{number % 50}" for number in range(3000)]
    path = tmp_path / "mine.txt"
    path.write_text(" ".join(words), encoding="utf-8")
    data = load_data("next-word", data_dir=path)
    number = len(data.train_labels) + 1
    assert 0.895 < number / len(words) < 0.905
    known = set(words)
    assert examples(data, "train") == by_hand(words[:number], known)
    assert examples(data, "test") == by_hand(words[number:], known)  # which looks at no word of training
    assert data.name == "mine"
    assert data.next_word
    assert data.kind == "text"


@pytest.mark.parametrize("number", [1, 3, 20])
def test_few_words_can_be_held_out_of_a_small_file(number: int, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(" ".join("ab"[at % 2] for at in range(10 * number)), encoding="utf-8")
    if number == 1:
        with pytest.raises(InputError, match=r"expected a text of 2 words and more, and 2 in the .* part .* got 10 wo"):
            load_next_words(path)
    else:
        assert len(load_next_words(path).test_labels) == number - 1


def test_the_vocabulary_is_the_most_frequent_words(tmp_path: Path) -> None:
    text = "c c c c b b b a a d <unk> <unk> <unk> <unk>"
    folder = folder_of(tmp_path / "mine", text, "a d e c <unk>")
    data = load_next_words(folder)
    assert data.class_names == [UNKNOWN, "c", "b", "a"]  # of equal ones the first; what occurs once is unknown
    assert [name for _, name in examples(data, "test")] == [UNKNOWN, UNKNOWN, "c", UNKNOWN]
    assert data.train_labels.bincount().tolist() == [5, 3, 3, 2]
    assert "<unk> for all others: 38.5 % of the words in training, 75.0 % in the test" in data.description
    small = load_data("next-word:2", data_dir=folder)
    assert small.class_names == [UNKNOWN, "c"]
    assert small.name == "mine:2"
    assert small.fingerprint != data.fingerprint


def test_what_cannot_be_printed_is_left_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", "\ufeffx \x1b[1m\0 x \0 y\u202e y x", "x y")
    assert examples(load_next_words(folder), "train") == by_hand(["x", "[1m", "x", "y", "y", "x"], {"x", "y"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a text of 2 words and more, and 2 in the train part of it, got 0 words"),
        (b"one", "got 1 word."),
        (b"a b\n" * 400 + b"c \xff d" + b" e f" * 99, "expected text in UTF-8, got other bytes in line 401."),
        (("a b " * 99 + "ü").encode()[:-1], "expected text in UTF-8, got other bytes in line 1."),
        (b"a \0\xff b " * 99, "expected text in UTF-8, got a binary file."),
        (codecs.BOM_UTF16_LE + "a b".encode("utf-16-le"), "expected text in UTF-8, got UTF-16."),
        (
            b"a b\n" * 40 + b"x" * 1001 + b" c" * 99,
            "expected words of at most 1,000 characters, got a longer one in line 41.",
        ),
        (b"x" * 300_000, "expected words of at most 1,000 characters, got a longer one in line 1."),
        (b" ".join(b"w%d" % word for word in range(99)), "expected a text in which a word occurs 2 times, got none"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, message: str, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_next_words(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("*.part"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["next-word"], "--data next-word: expected --data-dir with the text, got none."),
        (["next-word:1"], "expected next-word or next-word:CLASSES, e.g. next-word:50000, of 2 to 20,000,000 classes"),
        (["next-word:many"], "got next-word:many."),
        (["next-word", "--data-dir", "nowhere.txt"], "nowhere.txt: expected a file or a folder with a text, got none"),
        (["next-word", "--data-dir", "."], "expected one file train.* with a text, got none."),
        (["next-word", "--data-dir", "song.txt", "--max-words", "2"], "expected texts for max_words 2, got next words"),
        (["next-word", "--data-dir", "song.txt", "--last-words", "11"], "--last-words"),
    ],
)
def test_a_bad_command_is_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("song.txt").write_text(SONG * 20, encoding="utf-8")
    assert main(["compare", "--data", *words, "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said
    assert not Path("out").exists()


def test_last_words_are_for_next_words_alone() -> None:
    texts = Texts.of(["a b", "c d"])
    labels = torch.tensor([0, 1])
    data = Data("mine", "Texts.", "here", texts, labels, texts, labels, ["x", "y"])
    with pytest.raises(ValueError, match="mine: expected next words for last_words 2, got texts"):
        trunk_for(Training(last_words=2), data.card())


def test_a_large_file_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(" ".join(f"w{number % 997}" for number in range(10**6)), encoding="utf-8")
    assert path.stat().st_size > 4_000_000
    tracemalloc.start()
    next_words._convert(path, tmp_path, Console(quiet=True), parts=("train", "test"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_a_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(SONG * 50, encoding="utf-8")
    first = load_next_words(path)
    monkeypatch.setattr(next_words, "_words", lambda *_: pytest.fail("read again"))
    assert load_next_words(path).fingerprint == first.fingerprint
    assert load_next_words(path, 5).num_classes == 5


# The network


def window(number: int) -> BagOfNgrams:
    return BagOfNgrams(4, 2**10, max_chars=0, max_words=0, last_words=number)


def seen(trunk: BagOfNgrams, *texts: str) -> list[list[int]]:
    trunk.buckets = 2**34  # of which no two words share one by chance
    found = trunk.ngrams(Texts.of(texts).batch(torch.arange(len(texts))))
    return [row[row >= 0].tolist() for row in found]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_window_has_the_last_words_with_their_places(number: int) -> None:
    whole, end, other, short = seen(
        window(number), "x y z one two three four fünf", "one two three four fünf", "one two three fünf four", "fünf"
    )
    assert len(whole) == number
    assert len(short) == 1
    assert whole == end  # what lies before the window is not seen
    assert set(end).isdisjoint(other) if number <= 2 else set(end) & set(other)  # another place is another row
    assert short[0] == end[-1]


def test_a_word_has_a_row_of_its_own_at_each_place() -> None:
    (rows,) = seen(window(5), "no no no no no")
    assert len(set(rows)) == 5


def test_features_are_the_mean_of_the_rows() -> None:
    trunk = window(3)
    batch = Texts.of(["a b c d", "b"]).batch(torch.arange(2))
    for row, found in enumerate(trunk.ngrams(batch)):
        torch.testing.assert_close(trunk(batch)[row], trunk.table.weight[found[found >= 0]].mean(0))


def test_the_rows_of_words_never_change() -> None:
    """Weights that are kept go on to mean the same words."""
    batch = Texts.of(["the cat sat"]).batch(torch.arange(1))
    assert BagOfNgrams(1, max_chars=0, max_words=0, last_words=2).ngrams(batch).tolist() == [KNOWN]


KNOWN = [-1, 48209, 112286, -1]


# A comparison


@pytest.mark.slow
def test_compare_and_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A song in which each word tells the next one is learned; perplexity is in the table and on the page."""
    monkeypatch.chdir(tmp_path)
    Path("song.txt").write_text(SONG * 100, encoding="utf-8")
    words = ["--data", "next-word", "--data-dir", "song.txt", "--heads", "softmax", "hierarchical-huffman"]
    assert main(["compare", *words, "--seeds", "1", "--epochs", "8", "--dim", "16", "--out", "out"]) == 0
    out = capsys.readouterr().out
    assert "PPL" in out
    results = Store(Path("out")).results(Store(Path("out")).study())
    assert "window of words (dim 16, buckets 262,144, last words 5)" in training_in_words(
        [result.run for result in results], Store(Path("out")).card()
    )
    for result in results:
        scores = result.epochs[-1].scores
        assert scores is not None
        assert scores.accuracy == 1
        assert scores.perplexity == pytest.approx(math.exp(scores.nll))
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "Perplexity" in page
    assert main(["predict", "out", "--head", "softmax", "--text", "then it ran", "off the"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-1] == "off"
    assert next(line for line in lines if line.startswith("off the")).split()[-1] == "cat"
