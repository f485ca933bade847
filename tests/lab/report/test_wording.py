import shlex
from pathlib import Path

import pytest

from reports import make_card, make_result, make_run, make_scores, make_study, strangers, whole_study
from softmaxes.lab.records import Own, Result
from softmaxes.lab.report import wording
from softmaxes.lab.report.summary import final_scores, summarise
from softmaxes.lab.store import Store


def test_the_recipe_is_told() -> None:
    card = make_card(num_classes=10, samples=0)
    plain = wording.training_in_words([make_run()], card)
    assert plain.startswith(
        "TinyVGG (channels 10, padding 0); SGD at learning rate 0.1, falling linearly to 0, batches"
    )
    recipe = {"backbone": "resnet", "lr_schedule": "one-cycle", "label_smoothing": 0.1, "flips": True, "crops": 4}
    assert wording.training_in_words([make_run(**recipe)], card).startswith(
        "ResNet-8 (width 16, blocks 1); SGD at learning rate 0.1, in one cycle, label smoothing 0.1, training images "
        "mirrored and cropped after padding by 4 pixels at random, batches of"
    )
    unsaid = wording.training_in_words([make_run(standardise=False), make_run(weight_decay=0.5)], card)
    assert "falling linearly to 0, weight decay 0.0 or 0.5, standardise no or yes, batches of" in unsaid
    both = [make_run(), make_run(backbone="resnet", blocks=3, hidden_units=7)]
    assert wording.training_in_words(both, card).startswith(
        "TinyVGG (channels 10, padding 0) or ResNet-20 (width 16, blocks 3, a layer of 7 units before softmax); SGD"
    )
    assert "; SGD at learning rate 0.1, falling to 0 in half a cosine, training images mirrored at random, batches" in (
        wording.training_in_words([make_run(lr_schedule="cosine", flips=True)], card)
    )


def test_a_head_of_the_users_own_is_said_to_be_checked_by_laws() -> None:
    """A backbone or data are not."""
    options = {"--heads": "mine:head", "--backbone": "mine:network"}
    parts = tuple(Own(option=option, name=name, source="0" * 16) for option, name in options.items())
    study = make_study([make_run(own=parts)])
    assert wording.own_in_words(study) == (
        "Parts of the user's own: heads mine:head (source 0000000000000000, checked by the quick laws of "
        "softmaxes.testing) and backbone mine:network (source 0000000000000000)."
    )
    assert wording.own_in_words(make_study([make_run()])) == ""


def test_every_run_is_listed_with_its_own_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the store, as the command line does it: reading a run's key must not fix it for its copies."""
    monkeypatch.setattr(Result, "check", lambda result: None)  # its scores are made up
    study, card, results = whole_study()
    store = Store(tmp_path)
    for result in results:
        store.save_result(result)
    summary = summarise(study, card, store.results(study))
    expected = {(result.run.head, result.run.seed): f"{100 * final_scores(result).accuracy:.1f}" for result in results}
    assert len(set(expected.values())) > 3
    lines = wording.runs(summary)
    assert {(line.run.head, line.run.seed): line.accuracy for line in lines} == expected


def test_a_command_on_the_page_is_one_that_can_be_typed() -> None:
    """Whatever the folder is called that the data lie in."""
    study, card, results = strangers("softmax")
    words = ("--data", "it's; rm -rf $HOME", "--data-dir=-x `y`", "--fonts", "two\\ words")
    study = study.model_copy(update={"data_options": words})
    line = wording.runs(summarise(study, card, results))[0]
    assert shlex.split(line.again) == ["softmaxes", "repeat", f"runs/{line.run.key}.json", *words]


def test_words_in_a_row() -> None:
    assert [wording.listed("abc"[:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0k"),
        (123_456, "123k"),
        (12_300_000, "12.3M"),
        (512_000_000, "512M"),
        (2 * 10**9, "2.0G"),
        (5 * 10**11, "500G"),
        (10**12, "1e+12"),
    ],
)
def test_a_large_count_in_few_characters(count: int, said: str) -> None:
    assert wording.compact(count) == said


def test_what_a_diverged_run_means_is_told_only_where_there_is_one() -> None:
    card = make_card(num_classes=10, samples=0)
    runs = [make_run(head, seed) for head in ("softmax", "cosine") for seed in (0, 1)]
    whole, lost = [make_result(run, card) for run in runs], make_result(runs[-1], card, diverged=2)
    missing = summarise(make_study(runs), card, whole[:-1])
    assert wording.cautions(missing) == ["cosine: 1 of 2 seeds; no result yet for seed 1."]
    notes = wording.cautions(summarise(make_study(runs), card, [*whole[:-1], lost]))
    assert "diverged" in notes[0]
    assert notes[1].startswith("Means are over the seeds that finished.")


def test_no_head_wins_where_all_guess() -> None:
    card = make_card(num_classes=10, samples=0)
    runs = [make_run(head, seed) for head in ("softmax", "cosine") for seed in (0, 1)]

    def told(*accuracies: float) -> str:
        results = [
            make_result(run, card, accuracy, make_scores(accuracy))
            for run, accuracy in zip(runs, accuracies, strict=True)
        ]
        return wording.finding(summarise(make_study(runs), card, results))

    assert told(0.1, 0.11, 0.1, 0.1).startswith("No head is better than guessing")
    assert told(0.1, 0.11, 0.5, 0.6).startswith("Highest test accuracy: cosine, 55.0")


def test_no_head_is_marked_where_all_guess() -> None:
    """Neither by its accuracy nor by another score; one head that learned is enough."""
    card = make_card(num_classes=10, samples=0)
    runs = [make_run(head, seed) for head in ("softmax", "cosine") for seed in (0, 1)]
    for best, marked in ((0.12, False), (0.6, True)):
        results = [
            make_result(run, card, accuracy, make_scores(accuracy))
            for run, accuracy in zip(runs, (0.1, best, 0.1, best), strict=True)
        ]
        summary = summarise(make_study(runs), card, results)
        assert any(mark for row in summary.rows for mark in row.marks.values()) == marked
        explained = wording.marks_explained(summary, "★", "≈")
        assert explained.startswith("± is half of a 95")
        assert ("No head is marked as the best" in explained) != marked
        assert ("★" in explained) == marked


def test_one_epoch_is_one_epoch() -> None:
    card = make_card(num_classes=10, samples=0)
    assert ", 1 epoch, precision" in wording.training_in_words([make_run(epochs=1)], card)
    assert ", 10 epochs, precision" in wording.training_in_words([make_run()], card)
    both = [make_run(), make_run("cosine", epochs=1)]
    assert ", 1 or 10 epochs, precision" in wording.training_in_words(both, card)
