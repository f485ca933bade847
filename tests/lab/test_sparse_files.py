"""Sparse vectors with several labels each: files read as they are written, their network, and a judge of all labels."""

import dataclasses
import io
import math
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file
from scipy.sparse import csr_matrix
from sklearn.preprocessing import normalize

from softmaxes import lab
from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison.plan import heads_side_by_side
from softmaxes.lab.data import row_files, sparse_files
from softmaxes.lab.data.batches import laid_out, lay_out
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.long_tail import long_tail
from softmaxes.lab.data.ragged import LabelSets, SparseVectors, Texts
from softmaxes.lab.data.sources import load_data
from softmaxes.lab.data.text_files import load_texts
from softmaxes.lab.records import Run, Scores, Training, suited
from softmaxes.lab.store import Store
from softmaxes.lab.studies import STUDIES
from softmaxes.lab.training.backbones import BagOfFeatures, trunk_for
from softmaxes.lab.training.classifier import build
from softmaxes.lab.training.train import Progress, train

Vector = Mapping[int, float]
Rows = Sequence[tuple[Sequence[int], Vector]]  # labels, and the numbers that are not 0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def text_of(rows: Rows, features: int, labels: int) -> str:
    lines = [f"{len(rows)} {features} {labels}"]
    lines += [" ".join([",".join(map(str, of)), *(f"{i}:{v!r}" for i, v in vector.items())]) for of, vector in rows]
    return "\n".join(lines) + "\n"


