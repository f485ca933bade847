"""Settings chosen with the same effort for every head, and nothing of the test set read for it."""

import dataclasses
import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from softmaxes import Entmax, GumbelSoftmax
from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison import tune as tuning
from softmaxes.lab.comparison.plan import as_tuned
from softmaxes.lab.data.batches import channels_last
from softmaxes.lab.devices import Devices
from softmaxes.lab.heads.registry import HEADS
from softmaxes.lab.records import Study, Tried, Tuning
from softmaxes.lab.report.sections import tuning as report
from softmaxes.lab.store import Store, replaced
from softmaxes.lab.studies import STUDIES
from softmaxes.lab.training.classifier import UnfitError, build
from toy import toy_data, toy_run

DATA = toy_data()
QUIET = Console(quiet=True)


def study(*heads: str, trials: int = 3, **fields: object) -> Study:
    runs = tuple(toy_run(DATA, head, seed=seed, validation=0.25, **fields) for seed in range(2) for head in heads)
    return Study(name="toy", title="Toy", description="Toys.", runs=runs, tuning=Tuning(trials=trials))


def tuned(folder: Path, given: Study, **changes: Any) -> Study:
    return tuning.choose(given, dataclasses.replace(DATA, **changes), Store(folder), 1, Devices("cpu"), QUIET)


@pytest.mark.parametrize("trials", [2, 6, 13])
@pytest.mark.parametrize("head", HEADS)
def test_as_many_settings_of_every_head_and_each_another(head: str, trials: int) -> None:
    tried = tuning.settings(head, trials)
    assert len(set(tried)) == trials
    low, high = tuning.RATES
    assert all(low < one.lr < high for one in tried)
    rates = sorted(math.log(one.lr) for one in tried)
    widest = math.log(high / low) / trials
    assert all(b - a < 2.1 * widest for a, b in zip([math.log(low), *rates], [*rates, math.log(high)], strict=True))
    knob = HEADS[head].knob
    for one in tried:
        assert (one.knob is None) == (knob is None)
        assert knob is None or one.knob is None or knob.low <= one.knob <= knob.high


def test_a_knob_is_an_argument_of_its_head() -> None:
    for entry in HEADS.values():
        if entry.knob is not None:
            head = entry.knob.build(8, DATA.card(), entry.knob.low)
            assert type(head) is type(entry.build(8, DATA.card()))
            assert f"{entry.knob.name}={entry.knob.low}" in repr(head)
    gumbel = build(toy_run(DATA, "gumbel", knob=0.3), DATA.card(), channels_last(DATA.train_inputs)).head
    assert isinstance(gumbel, GumbelSoftmax)
    assert gumbel.scale == 0.3
    entmax = build(toy_run(DATA, "entmax", knob=1.2), DATA.card(), channels_last(DATA.train_inputs)).head
    assert isinstance(entmax, Entmax)
    assert entmax.alpha == 1.2
    with pytest.raises(UnfitError, match=r"softmax: expected no knob, for it has none, got 0\.3\."):
        build(toy_run(DATA, knob=0.3), DATA.card(), channels_last(DATA.train_inputs))


@pytest.mark.slow
def test_every_head_is_tried_as_often_and_the_best_is_taken(tmp_path: Path) -> None:
    chosen = tuned(tmp_path, study("softmax", "gumbel"))
    assert chosen.tuning is not None
    for head in ("softmax", "gumbel"):
        tried = [one for one in chosen.tuning.tried if one.head == head]
        assert [one.epochs for one in tried] == [2, 2, 2, 3, 3]  # two fifths of three epochs, and all of them
        last = [one for one in tried if one.epochs == 3]
        first = {(one.lr, one.knob): one.accuracy for one in tried if one.epochs == 2}
        lowest = min(first[one.lr, one.knob] or 0 for one in last)
        assert sum((accuracy or 0) > lowest for accuracy in first.values()) <= 1
        best = max(last, key=lambda one: one.accuracy or 0)
        own = [run for run in chosen.runs if run.head == head]
        assert {(run.lr, run.knob) for run in own} <= {(one.lr, one.knob) for one in last}
        assert next(one.accuracy for one in last if one.lr == own[0].lr) == best.accuracy
        assert [(run.seed, run.scored_on, run.validation) for run in own] == [(0, "test", 0.25), (1, "test", 0.25)]


@pytest.mark.slow
def test_nothing_of_the_test_set_is_read(tmp_path: Path) -> None:
    found = [
        tuned(
            tmp_path / str(turned),
            study("softmax"),
            test_inputs=DATA.test_inputs.flip(0) if turned else DATA.test_inputs,
        )
        for turned in (False, True)
    ]
    assert found[0] == found[1]


