"""Vectors of the user's own: read as they are, left in their files, never run, refused in one line that says why."""

import dataclasses
import io
import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.data import dataset as every_source
from softmaxes.lab.data import features as source
from softmaxes.lab.data import npy
from softmaxes.lab.data.batches import lay_out
from softmaxes.lab.data.dataset import CHUNK, Data, chunks
from softmaxes.lab.data.features import load_features, mapped
from softmaxes.lab.data.sources import load_data
from softmaxes.lab.records import DataCard, Run
from softmaxes.lab.store import Store
from softmaxes.lab.training.train import train
from toy import numbers

Arrays = dict[str, npt.NDArray[Any]]


def arrays(classes: int = 4, size: int = 3, seed: int = 0) -> Arrays:
    """Vectors around a centre for each class, 40 to train on and 12 to test."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((classes, size))
    made: Arrays = {}
    for part, rows in (("train", 40), ("test", 12)):
        labels = np.arange(rows) % classes
        made[f"{part}_features"] = (centres[labels] + 0.1 * generator.standard_normal((rows, size))).astype(np.float32)
        made[f"{part}_labels"] = labels
    return made


def as_npz(folder: Path, content: Arrays) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **content)  # type: ignore[arg-type]
    return path


def as_npy(folder: Path, content: Arrays) -> Path:
    path = folder / "mine"
    path.mkdir()
    for name, array in content.items():
        np.save(path / f"{name}.npy", array)
    return path


def as_parquet(folder: Path, content: Arrays, **columns: Any) -> Path:
    path = folder / "mine"
    path.mkdir(exist_ok=True)
    for part in ("train", "test"):
        table = {"features": pa.array(list(content[f"{part}_features"])), "label": content[f"{part}_labels"]}
        changed = {name: change(table[name]) for name, change in columns.items()}
        parquet.write_table(pa.table(table | changed), path / f"{part}.parquet", row_group_size=7)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def check_is(data: Data, content: Arrays) -> None:
    for name in ("train", "test"):
        np.testing.assert_array_equal(getattr(data, f"{name}_inputs").numpy(), content[f"{name}_features"])
        np.testing.assert_array_equal(getattr(data, f"{name}_labels").numpy(), content[f"{name}_labels"])
        assert getattr(data, f"{name}_inputs").dtype == torch.from_numpy(content[f"{name}_features"]).dtype


@pytest.mark.slow
@pytest.mark.parametrize("layout", [as_npz, as_npy, as_parquet])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("labels", [np.uint8, np.int32, np.uint64])
def test_what_is_in_the_files_is_what_is_read(
    layout: Callable[[Path, Arrays], Path], kind: Any, labels: Any, tmp_path: Path
) -> None:
    content = {name: array.astype(kind if name.endswith("features") else labels) for name, array in arrays().items()}
    path = layout(tmp_path, content)
    data = load_features(path)
    check_is(data, content)
    assert (data.name, data.source, list(data.class_names)) == ("mine", str(path), ["0", "1", "2", "3"])
    assert (data.group_names, data.group_of_class) == (None, None)
    card = data.card()
    assert (card.image_shape, card.vector_size, card.samples, card.example) == (None, 3, (), "example")
    assert card.train_counts == (10,) * 4
    assert DataCard.model_validate_json(card.model_dump_json()) == card


@pytest.mark.slow
def test_the_layouts_are_one_data_set(tmp_path: Path) -> None:
    content = arrays()
    paths = [as_npz(tmp_path, content), as_npy(tmp_path, content)]
    (tmp_path / "other").mkdir()
    paths.append(as_parquet(tmp_path / "other", content))
    assert len({load_features(path).fingerprint for path in paths}) == 1
    content["test_features"][-1, -1] += 1
    assert load_features(as_npz(tmp_path, content)).fingerprint != load_features(paths[1]).fingerprint


def test_by_the_names_that_the_command_line_takes(tmp_path: Path) -> None:
    content = arrays()
    file, folder = as_npz(tmp_path, content), as_npy(tmp_path, content)
    for data in (
        load_data("features", data_dir=file),
        load_data("features", data_dir=folder),
        load_data(str(file)),
        load_data(str(folder)),
    ):
        check_is(data, content)
    with pytest.raises(InputError, match="--data features: expected --data-dir with the vectors, got none"):
        load_data("features")
    with pytest.raises(InputError, match=r"--data-dir: expected none with --data .*mine.npz, where vectors lie"):
        load_data(str(file), data_dir=folder)


@pytest.mark.parametrize("layout", [as_npz, as_npy])
def test_names_of_classes(layout: Callable[[Path, Arrays], Path], tmp_path: Path) -> None:
    """As many classes as names, some perhaps without an example."""
    names = np.array(["zebra", "ape", "été", "cat", "nobody"])
    data = load_features(layout(tmp_path, arrays() | {"class_names": names}))
    assert list(data.class_names) == names.tolist()
    assert data.card().train_counts == (10, 10, 10, 10, 0)


def test_the_last_letter_of_unicode_is_one_and_the_next_is_none(tmp_path: Path) -> None:
    last = np.array(["a", "b", "c", "d\U0010ffff"])
    with pytest.raises(InputError, match="of at most 1,000 printable characters"):
        load_features(as_npz(tmp_path, arrays() | {"class_names": last}))
    beyond = last.copy()
    beyond.view(np.uint32)[-1] += 1
    with pytest.raises(InputError, match="expected class names in Unicode, got the letter 0x110000"):
        load_features(as_npz(tmp_path, arrays() | {"class_names": beyond}))


def test_a_tenth_is_held_out_where_there_is_one_set(tmp_path: Path) -> None:
    whole = {"features": np.arange(50, dtype=np.float32).reshape(25, 2), "labels": np.arange(25) % 2}
    data = load_features(as_npz(tmp_path, whole))
    assert data.description == "Feature vectors from a file, a tenth of them held out as test examples at seed 0."
    assert (len(data.train_inputs), len(data.test_inputs)) == (23, 2)
    rows = torch.cat([data.train_inputs, data.test_inputs])[:, 0].sort().values
    assert rows.tolist() == whole["features"][:, 0].tolist()
    for part in ("train", "test"):
        inputs, labels = getattr(data, f"{part}_inputs"), getattr(data, f"{part}_labels")
        assert (inputs[:, 0] / 2 % 2).tolist() == labels.tolist()  # each vector has kept its label
    again, other = load_features(tmp_path / "mine.npz"), load_features(tmp_path / "mine.npz", seed=1)
    assert torch.equal(again.test_inputs, data.test_inputs)
    assert not torch.equal(other.test_inputs, data.test_inputs)


def test_arrays_in_a_folder_stay_where_they_are(tmp_path: Path) -> None:
    """What is written to the file afterwards is what the tensor has: nothing was copied."""
    path = as_npy(tmp_path, arrays())
    data = load_features(path)
    assert data.files == {part: path.absolute() / f"{part}_features.npy" for part in ("train", "test")}
    file = np.load(path / "train_features.npy", mmap_mode="r+")
    file[7, 1] = 123
    file.flush()
    assert data.train_inputs[7, 1] == 123


def test_training_reads_mapped_vectors_in_place_and_gives_the_same_numbers(tmp_path: Path) -> None:
    """The training process finds them in their files; the store holds labels alone."""
    content = arrays(size=200)
    results = []
    for path in (as_npz(tmp_path, content), as_npy(tmp_path, content)):
        data, store = load_features(path), Store(tmp_path / f"store{path.suffix}")
        lay_out(data, store)
        assert (store.tensors().stat().st_size < 2000) == (data.files is not None)
        setting = {"head": "sampled", "data": "mine", "fingerprint": data.fingerprint, "epochs": 5, "batch_size": 16}
        result = train(Run.model_validate(setting), data.card(), store)
        assert result.guesses == ()
        assert result.epochs[-1].scores is not None
        assert result.epochs[-1].scores.accuracy == 1
        results.append(numbers(result))
    assert results[0] == results[1]


def test_chunks_are_of_bounded_size_and_copy_nothing() -> None:
    tensor = torch.zeros(3, CHUNK // 2)
    parts = list(chunks(tensor))
    assert [len(part) for part in parts] == [2, 1]
    assert parts[0].data_ptr() == tensor.data_ptr()
    assert [len(part) for part in chunks(torch.zeros(2, CHUNK + 1))] == [1, 1]
    assert [len(part) for part in chunks(torch.zeros(0, 5))] == [0]


def test_bytes_the_other_way_round_and_columns_first(tmp_path: Path) -> None:
    """A file that is read whole is put right; one that is mapped cannot be."""
    content = arrays()
    swapped = content["train_features"].astype(">f4")
    columns = np.asfortranarray(content["train_features"])
    for odd, message in ((swapped, "the bytes of a number the other way round"), (columns, "columns first")):
        check_is(load_features(as_npz(tmp_path, content | {"train_features": odd})), content)
        np.save(tmp_path / "odd.npy", odd)
        with pytest.raises(InputError, match=f"odd.npy: expected vectors one after the other.* got {message}"):
            mapped(tmp_path / "odd.npy")


def changed(name: str, change: Callable[[npt.NDArray[Any]], Any]) -> Callable[[Arrays], Arrays]:
    return lambda content: content | {name: change(content[name])}


def with_value(value: float) -> Callable[[npt.NDArray[Any]], Any]:
    def put(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        array = array.astype(np.float64)
        array[5, 2] = value
        return array

    return put


BAD: list[tuple[Callable[[Arrays], Arrays], str]] = [
    (changed("train_features", with_value(np.nan)), "finite in float32, got nan in row 5, column 2"),
    (changed("test_features", with_value(-np.inf)), "test vectors .* finite in float32, got -inf in row 5, column 2"),
    (changed("test_features", with_value(1e39)), r"finite in float32, got 1e\+39 in row 5"),
    (changed("train_features", lambda array: array[0]), r"train_features.* \(N, D\), got float32 \(3,\)"),
    (
        changed("train_features", lambda array: array.astype(int)),
        r"train_features.*float64 \(N, D\), got int64 \(40, 3\)",
    ),
    (changed("train_features", lambda array: array.astype(complex)), "got complex128"),
    (changed("test_features", lambda array: array[:, :2]), "test vectors of the training vectors' 3 numbers, got 2"),
    (changed("train_labels", lambda array: array[1:]), "train_labels.*: expected 40 labels, one a vector, got 39"),
    (
        changed("train_labels", lambda array: array[:, None]),
        r"train_labels.*: expected labels as integers or strings \(N,\)",
    ),
    (changed("test_labels", lambda array: array - 1), r"test_labels.*: expected labels in 0\.\.100519, .* got -1"),
    (
        changed("test_labels", lambda array: array + 2**40),
        r"expected labels in 0\.\.100519, by the number of examples, got 109951162777",
    ),
    (changed("test_labels", lambda array: array.astype(float)), "test_labels.*: expected labels as integers"),
    (changed("test_labels", lambda array: array > 1), "expected labels as integers .*, got bool"),
    (lambda content: content | {"class_names": np.array(["a", "b"])}, r"expected train labels in 0\.\.1, got 3"),
    (lambda content: content | {"class_names": np.arange(4)}, r"class_names.*: expected class names as strings"),
    (
        lambda content: content | {"class_names": np.array(["a\x1b[31m", "b", "c", "d"])},
        "of at most 1,000 printable characters, got",
    ),
    (lambda content: content | {"class_names": np.array(["a" * 1001, "b", "c", "d"])}, "of at most 1,000 printable"),
    (lambda content: {name: array * np.array(0, array.dtype) for name, array in content.items()}, "at least 2 classes"),
    (
        lambda content: content | {"test_features": np.zeros((0, 3), "f4"), "test_labels": np.zeros(0, int)},
        r"test_features.*: expected at least one vector of at least one number, got float32 \(0, 3\)",
    ),
    (
        lambda content: content | {"train_features": np.zeros((40, 0), "f4"), "test_features": np.zeros((12, 0), "f4")},
        r"train_features.*: expected at least one vector of at least one number, got float32 \(40, 0\)",
    ),
]


@pytest.mark.parametrize("layout", [as_npz, as_npy])
@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_does_not_fit_is_refused(
    layout: Callable[[Path, Arrays], Path], change: Callable[[Arrays], Arrays], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_features(layout(tmp_path, change(arrays())))
    assert str(tmp_path / "mine") in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_row_of_what_is_not_finite_is_counted_over_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every_source, "CHUNK", 3 * 7)
    content = arrays()
    content["train_features"][38, 1] = np.nan
    with pytest.raises(InputError, match="got nan in row 38, column 1"):
        load_features(as_npz(tmp_path, content))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    content = arrays()
    del content["test_labels"]
    with pytest.raises(InputError, match=r"mine.npz: expected arrays .*, or features and labels, got no test_labels"):
        load_features(as_npz(tmp_path, content))
    folder = as_npy(tmp_path, content)
    with pytest.raises(InputError, match=r"mine: expected arrays train_features, .*, got no test_labels among"):
        load_features(folder)
    with pytest.raises(InputError, match=r"nowhere: expected a file .npz or a folder with vectors, got none"):
        load_features(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: expected train_features, .*, or train.parquet .*, got none"):
        load_features(tmp_path / "empty")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"notes.txt: expected a file .npz or .parquet, or a folder of .npy or"):
        load_features(tmp_path / "notes.txt")
    (folder / "train.parquet").touch()
    with pytest.raises(
        InputError, match=r"expected .npy files or parquet files, got both: test_features.npy, train.par"
    ):
        load_features(folder)


SPELLINGS = [
    ("X_train", "y_train", "X_test", "y_test"),
    ("x_train", "train_y", "testX", "y_test"),
    ("embeddings-train", "targets_train", "Test_Vectors", "test_label"),
]


@pytest.mark.parametrize("names", SPELLINGS)
@pytest.mark.parametrize("layout", [as_npz, as_npy])
def test_arrays_may_have_the_names_that_people_give_them(
    layout: Callable[[Path, Arrays], Path], names: tuple[str, ...], tmp_path: Path
) -> None:
    content = arrays()
    path = layout(tmp_path, {name: content[own] for name, own in zip(names, content, strict=True)})
    check_is(load_features(path), content)
    check_is(load_data(str(path)), content)


@pytest.mark.parametrize("layout", [as_npz, as_npy])
def test_one_set_may_lie_in_a_file_or_a_folder(layout: Callable[[Path, Arrays], Path], tmp_path: Path) -> None:
    content = arrays()
    one = {"X": content["train_features"], "y": content["train_labels"]}
    data = load_features(layout(tmp_path, one))
    assert (len(data.train_inputs), len(data.test_inputs)) == (36, 4)
    assert data.description.endswith("a tenth of them held out as test examples at seed 0.")
    known = {tuple(row.tolist()): label for row, label in zip(one["X"], one["y"].tolist(), strict=True)}
    for part in ("train", "test"):
        for row, label in zip(getattr(data, f"{part}_inputs"), getattr(data, f"{part}_labels"), strict=True):
            assert known[tuple(row.tolist())] == label


@pytest.mark.parametrize("layout", [as_npz, as_npy])
def test_labels_may_be_strings(layout: Callable[[Path, Arrays], Path], tmp_path: Path) -> None:
    """They name the classes, which are sorted; the last one has no training example."""
    content = arrays()
    named = np.array(["pear", "apple", "fig", "lime"])
    texts = {part: named[content[f"{part}_labels"]] for part in ("train", "test")}
    texts["test"][-1] = "zest"
    data = load_features(layout(tmp_path, content | {f"{part}_labels": one for part, one in texts.items()}))
    assert list(data.class_names) == ["apple", "fig", "lime", "pear", "zest"]
    for part, one in texts.items():
        assert [data.class_names[label] for label in getattr(data, f"{part}_labels").tolist()] == one.tolist()
    np.testing.assert_array_equal(data.train_inputs.numpy(), content["train_features"])  # type: ignore[union-attr]


@pytest.mark.parametrize("layout", [as_npz, as_npy])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content | {"X_train": content["train_features"]},
            "expected one array of train features, got (X_train and train_features|train_features and X_train)",
        ),
        (
            lambda content: content | {"test_labels": np.array(["a"] * 12)},
            r"train_labels.*: expected labels as strings, as the others are, got int64 \(40,\)",
        ),
        (
            lambda content: (
                content
                | {
                    "train_labels": np.array(["a"] * 40),
                    "test_labels": np.array(["b"] * 12),
                    "class_names": np.array(["a"]),
                }
            ),
            "class_names.*: expected none beside labels that are strings",
        ),
        (
            lambda content: content | {"train_labels": np.array(["a\x1b[m"] * 40), "test_labels": np.array(["b"] * 12)},
            "train_labels.*: expected class names of at most 1,000 printable characters",
        ),
        (
            lambda content: content | {"train_labels": content["train_labels"].astype(object)},
            "Python objects, which are not unpickled",
        ),
    ],
)
def test_names_and_strings_that_do_not_fit_are_refused(
    layout: Callable[[Path, Arrays], Path], change: Callable[[Arrays], Arrays], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load_features(layout(tmp_path, change(arrays())))


@pytest.mark.slow
@pytest.mark.parametrize("strings", [False, True])
def test_one_parquet_file_has_a_tenth_held_out(strings: bool, tmp_path: Path) -> None:
    content = arrays()
    folder = as_parquet(tmp_path, content)
    if strings:
        named = np.array(["pear", "apple", "fig", "lime"])[content["train_labels"]]
        table = {"features": pa.array(list(content["train_features"])), "label": named}
        parquet.write_table(pa.table(table), folder / "train.parquet")
    data = load_features(folder / "train.parquet")
    assert (data.name, len(data.train_inputs), len(data.test_inputs)) == ("train", 36, 4)
    assert list(data.class_names) == (["apple", "fig", "lime", "pear"] if strings else ["0", "1", "2", "3"])
    rows = {
        tuple(row.tolist()): label
        for row, label in zip(content["train_features"], content["train_labels"].tolist(), strict=True)
    }
    back = {"apple": 1, "fig": 2, "lime": 3, "pear": 0}
    for part in ("train", "test"):
        for row, label in zip(getattr(data, f"{part}_inputs"), getattr(data, f"{part}_labels").tolist(), strict=True):
            name = data.class_names[label]
            assert rows[tuple(row.tolist())] == (back[name] if strings else int(name))


def never(*_: Any) -> Any:
    raise AssertionError("read before it was compared")


@pytest.mark.parametrize("layout", [as_npz, as_npy])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("train_labels", lambda array: array[1:]), "train_labels.*: expected 40 labels, one a vector, got 39"),
        (changed("test_features", lambda array: array[:, :2]), "expected test vectors of the training vectors' 3 num"),
        (changed("test_labels", lambda array: array.astype(float)), r"test_labels.*: expected labels as integers"),
        (
            lambda content: content | {"class_names": np.array(["a"] * 100_521)},
            "class_names.*: expected at most 100520 class names, got 100521",
        ),
    ],
)
def test_what_does_not_fit_is_known_by_the_headers_alone(
    layout: Callable[[Path, Arrays], Path],
    change: Callable[[Arrays], Arrays],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(npy.Stored, "read", never)
    with pytest.raises(InputError, match=message):
        load_features(layout(tmp_path, change(arrays())))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [as_npz, as_npy, as_parquet])
@pytest.mark.parametrize("label", [100_520, 19_999_999, 2**62])
def test_a_class_costs_memory_so_that_examples_decide_how_many_there_can_be(
    layout: Callable[[Path, Arrays], Path], label: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = arrays()
    content["test_labels"][3] = 100_519
    assert load_features(layout(tmp_path, content)).num_classes == 100_520
    content["test_labels"][3] = label
    monkeypatch.setattr(source, "_data", never)  # which makes a name for each class
    (tmp_path / "other").mkdir()
    message = r"expected labels in 0\.\.(100519, by the number of examples|19999999), got "
    with pytest.raises(InputError, match=f"{message}{label}"):
        load_features(layout(tmp_path / "other", content))


@pytest.mark.slow
def test_a_file_may_not_unfold_to_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = arrays() | {"train_features": np.zeros((40, 3000), "f4"), "test_features": np.zeros((12, 3000), "f4")}
    bomb = tmp_path / "bomb.npz"
    np.savez_compressed(bomb, **content)  # type: ignore[arg-type]
    folder = as_parquet(tmp_path, content)
    assert load_features(bomb).fingerprint == load_features(folder).fingerprint
    monkeypatch.setattr(npy, "UNFOLDED", 100_000)
    monkeypatch.setattr(npy.Stored, "read", never)
    monkeypatch.setattr(source, "_rows", never)
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "new"))
    for path, file in ((bomb, bomb), (folder, folder / "train.parquet")):
        with pytest.raises(InputError, match=f"{file}: expected what unfolds to at most .* got [1-9],?[0-9]{{2}}"):
            load_features(path)


@pytest.mark.parametrize("name", ["x.npz", "train_features.npy", "test_labels.npy", "class_names.npy", "test.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_is_refused_at_once(name: str, kind: str, tmp_path: Path) -> None:
    """A pipe would be waited for, a device read for ever."""
    folder = as_parquet(tmp_path, arrays()) if name.endswith("parquet") else as_npy(tmp_path, arrays())
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(
        InputError, match=r"expected a (regular file, got a|file .npz or a folder with)|expected train_"
    ):
        load_features(path if name == "x.npz" else folder)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    objects = np.array([Hostile()] * 40, dtype=object)
    content = arrays()
    for name in content:
        with pytest.raises(InputError, match="expected arrays of numbers as numpy saves them, got Python objects"):
            load_features(as_npz(tmp_path, content | {name: objects}))
        folder = tmp_path / name
        folder.mkdir()
        with pytest.raises(InputError, match=f"{name}.npy: expected arrays of numbers .*"):
            load_features(as_npy(folder, content | {name: objects}))
    np.save(tmp_path / "pickled.npz.npy", objects, allow_pickle=True)
    (tmp_path / "pickled.npz.npy").rename(tmp_path / "pickled.npz")
    with pytest.raises(InputError, match="expected arrays of numbers"):
        load_features(tmp_path / "pickled.npz")
    assert not mark.exists()


@pytest.mark.slow
def test_broken_files_are_refused_in_words(tmp_path: Path) -> None:
    """Cut, changed or foreign bytes: an error of ours, or the data with another number in it, and nothing else."""
    generator = np.random.default_rng(0)
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **arrays())  # type: ignore[arg-type]
        whole = buffer.getvalue()
        broken = [whole[: int(cut)] for cut in generator.integers(0, len(whole), 30)]
        for place in generator.integers(0, len(whole), 200).tolist():
            broken.append(whole[:place] + bytes([whole[place] ^ int(generator.integers(1, 256))]) + whole[place + 1 :])
        refused = 0
        for content in broken:
            (tmp_path / "broken.npz").write_bytes(content)
            try:
                load_features(tmp_path / "broken.npz")
            except InputError as error:
                refused += str(tmp_path / "broken.npz") in str(error)
        assert refused > 150


def test_arrays_that_claim_more_than_there_is(tmp_path: Path) -> None:
    folder = as_npy(tmp_path, arrays())
    file = folder / "train_features.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=f"{file}: expected arrays of numbers as numpy saves them"):
        load_features(folder)


# Parquet


@pytest.mark.slow
def test_strings_are_the_names_of_classes(tmp_path: Path) -> None:
    """In the order of the characters, whatever file they come first in; a dictionary is no other thing."""
    content = arrays()
    words = np.array(["pear", "apple", "fig", "kiwi"])
    path = as_parquet(tmp_path, content, label=lambda labels: pa.array(words[labels]))
    data = load_features(path)
    assert list(data.class_names) == ["apple", "fig", "kiwi", "pear"]
    assert [data.class_names[label] for label in data.test_labels] == words[content["test_labels"]].tolist()
    coded = as_parquet(tmp_path, content, label=lambda labels: pa.array(words[labels]).dictionary_encode())
    assert load_features(coded).fingerprint == data.fingerprint


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda value: pa.list_(value, 3)])
def test_each_kind_of_list(kind: Callable[[Any], Any], tmp_path: Path) -> None:
    content = arrays()
    path = as_parquet(tmp_path, content, features=lambda features: features.cast(kind(pa.float32())))
    check_is(load_features(path), content)


def test_a_parquet_file_is_converted_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = arrays()
    path = as_parquet(tmp_path, content)
    data = load_features(path)
    assert data.files is not None
    assert all(cache in file.parents for file in data.files.values())
    with monkeypatch.context() as patched:
        patched.setattr(source, "_convert", None)
        assert load_features(path).fingerprint == data.fingerprint
    content["test_features"] += 1
    as_parquet(tmp_path, content)
    check_is(load_features(path), content)


def interrupt() -> None:
    """What Ctrl-C does, to the process that waits for this one."""
    os.kill(os.getppid(), signal.SIGINT)
    signal.pause()


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (interrupt, KeyboardInterrupt),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), InputError),  # or as C++ ends it on an exception of pyarrow's
    ],
)
def test_a_conversion_that_was_cut_off_leaves_nothing_half_written(
    end: Callable[[], None], error: type[BaseException], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = arrays()
    path = as_parquet(tmp_path, content)
    rows = source._rows

    def cut_off(*arguments: Any) -> Any:
        if arguments[-1] > 0:
            end()
        return rows(*arguments)

    monkeypatch.setattr(source, "CHUNK", 7 * 3)
    monkeypatch.setattr(source, "_rows", cut_off)
    with pytest.raises(error) as caught:
        load_features(path)
    if error is InputError:
        assert "train.parquet: expected a parquet file, got one that ended its reader with code -" in str(caught.value)
    monkeypatch.setattr(source, "_rows", rows)
    (folder,) = (cache / "features").iterdir()
    assert [file.name for file in folder.iterdir() if file.name != ".lock"] == []
    for name in (".features.npy.1.part", ".movie.mkv.part"):  # of a process that could not clean up, and of a stranger
        (folder / name).touch()
    check_is(load_features(path), content)
    assert {file.name for file in folder.iterdir()} == {".lock", "features.npy", "labels.npy", ".movie.mkv.part"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"label": lambda labels: pa.array(labels - 1)},
            r"train.parquet, label: expected labels in 0\.\.19999999, got -1",
        ),
        ({"label": lambda labels: pa.array(labels.astype(float))}, "expected label as integers or strings, got double"),
        ({"label": lambda labels: pa.array([None, *labels[1:]])}, "expected a label in every row, got none"),
        ({"features": lambda f: f.cast(pa.list_(pa.int32()), safe=False)}, "lists of floating-point numbers, got list"),
        ({"features": lambda f: pa.array(np.arange(float(len(f))))}, "features as lists of .* got double"),
        (
            {"features": lambda f: pa.array([*f.to_pylist()[:-1], [1.0]])},
            "expected 3 numbers in every row, got 1 in row 39",
        ),
        ({"features": lambda f: pa.array([*f.to_pylist()[:-1], None])}, "expected a list in every row, got none"),
        ({"features": lambda f: pa.array([*f.to_pylist()[:-1], [1.0, None, 2.0]])}, "got an empty place in rows from"),
        (
            {"features": lambda f: pa.array([*f.to_pylist()[:-1], [1.0, np.nan, 2.0]])},
            "finite in float32, got nan in row 39",
        ),
        (
            {"features": lambda f: pa.array([[]] * len(f), pa.list_(pa.float32()))},
            "of at least one number, got an empty",
        ),
    ],
)
def test_what_parquet_cannot_be(columns: dict[str, Any], message: str, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match=f"train.parquet.*{message.removeprefix('train.parquet')}") as caught:
        load_features(as_parquet(tmp_path, arrays(), **columns))
    assert str(caught.value).count("\n") == 0
    assert list(cache.glob("features/*/*.npy")) == []


@pytest.mark.slow
def test_columns_and_files_that_are_no_parquet(tmp_path: Path) -> None:
    path = as_parquet(tmp_path, arrays())
    table = parquet.read_table(path / "test.parquet")
    parquet.write_table(table.rename_columns(["features", "y"]), path / "test.parquet")
    with pytest.raises(InputError, match=r"test.parquet: expected columns features and label, got no label among"):
        load_features(path)
    parquet.write_table(table.slice(0, 0), path / "test.parquet")
    with pytest.raises(InputError, match=r"test.parquet: expected at least one row, got none"):
        load_features(path)
    words = pa.array([str(label) for label in table["label"].to_pylist()])
    parquet.write_table(table.set_column(1, "label", words), path / "test.parquet")
    with pytest.raises(InputError, match=r"train.parquet: expected labels as strings, as in test.parquet, got int"):
        load_features(path)
    (path / "train.parquet").write_bytes(b"PAR1" + os.urandom(100))
    with pytest.raises(InputError, match=r"train.parquet: expected a parquet file, got Arrow"):
        load_features(path)


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_parquet(tmp_path, arrays())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"expected the package pyarrow, .*pip install 'softmaxes\[parquet\]'\.$"):
        load_features(path)


# The command line


@pytest.mark.slow
def test_compare_on_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a user does it: two processes on mapped vectors, a table and a page that speak of no images."""
    folder, out = as_npy(tmp_path, arrays()), tmp_path / "out"
    words = ["compare", "--data", "features", "--data-dir", str(folder), "--heads", "softmax", "hierarchical"]
    assert main([*words, "--seeds", "2", "--epochs", "2", "--jobs", "2", "--hidden-units", "8", "--out", str(out)]) == 0
    assert "softmax" in capsys.readouterr().out
    study = Store(out).study()
    assert len(Store(out).results(study)) == 4
    assert json.loads((out / "data.json").read_text())["vector_size"] == 3
    assert not (out / "data.safetensors").exists()
    page = (out / "report.html").read_text().partition("<script")[0]
    assert "vectors of 3 numbers" in page
    assert "a hidden layer with ReLU of 8 units before each head" in page
    assert "image" not in page.partition("<body>")[2]


