"""Trained classifiers as files for other programs: each says what the classifier says, for any number of inputs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.heads.families import FAMILIES
from softmaxes.lab.training.classifier import build
from softmaxes.lab.use import export as exporting
from softmaxes.lab.use.loading import Trained
from toy import texts, toy_data, toy_run, trained, vectors

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.slow

# Of each family the head itself, and what a tree or a layer adds.
HEADS = [*FAMILIES, "softmax-hidden", "hierarchical-groups", "hierarchical:layers=yes"]


def untrained(data: Data, *heads: str, **fields: Any) -> Trained:
    """What is exported of weights that were drawn is exported of others."""
    runs = [toy_run(data, head, seed=seed, **fields) for seed, head in enumerate(heads)]
    inputs = data.train_inputs.permute(0, 2, 3, 1) if data.kind == "image" else data.train_inputs  # type: ignore[union-attr]
    return Trained([build(run, data.card(), inputs) for run in runs], runs, data.card())


def run(path: Path, input: torch.Tensor) -> list[torch.Tensor]:
    session = onnxruntime.InferenceSession(path)
    (name,) = (one.name for one in session.get_inputs())
    return [torch.from_numpy(array) for array in session.run(None, {name: input.numpy()})]


@pytest.mark.parametrize("head", HEADS)
def test_each_head_is_a_file_that_says_the_same(head: str, tmp_path: Path) -> None:
    data = toy_data()
    classifier = untrained(data, head)
    made = exporting.export(classifier, tmp_path / "model.onnx", "log_prob")
    assert made.difference <= 1e-5
    for rows in (1, 2, 30):
        input = data.test_inputs[:rows]
        (log_prob,) = run(made.path, input)  # type: ignore[arg-type]
        torch.testing.assert_close(log_prob.exp(), classifier(input).exp(), rtol=0, atol=1e-5)  # type: ignore[arg-type]
    notes = onnxruntime.InferenceSession(made.path).get_modelmeta().custom_metadata_map
    assert json.loads(notes["classes"]) == list(data.class_names)
    assert json.loads(notes["about"])["runs"][0]["head"] == head


@pytest.mark.parametrize(
    ("heads", "methods"), [(("softmax",), ("log_prob", "predict", "topk")), (("softmax", "entmax"), ("topk",))]
)
def test_each_method_for_torch_and_for_onnx(heads: tuple[str, ...], methods: tuple[str, ...], tmp_path: Path) -> None:
    """Of one run, and of several whose probabilities are averaged."""
    data = vectors(toy_data())
    classifier = untrained(data, *heads, channels=10)
    input = data.test_inputs[:9]
    expected = {
        "log_prob": (classifier(input),),  # type: ignore[arg-type]
        "predict": (classifier.predict(input),),  # type: ignore[arg-type]
        "topk": classifier.topk(input, 3),  # type: ignore[arg-type]
    }
    for method in methods:
        own = expected[method]
        path = tmp_path / f"{method}.pt2"
        exporting.export(classifier, path, method, 3)  # type: ignore[arg-type]
        exporting.export(classifier, path.with_suffix(".onnx"), method, 3)  # type: ignore[arg-type]
        files = {"classes.json": ""}
        program = torch.export.load(path, extra_files=files).module()
        assert json.loads(files["classes.json"]) == list(data.class_names)
        for found in (program(input), run(path.with_suffix(".onnx"), input)):  # type: ignore[arg-type]
            torch.testing.assert_close(list(found), list(own), rtol=1e-5, atol=1e-5)


def test_a_run_becomes_a_file_by_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = toy_data()
    trained(data, tmp_path / "run", toy_run(data))
    path = tmp_path / "model.onnx"
    words = ["export", str(tmp_path / "run"), str(path), "--top", "2"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"images in, log_prob and classes out, any number at a time: {path}\n")
    assert told.err == ""
    assert [array.shape for array in run(path, data.test_inputs[:4])] == [(4, 2), (4, 2)]  # type: ignore[arg-type]
    before = path.read_bytes()
    path.write_bytes(b"my own model")
    assert main(words) == 2
    assert "expected no file, got one that is there; move it away first" in capsys.readouterr().err
    assert path.read_bytes() == b"my own model"
    assert before
    assert main([*words[:2], str(tmp_path / "model.txt")]) == 2
    assert main(["export", str(tmp_path / "nowhere"), str(tmp_path / "other.onnx")]) == 2
    assert {one.name for one in tmp_path.iterdir()} == {"run", "model.onnx"}


def test_texts_are_refused(tmp_path: Path) -> None:
    data = texts(toy_data())
    classifier = untrained(data, "softmax", channels=10, dim=8, buckets=128)
    with pytest.raises(InputError, match="expected a classifier of images or vectors, got one of texts, whose n-grams"):
        exporting.export(classifier, tmp_path / "model.onnx")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_file_that_says_something_else_is_not_kept(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = untrained(toy_data(), "softmax")
    name = f"_{suffix[1:]}"
    make = getattr(exporting, name)

    def spoilt(served: Any, part: Path) -> exporting.Program:
        program = make(served, part)
        return lambda some: [program(some)[0] + 0.01]

    monkeypatch.setattr(exporting, name, spoilt)
    with pytest.raises(InputError, match="expected a file that says what the classifier says, got probabilities that"):
        exporting.export(classifier, tmp_path / f"model{suffix}", "log_prob")
    assert list(tmp_path.iterdir()) == []


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"expected the package onnx, got none; .*softmaxes\[onnx\]"):
        exporting.export(untrained(toy_data(), "softmax"), tmp_path / "model.onnx")
