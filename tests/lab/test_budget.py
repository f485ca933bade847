"""One budget of time: each head has the epochs that fit, and keeps them when the command comes again."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison import budget
from softmaxes.lab.comparison.compare import run_study
from softmaxes.lab.data.batches import Examples
from softmaxes.lab.records import Run, Study, Tuning
from softmaxes.lab.store import Store
from toy import toy_data, toy_run

DATA = toy_data()
EXAMPLES = Examples.of(DATA.train_inputs, DATA.train_labels)
TIMES = {"softmax": 4.0, "hierarchical": 1.5, "hierarchical-relearned": 60.0}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Epochs take the times above; which heads were measured."""
    asked: list[str] = []

    def seconds(run: Run, *rest: object) -> tuple[float, float]:
        asked.append(run.head)
        return TIMES[run.head], TIMES[run.head]

    monkeypatch.setattr(budget, "_epoch_seconds", seconds)
    return asked


def study(*heads: str, seconds: float | None = 10.0, **fields: object) -> Study:
    runs = tuple(toy_run(DATA, head, seed=seed, **fields) for seed in range(2) for head in heads)
    return Study(name="toy", title="toy", description="toy", runs=runs, budget=seconds)


def fit(given: Study, before: Study | None = None) -> list[int]:
    said = io.StringIO()
    return [run.epochs for run in budget.fit(given, DATA, "cpu", before, Console(file=said)).runs]


def test_each_head_has_the_epochs_that_fit_and_is_measured_once(measured: list[str]) -> None:
    assert fit(study("softmax", "hierarchical")) == [2, 6, 2, 6]
    assert measured == ["softmax", "hierarchical"]


def test_at_least_one_epoch_and_as_many_as_a_learned_tree_needs(measured: list[str]) -> None:
    assert fit(study("softmax", "hierarchical-relearned", seconds=0.1)) == [1, 4, 1, 4]


def test_what_was_decided_before_is_kept(measured: list[str]) -> None:
    before = budget.fit(study("softmax"), DATA, "cpu", None, Console(quiet=True))
    TIMES["softmax"] = 1.0
    try:
        assert fit(study("softmax", "hierarchical"), before) == [2, 6, 2, 6]
        assert fit(study("softmax", seconds=20.0), before) == [20, 20]  # another budget
        assert fit(study("softmax", batch_size=7), before) == [10, 10]  # another setting
        assert fit(study("softmax", lr=0.3), before) == [2, 2]  # one that takes no other time
    finally:
        TIMES["softmax"] = 4.0


def test_a_head_that_does_not_fit_the_data_is_an_error_before_it_is_measured(measured: list[str]) -> None:
    card = DATA.card().model_copy(update={"group_names": None, "group_of_class": None})
    data = type("Plain", (), {"card": lambda self: card, "train_inputs": DATA.train_inputs})()
    with pytest.raises(InputError, match="expected data with groups of classes"):
        budget.fit(study("hierarchical-groups"), data, "cpu", None, Console(quiet=True))
    assert measured == []


def test_what_was_decided_is_kept_when_the_tuning_is_cut_off(
    measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = study("softmax", "hierarchical", validation=0.25).model_copy(update={"tuning": Tuning(trials=2)})

    def cut(*_: object) -> Study:
        raise KeyboardInterrupt

    monkeypatch.setattr("softmaxes.lab.comparison.tune.choose", cut)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_study(given, DATA, tmp_path, jobs=1, device="cpu")
    assert measured == ["softmax", "hierarchical"]
    assert [run.epochs for run in Store(tmp_path).study().runs] == [2, 6, 2, 6]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_steps_are_timed_in_the_arithmetic_that_is_trained_in(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MEASURED_SECONDS", 0.01)
    seen = set()
    apply = torch.nn.functional.linear

    def watched(*given: torch.Tensor) -> torch.Tensor:
        out = apply(*given)
        seen.add(out.dtype)
        return out

    monkeypatch.setattr("torch.nn.functional.linear", watched)
    budget._epoch_seconds(toy_run(DATA, precision=precision), EXAMPLES, DATA.card(), "cpu")
    assert seen == {torch.float32 if precision == "32-true" else torch.bfloat16}


RECIPE = {"backbone": "resnet", "channels": 10, "width": 4, "flips": True, "crops": 2, "label_smoothing": 0.1}


@pytest.mark.parametrize("fields", [{}, RECIPE], ids=["plain", "recipe"])
@pytest.mark.parametrize("head", ["softmax", "hierarchical-relearned"])
def test_the_time_of_an_epoch_is_that_of_its_steps(
    head: str, fields: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MEASURED_SECONDS", 0.01)
    ticks = iter(range(10**6))
    monkeypatch.setattr(budget, "now", lambda device: float(next(ticks)))  # a second a step
    run = toy_run(DATA, head, batch_size=50, epochs=4, **fields)
    assert budget._epoch_seconds(run, EXAMPLES, DATA.card(), "cpu") == pytest.approx((3, 3))  # 120 images


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("softmaxes.lab.data.sources.load_source", lambda _: DATA)
    monkeypatch.setattr(budget, "_epoch_seconds", lambda run, *rest: 2 * ({"softmax": 1.0, "gumbel": 0.5}[run.head],))
    words = ["compare", "--heads", "softmax", "gumbel", "--seeds", "1", "--out", str(tmp_path), "--jobs", "1"]
    assert main([*words, "--seconds", "1"]) == 0
    stored = Store(tmp_path).study()
    assert [run.epochs for run in stored.runs] == [1, 2]
    assert stored.budget == 1
    assert "Each head has as many epochs as 1 seconds of training hold." in (tmp_path / "report.html").read_text()
    monkeypatch.setattr(budget, "_epoch_seconds", lambda *_: pytest.fail("measured again"))
    assert main([*words, "--seconds", "1"]) == 0
    assert Store(tmp_path).study() == stored
    capsys.readouterr()
    assert main([*words, "--seconds", "1", "--epochs", "3"]) == 2
    assert main([*words, "--seconds", "0"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "softmaxes: --epochs: expected none with --seconds, which decides on them, got 3.",
        "softmaxes: --seconds: expected more than 0, got 0.",
    ]