def test_bad_vectors_are_one_line_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = arrays()
    content["train_features"][3, 0] = np.nan
    path, out = as_npz(tmp_path, content), tmp_path / "out"
    assert main(["compare", "--data", "features", "--data-dir", str(path), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"softmaxes: {path}: expected train vectors of numbers that are finite" in error
    assert not out.exists()
    content["train_features"][3, 0] = 0
    assert main(["compare", "--data", str(as_npz(tmp_path, content)), "--channels", "20", "--out", str(out)]) == 2
    assert "mine: expected images for channels 20, got vectors, which have none." in capsys.readouterr().err
    assert not (out / "study.json").exists()


def test_data_counts_vectors_and_draws_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = as_npz(tmp_path, arrays())
    assert main(["data", "features", "--data-dir", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "train: 40 examples, 10 to 10 a class" in printed
    assert "4 classes, no groups; vectors of 3 numbers" in printed
    assert "samples" not in printed
    assert main(["data", str(path), "--out", str(tmp_path / "sheet.png")]) == 2
    assert "--out: expected none with --data" in capsys.readouterr().err


def test_data_of_vectors_are_checked_wherever_they_come_from() -> None:
    """`Data` itself refuses what no file of ours could give it."""
    inputs, labels = torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])
    data = Data("mine", "Mine.", "here", inputs, labels, inputs, labels, ["a", "b"])
    with pytest.raises(InputError, match=r"mine: expected train vectors as float16, .* got torch.bfloat16 \(4, 3\)"):
        dataclasses.replace(data, train_inputs=inputs.bfloat16())
    with pytest.raises(InputError, match=r"mine: expected test vectors as .* got torch.float32 \(4, 3, 1\)"):
        dataclasses.replace(data, test_inputs=inputs.unsqueeze(2))
    with pytest.raises(InputError, match=r"got torch.float32 \(4, 0\)"):
        dataclasses.replace(data, train_inputs=inputs[:, :0])


def test_a_zip_that_is_no_npz(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as file:
        file.writestr("train_features", "text")
    with pytest.raises(InputError, match=r"other.npz: expected arrays .* got no train_labels among 'train_features'"):
        load_features(tmp_path / "other.npz")