def written(tmp_path: Path, content: str | bytes, name: str = "mine.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def in_folder(tmp_path: Path, train: str, test: str) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    written(folder, train, "train.txt")
    written(folder, test, "test.txt")
    return folder


def examples_of(data: Data, part: str) -> list[tuple[int, dict[int, float]]]:
    """The label of each example and its numbers that are not 0."""
    vectors, labels = getattr(data, f"{part}_inputs"), getattr(data, f"{part}_labels")
    assert isinstance(vectors, SparseVectors)
    dense = vectors.batch(torch.arange(len(vectors))).to_dense()
    return [
        (label, {int(index): float(row[index]) for index in row.nonzero()})
        for label, row in zip(labels.tolist(), dense, strict=True)
    ]


def made(rows: int, seed: int, features: int = 60, classes: int = 8, most: int = 3) -> Rows:
    """Rows whose labels can be told from their features: each class has some of its own."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        labels = sorted(random.choice(classes, random.integers(1, most + 1), replace=False).tolist())
        own = [label * features // classes + int(random.integers(4)) for label in labels for _ in range(4)]
        own += random.integers(0, features, 2).tolist()
        found.append((labels, {index: float(np.float32(random.random() + 0.1)) for index in sorted(set(own))}))
    return found


# What is read


def test_what_is_in_the_files_is_what_is_read(tmp_path: Path, cache: Path) -> None:
    train = "4 10 5\n3,1 7:0.5 0:-1.25\n \n 2:1.0\n4 \n"
    test = "\ufeff2 10 5 \r\n0,2,0\t9:1e-3\r\n1 1:3. 2:.5\r\n\r\n"
    data = load_texts(in_folder(tmp_path, train, test))
    assert examples_of(data, "train") == [(3, {0: -1.25, 7: 0.5}), (1, {0: -1.25, 7: 0.5}), (4, {})]
    assert examples_of(data, "test") == [(0, {9: pytest.approx(1e-3)}), (1, {1: 3.0, 2: 0.5})]
    assert data.test_label_sets is not None
    assert data.test_label_sets.batch(torch.arange(2)).tolist() == [[0, 2], [1, -1]]
    assert data.class_names == ["0", "1", "2", "3", "4"]
    assert (data.name, data.kind, data.card().example) == ("mine", "sparse vector", "example")
    assert data.card().sparse_size == 10
    assert data.card().train_counts == (0, 1, 0, 1, 1)
    assert data.description == (
        "Sparse vectors from files. Rows without a label, which are left out: 2. Rows of several classes: 2; training "
        "takes one once for each, the test once: precision at 1, 3 and 5 is against all its classes, every other score "
        "against the first. Classes with test rows alone: 2."
    )
    assert data.files is not None
    assert all(cache in file.parents for file in data.files.values())


def test_classes_that_no_row_has_are_counted(tmp_path: Path) -> None:
    data = load_texts(in_folder(tmp_path, "2 3 9\n0 0:1\n1 1:1\n", "1 3 9\n1 1:1\n"))
    assert data.num_classes == 9
    assert data.test_label_sets is None
    assert data.description == "Sparse vectors from files. Classes with no rows: 7."


@pytest.mark.slow
def test_a_tenth_is_held_out_of_a_file(tmp_path: Path) -> None:
    """Equal rows are in one part, whatever the order of rows and features."""
    rows = [(labels, vector) for labels, vector in made(400, 0)] * 2
    turned = [(labels, dict(reversed(vector.items()))) for labels, vector in reversed(rows)]
    found = []
    for name, some in (("one.txt", rows), ("two.data", turned)):
        data = load_texts(written(tmp_path, text_of(some, 60, 8), name))
        train, test = examples_of(data, "train"), examples_of(data, "test")
        assert len(train) == sum(len(labels) for labels, _ in rows) - int(data.test_label_sets.ends[-1])  # type: ignore[union-attr]
        assert 60 < len(test) < 100
        assert not {tuple(vector) for _, vector in train} & {tuple(vector) for _, vector in test}
        found.append(sorted((label, *vector) for label, vector in test))
    assert found[0] == found[1]
    assert "a tenth of them held out as test rows by a hash of each." in data.description


VECTOR = st.dictionaries(st.integers(0, 99), st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=6)
LABELS = st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, VECTOR), min_size=1, max_size=6))
def test_rows_come_back(rows: list[tuple[list[int], dict[int, float]]]) -> None:
    with TemporaryDirectory() as name:
        path = written(Path(name), text_of(rows, 100, 10))
        row_files._convert(path, Path(name), Console(), form=sparse_files.FORM, parts=("train",))
        pairs, ends, label_ends = (np.load(Path(name, f"train_{what}.npy")) for what in ("pairs", "ends", "label_ends"))
    kept = SparseVectors(torch.from_numpy(pairs), torch.from_numpy(ends), 100)
    expected = torch.zeros(len(rows), 100)
    for row, (_, vector) in enumerate(rows):
        for index, value in vector.items():
            expected[row, index] = value
    assert torch.equal(kept.batch(torch.arange(len(rows))).to_dense(), expected)
    assert np.diff(label_ends, prepend=0).tolist() == [len(labels) for labels, _ in rows]
    assert torch.equal(
        SparseVectors.of([vector for _, vector in rows], 100).batch(torch.arange(len(rows))).to_dense(), expected
    )


def test_a_row_of_several_labels_lies_in_the_file_once(tmp_path: Path) -> None:
    labels = ",".join(map(str, range(500)))
    data = load_texts(in_folder(tmp_path, f"1 4 500\n{labels} 0:1 1:2 2:3\n", "1 4 500\n3 1:1\n"))
    vectors = data.train_inputs
    assert isinstance(vectors, SparseVectors)
    assert (len(vectors), len(vectors.pairs)) == (500, 3)
    assert torch.equal(vectors[400:402].batch(torch.arange(2)).to_dense(), torch.tensor([[1.0, 2.0, 3.0, 0.0]] * 2))


@pytest.mark.slow
def test_little_is_held_of_a_large_file(tmp_path: Path) -> None:
    vector = dict.fromkeys(range(500), 0.123456)
    path = written(tmp_path, text_of([([row % 9], {**vector, 500 + row: 1.0}) for row in range(1500)], 3000, 9))
    assert path.stat().st_size > 8_000_000
    tracemalloc.start()
    row_files._convert(path, tmp_path, Console(), form=sparse_files.FORM, parts=("train", "test"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_file_is_converted_once_and_progress_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, text_of(made(40, 0), 60, 8))
    data = load_texts(path)
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True)
    row_files._convert(path, tmp_path, console, form=sparse_files.FORM, parts=("train", "test"))
    assert "Converting mine.txt" in shown.getvalue()
    monkeypatch.setattr(row_files, "_Reading", None)
    assert load_texts(path).fingerprint == data.fingerprint == load_data("text", data_dir=path).fingerprint
    assert load_data(str(path)).fingerprint == data.fingerprint


# What is refused

ROWS = r'expected rows "LABEL,LABEL INDEX:VALUE \.\.\.", got '
FIRST = r'expected a first line "ROWS FEATURES LABELS", e\.g\. "100 5000 30", got '
BAD: list[tuple[str | bytes, str]] = [
    ("0,1 5:0.3 7:1.2\n2 1:1.0\n", FIRST + r"'0,1 5:0\.3 7:1\.2'\.$"),
    (" 5:0.3\n2 1:1.0\n", FIRST + r"'5:0\.3'\.$"),
    ("2 10\n0 5:0.3\n1 1:1.0\n", FIRST + r"'2 10'\.$"),
    ("2,10,3\n0 5:0.3\n1 1:1.0\n", FIRST + r"'2,10,3'\.$"),
    ("two 10 3\n0 5:0.3\n1 1:1.0\n", FIRST + r"'two 10 3'\.$"),
    ("9" * 5000 + " 10 3\n0 5:0.3\n", r'expected lines "__label__NAME words"'),
    ("9" * 30 + " 10 3\n0 5:0.3\n", FIRST + "'9+ 10 3'"),
    ("2 0 3\n0 0:1\n1 0:1\n", r"expected at least 1 features in the first line, got 0\.$"),
    ("0 10 3\n", r"expected at least 1 rows in the first line, got 0\.$"),
    ("2 2147483648 3\n0 0:1\n", r"expected at most 2,147,483,647 features in the first line, got 2,147,483,648\.$"),
    (
        "2 5 9000000\n0 0:1\n",
        r"expected at most 100,020 labels in the first line, by the number of rows, got 9,000,000",
    ),
    ("3 10 5\n0 1:1\n1 2:1\n", r"expected 3 rows, as the first line says, got 2\.$"),
    ("1 10 5\n0 1:1\n1 2:1\n", r"expected 1 row, as the first line says, got 2\.$"),
    ("2 10 5\n0 1:1\n1 2:1\n\n3 1:1\n", r"expected 2 rows, as the first line says, got 4\.$"),
    ("2 10 5\n", r"expected 2 rows, as the first line says, got 0\.$"),
    (
        "3 10 5\n0 1:1\n1 10:1\n5 2:1\n",
        ROWS + r"2 others: lines 3 \(index '10', not below 10\), 4 \(label '5', not below 5\)",
    ),
    ("1 10 5\n0 99999999999999999999:1\n", ROWS + r"1 other: line 2 \(index '9+', not below 10\)\.$"),
    ("1 10 5\n0 1:1 " + "9" * 5000 + ":1\n", r"line 2 \(index '9+…9+', not below 10\)\.$"),
    ("1 10 5\n" + "9" * 5000 + " 1:1\n", r"line 2 \(label '9+…9+', not below 5\)\.$"),
    ("1 10 5\n0 1:nan\n", r"line 2 \(value 'nan'\)\.$"),
    ("1 10 5\n0 1:-inf\n", r"line 2 \(value '-inf'\)\.$"),
    ("1 10 5\n0 1:1e39\n", r"line 2 \(value '1e39'\)\.$"),
    ("1 10 5\n0 1:1e999\n", r"line 2 \(value '1e999'\)\.$"),
    ("1 10 5\n0 1:x\n", r"line 2 \(value 'x'\)\.$"),
    ("1 10 5\n0 1:1_0\n", r"line 2 \(value '1_0'\)\.$"),
    ("1 10 5\n0 1:\u0663\n", r"line 2 \(value '\u0663'\)\.$"),
    ("1 10 5\n0 \u0663:1\n", r"line 2 \('\u0663:1' for index:value\)\.$"),
    ("1 10 5\n0 1:0x1p3\n", r"line 2 \(value '0x1p3'\)\.$"),
    ("1 10 5\n0 1:2:3\n", r"line 2 \(value '2:3'\)\.$"),
    ("1 10 5\n0 1:\n", r"line 2 \(value ''\)\.$"),  # as where the file breaks off
    ("1 10 5\n0 1:1 4\n", r"line 2 \('4' for index:value\)\.$"),
    ("1 10 5\n0 -1:1\n", r"line 2 \('-1:1' for index:value\)\.$"),
    ("1 10 5\n0 1.5:1\n", r"line 2 \('1\.5:1' for index:value\)\.$"),
    ("1 10 5\n0, 1:1\n", r"line 2 \('0,' for labels\)\.$"),
    ("1 10 5\n0, 2 1:1\n", r"line 2 \('0,' for labels\)\.$"),
    ("1 10 5\n1:1 2:1\n", r"line 2 \('1:1' for labels\)\.$"),
    ("1 10 5\n__label__a words\n", r"line 2 \('__label__a' for labels\)\.$"),
    ("1 10 5\n0 1:1\u00a02:1\n", r"line 2 \('0 1:1.2:1' for labels index:value\)\.$"),
    ("1 10 5\n0 1:1 7:1 1:1\n", r"line 2 \(index 1 twice\)\.$"),
    ("1 10 5\n0 1:\x1b[31m\n", r"line 2 \(value '.\[31m'\)\.$"),
    (
        "99 10 5\n0 1:1\n" + "0 1:x\n" * 1200,
        ROWS + r"1,200 others: lines 3 \(value 'x'\), (\d+ \(value 'x'\), ){9}\.\.\.\.$",
    ),
    ("2 10 5\n 1:1\n 2:1\n", ROWS + r"2 without a label\.$"),
    ("1 10 1\n0 1:1\n", "can be held out, got 1 row alike"),
    ("3 10 1\n0 1:1\n0 2:1\n0 3:1\n", r"expected at least 2 classes, got 1\.$"),
    (b"1 10 5\n0 1:1\xff\n", r"expected text in UTF-8, got other bytes in line 2\.$"),
    (b"1 10 5\n\0\xff\xfe" + bytes(range(256)), r"expected text in UTF-8, got a binary file\.$"),
    ("1 10 5\n0 1:1\n".encode("utf-16"), r"expected text in UTF-8, got UTF-16\.$"),
    ("", r'expected lines "__label__NAME words", got none\.$'),
]


def check_refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_texts(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("content", "message"), BAD)
def test_what_is_wrong_is_named(content: str | bytes, message: str, tmp_path: Path, cache: Path) -> None:
    check_refused(written(tmp_path, content), message)
    assert "2 classes" in message or "by the number" in message or not list(cache.glob("texts/*/names.json"))


def test_a_long_first_row_without_a_header_is_known(tmp_path: Path) -> None:
    """Of which the beginning of the file has a part."""
    pairs = " ".join(f"{index}:0.5" for index in range(2000))
    check_refused(written(tmp_path, f"0,1 {pairs}\n"), FIRST)
    assert not sparse_files.is_sparse(f"3 4:30 {'word ' * 2000}__label__a\n".encode()[:4096])


def test_two_files_have_to_fit(tmp_path: Path) -> None:
    folder = in_folder(tmp_path, "1 10 5\n0 1:1\n", "1 11 5\n0 1:1\n")
    message = r"test.txt: expected 10 features and 5 labels in the first line, as in train.txt, got 11 and 5\.$"
    with pytest.raises(InputError, match=message):
        load_texts(folder)
    in_folder(tmp_path, "1 10 5\n0 1:1\n", "__label__a words\n")
    message = r"test.txt: expected a file of the Extreme .* Repository, as train.txt is, got texts in fastText's format"
    with pytest.raises(InputError, match=message):
        load_texts(folder)


def test_bad_rows_are_one_line_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = written(tmp_path, "2 10 5\n0 1:1\n1 2:nan\n"), tmp_path / "out"
    assert main(["compare", "--data", "text", "--data-dir", str(path), "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"softmaxes: {path}: expected rows \"LABEL,LABEL INDEX:VALUE ...\", got 1 other: line 3 (value 'nan').\n"
    )
    assert not out.exists()


VECTORS = SparseVectors.of([{0: 1.0, 3: 2.0}, {2: 1.0}], 4)


def data_of(vectors: SparseVectors, **fields: Any) -> Data:
    values: dict[str, Any] = {
        "name": "own",
        "description": "Made by the test.",
        "source": "made by the test",
        "train_inputs": vectors,
        "train_labels": torch.tensor([0, 1]),
        "test_inputs": VECTORS,
        "test_labels": torch.tensor([0, 1]),
        "class_names": ["a", "b", "c"],
    }
    return Data(**values | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"train_inputs": dataclasses.replace(VECTORS, size=3)},
            r"train sparse vectors of indices in 0\.\.2, got 0 to 3",
        ),
        ({"train_inputs": SparseVectors.of([{0: math.inf}, {}], 4)}, "expected train sparse vectors of finite numbers"),
        ({"train_inputs": dataclasses.replace(VECTORS, ends=VECTORS.ends + 1)}, "that end where their pairs end"),
        ({"train_inputs": dataclasses.replace(VECTORS, pairs=VECTORS.pairs.long())}, r"as int32 \(M, 2\)"),
        (
            {"test_inputs": SparseVectors.of([{0: 1.0}, {1: 1.0}], 5)},
            r"training sparse vectors' shape \(4,\), got \(5,\)",
        ),
        ({"test_inputs": torch.zeros(2, 4)}, "expected test sparse vectors, as for training, got others"),
        ({"test_label_sets": LabelSets.of([[0], [2, 1]])}, "its test label first, got others"),
        ({"test_label_sets": LabelSets.of([[0], [1, 3]])}, "the labels of each test example as classes"),
        (
            {"train_inputs": dataclasses.replace(VECTORS, begins=torch.tensor([-1, 2]))},
            "that end where their pairs end",
        ),
        ({"test_label_sets": LabelSets.of([[0, 1]])}, "the labels of each test example as classes"),
    ],
)
def test_broken_vectors_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        data_of(VECTORS, **fields)


def test_other_vectors_or_labels_have_another_fingerprint() -> None:
    texts = Texts.of(["a", "b"])
    data = data_of(VECTORS)
    known = {
        data.fingerprint,
        data_of(SparseVectors.of([{0: 1.0, 3: 2.5}, {2: 1.0}], 4)).fingerprint,
        data_of(dataclasses.replace(VECTORS, size=5), test_inputs=dataclasses.replace(VECTORS, size=5)).fingerprint,
        data_of(VECTORS, test_label_sets=LabelSets.of([[0], [1, 2]])).fingerprint,
        data_of(VECTORS, test_label_sets=LabelSets.of([[0, 2], [1]])).fingerprint,
        data_of(texts, test_inputs=texts).fingerprint,  # type: ignore[arg-type]
    }
    assert len(known) == 6
    assert data_of(VECTORS).fingerprint == data.fingerprint


# The network


def test_a_vector_is_the_sum_of_its_features_weighted_at_unit_length() -> None:
    """As scikit-learn and scipy have it."""
    random = np.random.default_rng(0)
    dense = random.normal(size=(6, 30)) * (random.random((6, 30)) < 0.2) * 10.0 ** random.integers(-30, 30, (6, 1))
    dense[3] = 0
    vectors = SparseVectors.of([{int(i): row[i] for i in row.nonzero()[0]} for row in dense], 30)
    trunk = BagOfFeatures(30, dim=5)
    found = trunk(vectors.batch(torch.arange(6)))
    expected = normalize(csr_matrix(dense)) @ trunk.table.weight.detach().numpy()
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    alone = torch.cat([trunk(vectors.batch(torch.tensor([row]))) for row in range(6)])
    torch.testing.assert_close(found, alone)
    found.sum().backward()
    gradient = trunk.table.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    unit = torch.from_numpy(normalize(csr_matrix(dense)).toarray().sum(0)).float()
    torch.testing.assert_close(gradient.to_dense(), unit.unsqueeze(1).expand(-1, 5))


def test_a_number_that_is_given_as_0_is_none() -> None:
    trunk = BagOfFeatures(4, dim=3, hidden_units=6)
    found = trunk(SparseVectors.of([{0: 0.0}, {}, {1: 2.0, 2: 0.0}, {1: 1e-38}], 4).batch(torch.arange(4)))
    assert found.shape == (4, 6)
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[2], found[3])


TINY = {"dim": 16, "epochs": 6, "batch_size": 16}


def sparse_data(tmp_path: Path, rows: int = 300) -> Data:
    train, test = (text_of(made(number, seed), 60, 8) for number, seed in ((rows, 1), (rows // 3, 2)))
    return load_texts(in_folder(tmp_path, train, test))


def test_options_and_recipe_are_those_of_texts_but_for_ngrams(tmp_path: Path) -> None:
    data = sparse_data(tmp_path, 30)
    study = heads_side_by_side(data, ("softmax",), [0], {})
    assert {(run.optimizer, run.lr, run.initial_accumulator) for run in study.runs} == {("adagrad", 0.5, 1e-7)}
    for name in ("fair", "many"):
        runs = STUDIES[name].make(data.card(), 1, {}).runs
        assert {(run.optimizer, run.initial_accumulator) for run in runs} == {("adagrad", 1e-7)}
    trunk = trunk_for(Training(dim=4, hidden_units=9), data.card())
    assert isinstance(trunk, BagOfFeatures)
    assert (trunk.table.weight.shape, trunk.out_features) == ((60, 4), 9)
    for changes, message in (
        ({"buckets": 9}, "mine: expected texts or next words for buckets 9, got sparse vectors, which have none."),
        ({"flips": True}, "mine: expected images for flips True, got sparse vectors, which have none."),
        ({"standardise": False}, "expected images or vectors for standardise False, got sparse vectors"),
        ({"backbone": "resnet"}, "expected images for backbone resnet, got sparse vectors, which have none."),
    ):
        with pytest.raises(ValueError, match=message):
            trunk_for(Training.model_validate(changes), data.card())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam"}, {"precision": "bf16-mixed"}]
)
def test_every_step_learns(changes: dict[str, Any], tmp_path: Path) -> None:
    data, store = sparse_data(tmp_path, 60), Store(tmp_path / "store")
    setting = {"optimizer": "adagrad", "lr": 0.05, "initial_accumulator": 0.0, "dim": 8, "epochs": 3} | changes
    run = Run.model_validate({"head": "softmax", "data": data.name, "fingerprint": data.fingerprint} | setting)
    lay_out(data, store)
    losses = [epoch.train_loss for epoch in train(run, data.card(), store).epochs]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    data = sparse_data(tmp_path, 60)
    run = Run.model_validate(
        {"head": "softmax", "data": data.name, "fingerprint": data.fingerprint} | suited(data.kind, {"epochs": 3})
    )
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    for store in (whole, cut):
        lay_out(data, store)

    def stop(progress: Progress) -> None:
        if progress.epoch is not None and progress.epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, data.card(), cut, watch=stop)
    assert cut.checkpoint(run).exists()
    expected = train(run, data.card(), whole)
    found = train(run, data.card(), cut)
    assert [(epoch.train_loss, epoch.scores) for epoch in found.epochs] == [
        (epoch.train_loss, epoch.scores) for epoch in expected.epochs
    ]


class Linear(torch.nn.Module):
    """A network of the user's own: sparse vectors are a sparse matrix to it."""

    def __init__(self, card: Any) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(card.sparse_size, 7)
        self.out_features = 7

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(torch.sparse.mm(vectors, self.linear.weight.t()) + self.linear.bias)


@pytest.mark.slow
def test_a_network_of_ones_own_is_given_a_sparse_matrix(tmp_path: Path) -> None:
    done = lab.compare(
        sparse_data(tmp_path, 60), heads=["softmax"], backbone=Linear, seeds=1, out=tmp_path / "out", jobs=1, epochs=1
    )
    assert done.results[0].epochs[0].scores is not None


def test_only_names_of_files_are_laid_out(tmp_path: Path) -> None:
    """The processes that train map the pairs where they lie."""
    rows = [([0, 1], dict.fromkeys(range(500), 1.0))] * 50
    data, store = load_texts(in_folder(tmp_path, *[text_of(rows, 600, 2)] * 2)), Store(tmp_path / "store")
    lay_out(data, store)
    assert store.tensors().stat().st_size < 8000
    run = Run(head="softmax", data=data.name, fingerprint=data.fingerprint)
    parts = laid_out(run, store, torch.device("cpu"))
    assert isinstance(parts.train.inputs, SparseVectors)
    assert torch.equal(
        parts.train.batch(torch.arange(3)).to_dense(), data.train_inputs.batch(torch.arange(3)).to_dense()
    )  # type: ignore[union-attr]
    assert torch.equal(parts.test.all_labels(torch.tensor([7])), torch.tensor([[0, 1]]))  # type: ignore[arg-type]
    assert parts.train.all_labels(torch.tensor([7])) is None


# The judge


def precision_by_hand(log_prob: np.ndarray, labels: Sequence[Sequence[int]], k: int) -> float:
    """As the Extreme Classification Repository defines it."""
    best = np.argsort(-log_prob, axis=1, kind="stable")[:, :k]
    return float(np.mean([len(set(row.tolist()) & set(of)) / k for row, of in zip(best, labels, strict=True)]))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["softmax", "hierarchical", "one-vs-rest"])
