"""What was trained is used: loaded without its data, asked about new inputs, and never a way for a stranger's code."""

import csv
import io
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from softmaxes.lab import InputError, load
from softmaxes.lab.cli.main import main
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.ragged import SparseVectors, Texts
from softmaxes.lab.heads.registry import HEADS
from softmaxes.lab.store import Store
from softmaxes.lab.use import answers
from softmaxes.lab.use.inputs import Inputs
from toy import texts, toy_data, toy_run, trained, vectors


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of a flat head at two seeds and the tree of groups at one."""
    folder, data = tmp_path_factory.mktemp("kept") / "toy", toy_data()
    heads = (("softmax", 0), ("softmax", 1), ("hierarchical-groups", 0))
    trained(data, folder, *(toy_run(data, head, seed=seed) for head, seed in heads))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_each_head_says_what_it_said_in_its_test(head: str, tmp_path: Path) -> None:
    """Loaded without its data, a run has the accuracy and the guesses that are stored."""
    data = toy_data()
    (result,) = trained(data, tmp_path / "run", toy_run(data, head, epochs=4, lr=0.02))
    classifier = load(tmp_path / "run" / "runs" / f"{result.run.key}.json")
    log_prob = classifier(data.test_inputs)
    found = log_prob.argmax(1)
    scores = result.epochs[-1].scores
    assert scores is not None
    assert (found == data.test_labels).double().mean().item() == pytest.approx(scores.accuracy)
    values, classes = classifier.topk(data.test_inputs[data.samples()], 5)
    for guess, row, some in zip(result.guesses, values.exp().tolist(), classes.tolist(), strict=True):
        assert row[: len(guess.classes)] == pytest.approx(list(guess.probabilities), abs=1e-6)
        assert [one for one, share in zip(some, row, strict=True) if share > 0][: len(guess.classes)] == list(
            guess.classes
        ) or sorted(row) != sorted(set(row))
    paths = classifier.paths(data.test_inputs[data.samples()], classes[:, 0])
    for guess, path in zip(result.guesses, paths, strict=True):
        assert [(step.node, pytest.approx(step.probability, abs=1e-6)) for step in path] == [
            (branch.node, branch.probability) for branch in guess.path
        ]


@pytest.mark.parametrize("kind", [vectors, texts])
def test_vectors_and_texts_are_said_as_in_the_test(kind, tmp_path: Path) -> None:
    data = kind(toy_data())
    changes = {
        "channels": 10,
        **({"dim": 8, "buckets": 128, "lr": 0.5, "optimizer": "adagrad"} if kind is texts else {}),
    }
    (result,) = trained(data, tmp_path / "run", toy_run(data, **changes))
    classifier = load(tmp_path / "run")
    inputs = data.test_inputs
    input = inputs.batch(torch.arange(len(inputs))) if isinstance(inputs, Texts) else inputs
    scores = result.epochs[-1].scores
    assert scores is not None
    accuracy = (classifier.predict(input) == data.test_labels).double().mean().item()
    assert accuracy == pytest.approx(scores.accuracy)
    assert accuracy > 0.3


def test_several_runs_are_averaged(kept: Path) -> None:
    images = toy_data().test_inputs
    one, other = load(kept, "softmax", 0), load(kept, "softmax", 1)
    both = load(kept, "softmax")
    assert [run.seed for run in both.runs] == [0, 1]
    mean = (one(images).exp() + other(images).exp()) / 2
    torch.testing.assert_close(both(images).exp(), mean)
    assert not torch.allclose(one(images), other(images))
    paths = [kept / "runs" / f"{run.key}.json" for run in both.runs]
    torch.testing.assert_close(load(paths)(images), both(images))
    torch.testing.assert_close(both.topk(images, 6)[0], both(images).sort(1, descending=True).values)


@pytest.mark.parametrize("method", ["forward", "predict", "topk", "paths"])
def test_images_that_are_none_of_the_training_are_refused(method: str, kept: Path) -> None:
    images = toy_data().test_inputs[:2]
    one = load(kept, "hierarchical-groups")
    rest = {"topk": (2,), "paths": (torch.arange(2),)}.get(method, ())
    expected = "expected images as torch.uint8 (N, 3, 16, 16), got "
    for wrong, said in (
        (images / 255, "torch.float32 (2, 3, 16, 16); of floats in 0..1 take (255 * images).round().to(torch.uint8)."),
        (images.long(), "torch.int64 (2, 3, 16, 16)."),
        (images[0], "torch.uint8 (3, 16, 16); of one image take image.unsqueeze(0)."),
        (images[:, :, :8], "torch.uint8 (2, 3, 8, 16)."),
    ):
        with pytest.raises(InputError) as error:
            getattr(one, method)(wrong, *rest)
        assert str(error.value) == expected + said
    with pytest.raises(InputError, match=r"^expected images as a tensor, got ndarray\.$"):
        getattr(one, method)(images.numpy(), *rest)
    getattr(one, method)((255 * (images / 255)).round().to(torch.uint8), *rest)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (vectors, "expected vectors (N, 3), got torch.float32 (3,); of one vector take vector.unsqueeze(0)."),
        (texts, "expected texts as torch.uint8 (N, L), got torch.float32 (3,)."),
    ],
)
def test_vectors_and_texts_of_another_shape_are_refused(kind, said: str, tmp_path: Path) -> None:
    data = kind(toy_data())
    trained(data, tmp_path / "run", toy_run(data, channels=10, **({"dim": 8, "buckets": 128} if kind is texts else {})))
    with pytest.raises(InputError) as error:
        load(tmp_path / "run").predict(torch.zeros(3))
    assert str(error.value) == said


def test_texts_are_taken_as_strings(tmp_path: Path) -> None:
    data = texts(toy_data())
    trained(data, tmp_path / "run", toy_run(data, channels=10, dim=8, buckets=128))
    classifier = load(tmp_path / "run")
    inputs = data.test_inputs
    assert isinstance(inputs, Texts)
    strings = [f"  {inputs.text(row)}\n" for row in range(5)]  # as training takes them: spaces at the ends go
    torch.testing.assert_close(classifier(strings), classifier(inputs.batch(torch.arange(5))))
    assert torch.equal(classifier.predict(tuple(strings)), classifier(strings).argmax(1))
    assert classifier.topk(strings, 2)[1].shape == (5, 2)
    assert classifier.paths(strings, classifier.predict(strings)) == [[]] * 5
    for wrong, said in (
        ("Köln", r"a list of strings or a tensor, got str; of one text take \[text\]\."),
        (["Köln", 3], r"a list of strings or a tensor, got list\."),
        (["Köln", " "], r"got one without a word: number 1 from 0\."),
    ):
        with pytest.raises(InputError, match=f"^expected texts.*{said}$"):
            classifier.predict(wrong)


def test_a_run_is_named_by_its_file_or_by_head_and_seed(kept: Path) -> None:
    images = toy_data().test_inputs
    (run,) = load(kept, "hierarchical-groups").runs
    for path in (kept / "runs" / f"{run.key}.json", kept / "runs" / f"{run.key}.safetensors"):
        torch.testing.assert_close(load(path)(images), load(kept, "hierarchical:tree=groups", 0)(images))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "expected one of its heads, got none; there are softmax, hierarchical-groups."),
        ({"head": "gumbel"}, "expected one of its heads, softmax, hierarchical-groups, got gumbel."),
        ({"head": "softmax", "seed": 7}, "expected one of the seeds 0, 1, got 7."),
    ],
)
def test_what_is_not_there_is_said(words: dict, said: str, kept: Path) -> None:
    with pytest.raises(InputError) as error:
        load(kept, **words)
    assert str(error.value) == f"{kept}: {said}"


def changed(kept: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of the comparison; the record of its first run, and its weights."""
    shutil.copytree(kept, folder)
    run = Store(folder).study().runs[0]
    return folder / "runs" / f"{run.key}.json", Store(folder).weights(run)


