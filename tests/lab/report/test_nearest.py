"""How near settings come to published figures."""

import csv
import io
import math
from collections import Counter

import pytest
import torch

from reports import make_card, make_result, make_run, make_scores, make_study, write_report
from softmaxes import metrics
from softmaxes.lab.records import DataCard, Published, Result, Study
from softmaxes.lab.report.sections import nearest
from softmaxes.lab.report.summary import Summary, summarise

CARD = make_card(num_classes=10, samples=0)
PUBLISHED = (
    Published(head="softmax", accuracy=0.4, precision=0.5, f1=0.3, recall=0.4),
    Published(head="gumbel-normal", accuracy=0.3, precision=0.3, f1=0.3),
)


def finished(head: str, reached: tuple[float, float, float], **fields: object) -> Result:
    accuracy, precision, f1 = reached
    scores = make_scores(accuracy, precision=precision, f1=f1)
    return make_result(make_run(head, **fields), CARD, accuracy=0.5, scores=scores)


RESULTS = [
    finished("softmax", (0.4, 0.5, 0.36), lr=0.1),  # off by 0.06 in one of three
    finished("softmax:twice=yes", (0.1, 0.1, 0.1), lr=0.1),
    finished("softmax", (0.42, 0.52, 0.32), lr=0.01),  # off by 0.02 in each
    finished("gumbel-normal", (0.4, 0.4, 0.4), lr=0.1),
    finished("gumbel:noise=normal,noisy_test=yes", (0.3, 0.3, 0.33), lr=0.1),  # off by 0.03 in one
    finished("gumbel-normal", (0.31, 0.31, 0.31), lr=0.01),
]


def summary_of(results: list[Result], published: tuple[Published, ...] = PUBLISHED) -> Summary:
    study: Study = make_study([result.run for result in results], published=published)
    return summarise(study, CARD, results)


def last(results: list[Result]) -> list[nearest.Combination]:
    return [one for one in nearest.nearest(summary_of(results)) if one.fits[0].reading == "last epoch"]


def test_a_distance_is_a_root_mean_square() -> None:
    best, other = last(RESULTS)
    assert best.shared == {"lr": 0.01}
    assert [fit.distance for fit in best.fits] == pytest.approx([0.02, 0.01])
    assert best.distance == pytest.approx(math.sqrt((0.02**2 + 0.01**2) / 2))
    assert other.shared == {"lr": 0.1}
    assert [fit.distance for fit in other.fits] == pytest.approx([0.06 / math.sqrt(3), 0.03 / math.sqrt(3)])


def test_each_head_has_the_variant_that_comes_nearest() -> None:
    assert [fit.row.setting.head for fit in last(RESULTS)[1].fits] == ["softmax", "gumbel:noise=normal,noisy_test=yes"]


def test_a_setting_counts_where_every_published_head_has_it() -> None:
    assert [one.shared for one in last(RESULTS[:-1])] == [{}]  # gumbel has one learning rate: each may have its own
    lines = [one.shared for one in last([*RESULTS, finished("softmax", (0.4, 0.5, 0.3), lr=0.001)])]
    assert lines == [{"lr": 0.01}, {"lr": 0.1}]


def test_an_option_that_one_of_three_heads_does_not_vary_is_each_head_s_own() -> None:
    published = (*PUBLISHED, Published(head="cosine", accuracy=0.2))
    results = [
        *RESULTS,
        finished("cosine", (0.2, 0.2, 0.2), lr=0.1),
        finished("cosine:scale=4", (0.3, 0.2, 0.2), lr=0.1),
    ]
    combined = nearest.nearest(summary_of(results, published))
    assert {tuple(one.shared) for one in combined} == {()}


def test_scores_are_those_of_the_last_or_the_best_epoch_or_of_predicted_classes() -> None:
    confusion = ((0, 0, 3), (0, 1, 1), (1, 1, 2), (1, 0, 2), (2, 1, 4))  # class 2 is never predicted
    result = RESULTS[0].model_copy(update={"confusion": confusion})
    read = nearest.readings(result)
    assert read["last epoch"] == {"accuracy": 0.4, "precision": 0.5, "f1": 0.36}
    highest = max(epoch.scores.accuracy for epoch in result.epochs if epoch.scores)
    assert read["best epoch"]["accuracy"] == highest > 0.45
    target, prediction = torch.tensor(
        [pair for target, predicted, count in confusion for pair in [(target, predicted)] * count]
    ).T
    of_class, predicted = Counter(target.tolist()), Counter(prediction.tolist())
    right = {each: int(((target == each) & (prediction == each)).sum()) for each in predicted}
    own = read["last epoch, predicted classes"]
    assert own["precision"] == pytest.approx((right[0] / predicted[0] + right[1] / predicted[1]) / 2)
    assert own["f1"] == pytest.approx(sum(2 * right[each] / (of_class[each] + predicted[each]) for each in (0, 1)) / 2)
    log_prob = torch.nn.functional.one_hot(prediction, 3).float().log()
    precision, _, f1 = metrics.macro_scores(metrics.judge(log_prob, target), 3)
    assert (own["precision"], own["f1"]) == (pytest.approx(precision * 3 / 2), pytest.approx(f1 * 3 / 2))


def test_the_report_has_them_where_there_are_several(tmp_path) -> None:
    def written(results: list[Result], published: tuple[Published, ...], card: DataCard = CARD) -> dict[str, str]:
        study = make_study([result.run for result in results], published=published)
        page = write_report(study, card, results, tmp_path)
        return {path.name: path.read_text() for path in [page, *tmp_path.glob("nearest.*")]}

    files = written(RESULTS, PUBLISHED)
    assert "come nearest to the published figures" in files["report.html"]
    lines = files["nearest.md"].splitlines()
    assert lines[2].split(" | ")[:2] == ["| `lr 0.01, last epoch`", "1.6"]
    rows = list(csv.DictReader(io.StringIO(files["nearest.csv"])))
    assert len(rows) == 3 * len(RESULTS)
    assert float(rows[0]["distance"]) == pytest.approx(0.06 / math.sqrt(3))
    for results, published in ((RESULTS[3:], PUBLISHED), (RESULTS, ()), (RESULTS[:1] + RESULTS[3:4], PUBLISHED)):
        assert list(written(results, published)) == ["report.html"]