def test_precision_is_that_of_all_labels(head: str, tmp_path: Path) -> None:
    data = sparse_data(tmp_path)
    done = lab.compare(data, heads=[head], seeds=1, out=tmp_path / "out", jobs=1, **TINY)
    scores = done.results[0].epochs[-1].scores
    assert scores is not None
    run = done.results[0].run
    classifier = build(run, data.card(), data.train_inputs)
    classifier.load_state_dict(load_file(Store(tmp_path / "out").weights(run)))
    with torch.no_grad():
        log_prob = classifier.eval().log_prob(data.test_inputs.batch(torch.arange(100))).numpy()  # type: ignore[union-attr]
    labels = [labels for labels, _ in made(100, 2)]
    found = [scores.precision_at_1, scores.precision_at_3, scores.precision_at_5]
    assert found == pytest.approx([precision_by_hand(log_prob, labels, k) for k in (1, 3, 5)], abs=1e-12)
    assert scores.accuracy == pytest.approx(precision_by_hand(log_prob, [of[:1] for of in labels], 1), abs=1e-12)
    assert found[0] is not None
    assert found[0] > 0.9 > scores.accuracy  # which counts the first label alone


def test_stored_scores_without_precision_still_load() -> None:
    known = {"accuracy": 0.5, "top5": 1, "precision": 0, "recall": 0, "f1": 0, "nll": 1, "calibration_error": 0}
    assert Scores.model_validate(known).precision_at_1 is None