@pytest.mark.slow
def test_what_was_tried_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tuned(tmp_path, study("softmax"))
    trained = sorted((tmp_path / "tuning" / "runs").glob("*.json"))
    written = [path.stat().st_mtime_ns for path in trained]
    assert len(trained) == 5
    assert tuned(tmp_path, study("softmax")) == chosen
    assert [path.stat().st_mtime_ns for path in trained] == written


@pytest.mark.slow
def test_a_setting_that_diverges_is_the_last_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [tuning.Setting(1e30, None), tuning.Setting(1e20, None), tuning.Setting(0.05, None)]
    monkeypatch.setattr(tuning, "settings", lambda head, trials: rates)
    chosen = tuned(tmp_path, study("softmax"))
    assert {run.lr for run in chosen.runs} == {0.05}
    assert chosen.tuning is not None
    assert any(one.accuracy is None for one in chosen.tuning.tried)


@pytest.mark.slow
def test_where_every_setting_diverges_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "settings", lambda head, trials: [tuning.Setting(rate, None) for rate in (1e30, 1e20)])
    said = io.StringIO()
    given = study("softmax", trials=2)
    chosen = tuning.choose(given, DATA, Store(tmp_path), 1, Devices("cpu"), Console(file=said, width=200))
    assert "softmax: learning rate 1e+30 (every setting that was tried diverged)" in said.getvalue()
    told = report.explained(chosen, report.choices(chosen), DATA.card())
    assert told.endswith("Every setting of softmax diverged; the first that was tried stands for it.")


def test_a_part_that_holds_nothing_out_is_refused(tmp_path: Path) -> None:
    few = toy_data(train_per_class=3)
    run = toy_run(few, validation=0.25)
    given = Study(name="toy", title="Toy", description="Toys.", runs=(run,), tuning=Tuning(trials=2))
    with pytest.raises(InputError, match=r"--validation: expected a share that holds out .* got 0\.25 of at most 3\."):
        tuning.choose(given, few, Store(tmp_path), 1, Devices("cpu"), QUIET)


@pytest.mark.slow
def test_heads_that_learn_their_tree_have_epochs_to_do_so(tmp_path: Path) -> None:
    chosen = tuned(tmp_path, study("softmax", "hierarchical-grown", trials=2, epochs=5))
    assert chosen.tuning is not None
    assert {one.epochs for one in chosen.tuning.tried} == {4, 5}


@pytest.mark.slow
def test_where_heads_have_epochs_of_their_own_each_is_tried_for_two_fifths_of_them(tmp_path: Path) -> None:
    given = study("softmax", "gumbel", trials=2, epochs=6)
    runs = tuple(run.model_copy(update={"epochs": 3}) if run.head == "gumbel" else run for run in given.runs)
    chosen = tuned(tmp_path, given.model_copy(update={"runs": runs}))
    assert chosen.tuning is not None
    for head, epochs in (("softmax", [3, 3, 6, 6]), ("gumbel", [2, 2, 3, 3])):
        assert [one.epochs for one in chosen.tuning.tried if one.head == head] == epochs
    said = report.explained(chosen, report.choices(chosen), DATA.card())
    assert "2 settings of each head were trained for 2 to 3 of 3 to 6 epochs, the best 2 for all" in said


@pytest.mark.slow
def test_the_command_line_tunes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["compare", "--data", "glyphs:3", "--train-per-class", "10", "--test-per-class", "2", "--epochs", "2"]
    given += ["--channels", "2", "--heads", "softmax", "--seeds", "1", "--out", "out"]
    for options, said in (
        (["--tune", "1"], "--tune: expected 2 or more, got 1."),
        (["--tune", "2", "--lr", "0.1"], "--lr: expected none with --tune, which decides on it, got 0.1."),
        (["--tune", "2", "--validation", "0"], "--validation: expected more than 0 with --tune"),
        (["--study", "fair", "--lr", "0.1"], "--lr: expected none with --tune, which decides on it, got 0.1."),
    ):
        words = [word for word in given if word not in ("--heads", "softmax")] if "--study" in options else given
        assert main([*words, *options]) == 2
        assert said in capsys.readouterr().err
    assert not Path("out").exists()
    assert main([*given, "--tune", "2"]) == 0
    told = capsys.readouterr().err
    assert re.search(r"softmax, learning rate [\d.]+: epoch 1/1, held-out accuracy", told)
    assert "seed 1000" not in told
    assert "softmax, seed 0: epoch 2/2, test accuracy" in told
    kept = Store(Path("out")).study()
    assert kept.tuning is not None
    assert len(kept.tuning.tried) == 4
    assert kept.runs[0].validation == 0.1
    assert Store(Path("out")).result(kept.runs[0]) is not None
    page = Path("out/report.html").read_text("utf-8")
    assert 'id="tuning-table"' in page
    assert "2 settings of each head were trained for 1 of 2 epochs, the best 2 for all" in page
    lines = Path("out/tuning.csv").read_text("utf-8").splitlines()
    assert lines[0] == "head,lr,knob,epochs,held_out_accuracy"
    assert len(lines) == 5
    assert main(["report", "out"]) == 0
    assert Path("out/report.html").read_text("utf-8") == page