def _pickled(path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(path.parent / "executed"),)

    path.write_bytes(pickle.dumps(Evil()))


def _linked(path: Path) -> None:
    content = path.rename(path.with_name("elsewhere"))
    path.symlink_to(content)


def _of_another(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"head.weight": torch.zeros(3, 3)}, path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "expected the weights of the run, got no such file; softmaxes repeat"),
        (_pickled, "expected weights as safetensors, got"),
        (_linked, "expected the weights of the run, got a link to another file."),
        (_of_another, "expected the weights of softmax, got others:"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "expected weights as safetensors, got"),
    ],
)
def test_weights_that_are_none_are_refused_in_one_line(spoil, said: str, kept: Path, tmp_path: Path) -> None:
    record, weights = changed(kept, tmp_path / "kept")
    spoil(weights)
    with pytest.raises(InputError) as error:
        load(record)
    assert str(error.value).startswith(f"{weights}: {said}")
    assert "\n" not in str(error.value)
    assert not (weights.parent / "executed").exists()


def test_code_that_a_run_names_is_not_imported_unless_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = (
        "from pathlib import Path\nfrom softmaxes import Softmax\n"
        "Path(__file__).with_name('imported').touch()\n\n\nclass Head(Softmax):\n    pass\n"
    )
    (tmp_path / "strangers_head.py").write_text(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    data = toy_data()
    (result,) = trained(data, tmp_path / "run", toy_run(data, "strangers_head:Head"))
    (tmp_path / "imported").unlink()
    monkeypatch.delitem(__import__("sys").modules, "strangers_head")
    record = str(tmp_path / "run" / "runs" / f"{result.run.key}.json")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    assert main(["predict", record, str(tmp_path / "a.png")]) == 2
    assert "strangers_head:Head, which is code that would be imported and run" in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()
    assert main(["predict", record, str(tmp_path / "a.png"), "--trust-code"]) == 0
    assert (tmp_path / "imported").exists()


# What is asked


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two images of the toy's sizes, one of another, one broken."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for place, (name, image) in enumerate(zip(("a", "b"), toy_data().test_inputs, strict=False)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{place}{name}.png")
    Image.new("RGBA", (40, 90), (0, 200, 0, 128)).save(folder / "below" / "large.webp")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_images_are_said_and_broken_ones_named(kept: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(kept), "--head", "softmax", "--seed", "0", str(pictures), "--format", "jsonl", "--top", "2"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.err == f"softmaxes: {pictures / 'broken.png'}: cannot be read: no image, or of an unknown format.\n"
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [row["input"] for row in rows] == [str(pictures / name) for name in ("0a.png", "1b.png", "below/large.webp")]
    values, classes = load(kept, "softmax", 0).topk(toy_data().test_inputs[:2], 2)
    for row, some, shares in zip(rows, classes.tolist(), values.exp().tolist(), strict=False):
        assert [one["class"] for one in row["classes"]] == [f"class {c}" for c in some]
        assert [one["probability"] for one in row["classes"]] == pytest.approx(shares)
        assert "path" not in row


def test_the_way_through_a_tree_is_told_with_its_names(
    kept: Path, pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["predict", str(kept), "--head", "hierarchical-groups", str(pictures / "0a.png")]
    assert main(words) == 0
    assert "›" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "said.csv")]) == 0
    first, *_ = csv.DictReader(io.StringIO((tmp_path / "said.csv").read_text()))
    group, _, name = first["path"].partition(" › ")
    assert group.split()[0] in ("red", "green", "blue")
    assert name.startswith(first["class"])