# The command line


@pytest.mark.slow
def test_compare_from_files_to_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = in_folder(tmp_path, text_of(made(200, 1), 60, 8), text_of(made(90, 2), 60, 8)), tmp_path / "out"
    words = ["--data", "text", "--data-dir", str(folder), "--heads", "softmax", "hierarchical-grown", "--dim", "8"]
    words += ["--epochs", "4", "--seeds", "1", "--jobs", "2", "--out", str(out), "--score", "50"]
    assert main(["compare", *words, "--validation", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "P@1    P@3    P@5" in printed
    assert "Top-5" not in printed
    page = " ".join((out / "report.html").read_text(encoding="utf-8").split())
    assert "Bag of features (dim 8)" in page
    assert "sparse vectors of 60 numbers" in page
    assert "Precision@k is the share of the k most probable classes that are labels of the example" in page
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "| Top-5 accuracy, % | Precision@1, % | Precision@3, % | Precision@5, % |" in table
    results = Store(out).results(Store(out).study())
    assert [epoch.scored for epoch in results[0].epochs] == [50, 50, 50, None]
    assert main(["repeat", str(next((out / "runs").glob("*.json"))), *words[:4]]) == 0
    assert main(["data", str(folder)]) == 0
    assert "8 classes, no groups; sparse vectors of 60 numbers" in capsys.readouterr().out


@pytest.mark.slow
def test_what_needs_vectors_in_memory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, text_of(made(40, 1), 60, 8))
    for words in (
        ["data", str(path), "--long-tail", "2"],
        ["data", str(path), "--out", "x.png"],
        ["compare", "--data", str(path), "--cluster", "local", "--out", str(tmp_path / "out")],
    ):
        assert main(words) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("softmaxes: --long-tail: expected data that are read into memory, got ")
    assert told[1] == "softmaxes: --out: expected none with --data mine, for sparse vectors have no picture, got x.png."
    assert told[2].startswith("softmaxes: --cluster: expected data that are read into memory, got ")
    assert isinstance(long_tail(data_of(VECTORS), 2).train_inputs, SparseVectors)