def test_the_report_says_what_was_chosen_from_what() -> None:
    tried = (
        Tried(head="softmax", lr=0.1, epochs=2, accuracy=0.5),
        Tried(head="softmax", lr=1.0, epochs=2, accuracy=None),
        Tried(head="softmax", lr=0.05, epochs=2, accuracy=0.4),
        Tried(head="softmax", lr=0.1, epochs=3, accuracy=0.625),
        Tried(head="gumbel", lr=0.2, knob=0.3, epochs=2, accuracy=0.1),
        Tried(head="gumbel", lr=0.1, knob=0.7, epochs=2, accuracy=0.3),
        Tried(head="gumbel", lr=0.1, knob=0.7, epochs=3, accuracy=0.375),
    )
    runs = (toy_run(DATA, lr=0.1, validation=0.25), toy_run(DATA, "gumbel", lr=0.1, knob=0.7, validation=0.25))
    given = study().model_copy(update={"runs": runs, "tuning": Tuning(trials=3, tried=tried)})
    softmax, gumbel = report.choices(given)
    assert (softmax.at_edge, gumbel.at_edge) == (False, True)
    table = report.table([softmax, gumbel])
    assert [head.text for head in table.heads] == ["softmax", "gumbel"]
    assert list(zip(*([cell.text for cell in column.cells] for column in table.columns), strict=True)) == [
        ("0.1", "–", "62.5", "0.05: 40.0, 0.1: 50.0, 1: diverged"),
        ("0.1", "scale 0.7", "37.5", "0.1 and 0.7: 30.0, 0.2 and 0.3: 10.0"),
    ]
    said = report.explained(given, [softmax, gumbel], DATA.card())
    assert "3 settings of each head were trained for 2 of 3 epochs" in said
    assert said.endswith("The best learning rate of gumbel is the lowest or highest that was tried.")
    assert report.choices(given.model_copy(update={"tuning": None})) == []
    assert report.choices(study()) == []


def test_a_tuned_study_replaces_an_untuned_one_and_not_one_of_other_choices() -> None:
    """What tuning chose may differ between two tuned studies; beside an untuned one it is another setting."""
    tuned_before = study("softmax")
    chosen = study("softmax", lr=0.3)
    untuned = chosen.model_copy(update={"tuning": None})
    assert not replaced(tuned_before, chosen)
    assert replaced(tuned_before, untuned)
    assert replaced(untuned, tuned_before)
    assert not replaced(untuned, untuned)


def test_settings_of_another_comparison(tmp_path: Path) -> None:
    """The learning rate and knob that a head has there, on any data, and no tuning any more."""
    store = Store(tmp_path)
    runs = (toy_run(DATA, "softmax", lr=0.7), toy_run(DATA, "gumbel", lr=0.3, knob=0.2))
    store.save_study(Study(name="a", title="A", description="A.", runs=runs), DATA.card())
    found = as_tuned(study("gumbel", "softmax"), tmp_path, {})
    assert {(run.head, run.lr, run.knob) for run in found.runs} == {("softmax", 0.7, None), ("gumbel", 0.3, 0.2)}
    assert found.tuning is None
    assert found.description == "Toys. Each head has the learning rate and the setting that it has in: A."
    with pytest.raises(InputError, match="expected a comparison with cosine, got softmax, gumbel"):
        as_tuned(study("softmax", "cosine"), tmp_path, {})
    with pytest.raises(InputError, match="expected none with --tuned-as, which decides on it"):
        as_tuned(study("softmax"), tmp_path, {"lr": 0.5})
    with pytest.raises(InputError, match="expected the folder of a comparison"):
        as_tuned(study("softmax"), tmp_path / "none", {})


def test_tuned_as_and_tune_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--data", "glyphs:3", "--tune", "2", "--tuned-as", str(tmp_path), "--out", str(tmp_path / "o")]
    assert main(words) == 2
    assert "--tune: expected none with --tuned-as" in capsys.readouterr().err


def test_the_study_of_very_many_classes() -> None:
    """All heads with one setting and the same effort; a tree of groups where the data have groups."""
    made = STUDIES["many"].make(DATA.card(), 2, {"epochs": 3})
    assert made.tuning is not None
    assert len({run.model_copy(update={"head": "", "seed": 0}) for run in made.runs}) == 1
    assert {run.seed for run in made.runs} == {0, 1}
    heads = {run.head for run in made.runs}
    assert {"softmax", "neighbor-sampled:samples=1024", "hierarchical-groups"} <= heads
    without = DATA.card().model_copy(update={"group_names": None, "group_of_class": None})
    assert {run.head for run in STUDIES["many"].make(without, 1, {}).runs} == heads - {"hierarchical-groups"}