def test_a_file_of_the_users_is_not_replaced(kept: Path, pictures: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    words = ["predict", str(kept), "--head", "softmax", str(pictures / "0a.png"), "--out", str(mine)]
    mine.write_text("my own notes")
    assert main(words) == 2
    assert mine.read_text() == "my own notes"
    mine.unlink()
    assert main(words) == main(words) == 0  # its own file is written anew
    before = mine.read_text()
    assert main([*words[:4], str(pictures / "broken.png"), "--out", str(mine)]) == 2
    assert mine.read_text() == before


def test_vectors_are_taken_from_numpys_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = vectors(toy_data())
    trained(data, tmp_path / "run", toy_run(data, channels=10))
    asked = data.test_inputs[:3].numpy().copy()
    asked[1, 0] = np.inf
    np.save(tmp_path / "mine.npy", asked)
    np.savez(tmp_path / "mine.npz", features=asked.astype(np.float64))
    for name in ("mine.npy", "mine.npz"):
        assert main(["predict", str(tmp_path / "run"), str(tmp_path / name), "--format", "csv", "--top", "1"]) == 0
        told = capsys.readouterr()
        assert f"{tmp_path / name}, row 1: cannot be read: numbers that are not finite" in told.err
        rows = list(csv.DictReader(io.StringIO(told.out)))
        assert [row["input"].rpartition(", ")[2] for row in rows] == ["row 0", "row 2"]
    np.save(tmp_path / "narrow.npy", asked[:, :2])
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "narrow.npy")]) == 2
    assert "expected vectors of 3 numbers, as in training, got 2." in capsys.readouterr().err


