import csv
import io
import re

import pytest

from reports import make_card, make_result, make_run, make_study, tree_results
from softmaxes.lab import InputError
from softmaxes.lab.records import (
    Branch,
    Guess,
    TrainedTree,
)
from softmaxes.lab.report import page as html_page
from softmaxes.lab.report import table
from softmaxes.lab.report.sections.trees import views
from softmaxes.lab.report.summary import summarise


def test_trees_are_judged_drawn_and_followed() -> None:
    card = make_card()
    results = tree_results(card)
    summary = summarise(make_study([result.run for result in results]), card, results)
    assert [row.label for row in summary.over_trees] == ["hierarchical"]
    assert [estimate.mean for estimate in summary.rows[0].levels] == pytest.approx([0.8, 0.6])
    page = html_page.render(summary)
    table_of_trees = page[page.index('id="judged-table"') : page.index("The height of a mistake")]
    assert table_of_trees.count("<tr>") == 3
    assert re.search(r"80\.0\s±\s0\.0", table_of_trees)
    assert re.search(r"1\.550\s±\s0\.635", table_of_trees)
    assert re.search(r"Depth 2, up to 20 children a node; 2\.0 nodes on the way", page)
    assert re.search(r"Made in 0\.50 s from the weights of a flat softmax after 2 epochs, and again after 5 from", page)
    assert re.search(r"for\s+3\.1\s%\s+of the test images \(accuracy 58\.0\s%\), a beam of 4 for 0\.2\s%", page)
    assert page.count('<svg class="icicle"') == 1
    assert page.count('class="path"') == len(card.samples)
    group = card.group_names[card.group_of_class[results[1].guesses[0].classes[0]]]  # type: ignore[index]
    way = page[page.index('class="path"') :]
    assert re.search(rf"›&nbsp;<bdi>{group}</bdi>&nbsp;<span class=\"interval\">75\.0\s%", way[:400])
    (first, second) = csv.DictReader(io.StringIO(table.comparison(summary).csv()))
    assert float(first["tree_lca_height"]) == float(second["tree_lca_height"]) == pytest.approx(1.55)


def test_results_from_before_trees_judged_have_no_such_table() -> None:
    card = make_card()
    results = [make_result(make_run(seed=seed), card) for seed in range(2)]
    summary = summarise(make_study([result.run for result in results]), card, results)
    page = html_page.render(summary)
    assert "judged-table" not in page
    assert 'id="trees"' not in page
    (row,) = csv.DictReader(io.StringIO(table.comparison(summary).csv()))
    assert row["tree_lca_height"] == row["tree_lca_height_low"] == row["tree_lca_height_mark"] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tree": TrainedTree(parent=(1, 0, 1))},
            "expected a tree over 100 classes in run .*: Tree: expected one root",
        ),
        ({"tree": TrainedTree(parent=(2, 2, -1))}, "expected a tree over 100 classes in run .*: got 2 classes"),
        (
            {"guesses": (Guess(classes=(1,), probabilities=(1.0,), path=(Branch(node=999, probability=1),)),)},
            "expected a path .* in run .*, got a node that the tree has not",
        ),
    ],
)
def test_what_a_result_says_of_its_tree_is_checked(change: dict[str, object], message: str) -> None:
    card = make_card()
    results = [result for result in tree_results(card) if result.run.head == "hierarchical"]
    results[0] = results[0].model_copy(update=change)
    summary = summarise(make_study([result.run for result in results]), card, results)
    with pytest.raises(InputError, match=message):
        html_page.render(summary)


def test_a_tree_of_which_nothing_was_tested_is_drawn() -> None:
    """A result without examples, as no training leaves it: nothing is known of a node."""
    card = make_card(num_classes=4, group_size=2, samples=0)
    result = next(one for one in tree_results(card) if one.tree is not None)
    result = result.model_copy(update={"confusion": ()})
    study = make_study([result.run], published=())
    (view,) = views(summarise(study, card, [result]))
    assert "unknown" in view.svg