def test_texts_are_taken_from_lines_and_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = texts(toy_data())
    trained(data, tmp_path / "run", toy_run(data, channels=10, dim=8, buckets=128, lr=0.5))
    (tmp_path / "lines.txt").write_text("red 0  thing\n\ngreen 1 thing\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("blue 2 thing\n"))
    words = ["predict", str(tmp_path / "run"), str(tmp_path / "lines.txt"), "-", "--text", "red 3 thing"]
    assert main([*words, "--format", "jsonl"]) == 0
    told = capsys.readouterr()
    assert told.err == f"softmaxes: {tmp_path / 'lines.txt'}, line 2: cannot be read: no words.\n"
    asked = [json.loads(line)["input"] for line in told.out.splitlines()]
    assert asked == ["red 0 thing", "green 1 thing", "blue 2 thing", "red 3 thing"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected images or folders of them as inputs, got none."),
        (["nowhere.png"], "expected an input that exists, got nowhere.png: No such file or directory."),
        (["a\0b"], "expected an input that exists, got a\N{REPLACEMENT CHARACTER}b."),
        (["--text", "words"], "--text: expected none, for the classifier takes images, got 1."),
        ([".", "--top", "0"], "--top: expected 1 to 1,000,000, got 0."),
        ([".", "--out", "said.txt"], "--out: expected a file .csv or .jsonl, got said.txt."),
        ([".", "--out", "said.csv", "--format", "table"], "--out: expected a file for csv or jsonl, got said.csv for"),
    ],
)
def test_a_wrong_word_is_one_line(
    words: list[str],
    said: str,
    kept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(kept), "--head", "softmax", *words]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"softmaxes: {said}")
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert not list(tmp_path.iterdir())


def test_sparse_vectors_are_asked_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = toy_data()
    fields = {
        f"{part}_inputs": SparseVectors.of(
            [{label: 1.0, 6 + label % 3: 0.5} for label in getattr(data, f"{part}_labels").tolist()], 9
        )
        for part in ("train", "test")
    }
    data = Data(**{**vars(data), **fields})
    (result,) = trained(data, tmp_path / "run", toy_run(data, channels=10, dim=8, lr=0.5, optimizer="adagrad"))
    inputs = data.test_inputs
    assert isinstance(inputs, SparseVectors)
    found = load(tmp_path / "run").predict(inputs.batch(torch.arange(len(inputs))))
    scores = result.epochs[-1].scores
    assert scores is not None
    assert (found == data.test_labels).double().mean().item() == pytest.approx(scores.accuracy)
    assert main(["predict", str(tmp_path / "run"), "any.txt"]) == 2
    assert "got one of sparse vectors, toy; ask it in Python" in capsys.readouterr().err


def test_names_of_strangers_do_nothing(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Class names that are formulas, markup or commands of a terminal are shown, and no more."""
    data = toy_data()
    (result,) = trained(data, tmp_path / "run", toy_run(data))
    card = json.loads((tmp_path / "run" / "data.json").read_text())
    card["class_names"] = ["=1+1", "[red]x[/red]", "a|b`c", "<script>", "-2+3", "@SUM(A1)"]
    (tmp_path / "run" / "data.json").write_text(json.dumps(card))
    assert result.run.fingerprint == card["fingerprint"]
    asked = Inputs(Store(tmp_path / "run").card(), [pictures / "0a.png"])
    ((_, said),) = answers.answers(load(tmp_path / "run"), asked, 6)
    for row in csv.DictReader(io.StringIO(",".join(answers.COLUMNS) + "\n" + answers.csv_rows(said))):
        assert not row["class"].startswith(("=", "-", "@"))
    text = io.StringIO()
    Console(file=text, width=200).print(answers.as_table(said))
    assert "\x1b" not in text.getvalue()
    assert "[red]x[/red]" in text.getvalue()


def test_texts_are_taken_from_the_column_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As training takes them; no label and no head line is asked about. A file whose lines are no texts is refused."""
    trained(texts(toy_data()), tmp_path / "run", toy_run(texts(toy_data()), channels=10, epochs=1))
    long = "red " * 60 + "thing"
    for name, delimiter in (("some.csv", ","), ("some.TSV", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, delimiter=delimiter)
            table.writerows([["label", "text"], ["3", "red 0 thing"], ["4", "two\nlines, of text"], ["5", long]])
        assert main(["predict", str(tmp_path / "run"), str(tmp_path / name), "--format", "jsonl"]) == 0
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["input"] for one in said] == ["red 0 thing", "two lines, of text", long]
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "some.csv")]) == 0
    assert long not in capsys.readouterr().out.replace("\n", "")
    for name, content, told in (
        ("a.csv", "title,category\nred,1\n", "expected a table with the column text, got title, category."),
        ("b.csv", "", "expected a table with the column text, got an empty file."),
        ("c.csv", 'text\n"red\n', "expected a table as Python's csv writes it, got"),
        ("d.jsonl", '{"text": "red"}\n', "expected a text a line, or a .csv or .tsv with the column text, got .jsonl."),
    ):
        (tmp_path / name).write_text(content)
        assert main(["predict", str(tmp_path / "run"), str(tmp_path / name)]) == 2
        assert f"{name}: {told}" in capsys.readouterr().err
