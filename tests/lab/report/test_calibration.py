import html
import re

import pytest

from reports import make_result, whole_study, with_statistics
from softmaxes.lab.records import (
    Reliability,
)
from softmaxes.lab.report import charts
from softmaxes.lab.report import page as html_page
from softmaxes.lab.report.sections.calibration import calibrated, pooled
from softmaxes.lab.report.summary import summarise


def test_reliability_is_pooled_over_seeds() -> None:
    nothing = [0.0] * 12
    curves = [
        Reliability(examples=[*[0] * 12, 0, 1, 3], confidence=[*nothing, 0, 0.9, 0.98], accuracy=[*nothing, 0, 0, 1]),
        Reliability(examples=[*[0] * 12, 0, 3, 1], confidence=[*nothing, 0, 0.92, 0.94], accuracy=[*nothing, 0, 1, 0]),
    ]
    low, high = pooled(curves)
    assert (low.confidence, low.accuracy, low.examples, low.share) == pytest.approx((0.915, 0.75, 4, 0.5))
    assert (high.confidence, high.accuracy, high.examples, high.share) == pytest.approx((0.97, 0.75, 4, 0.5))


@pytest.mark.slow
def test_confidence_is_told_before_and_after_scaling() -> None:
    study, card, results = whole_study()
    results[1] = with_statistics(make_result(results[1].run, card), scaled=False)  # gumbel, seed 0
    heads = calibrated(summarise(study, card, results))
    assert [one.scaled is not None for one in heads] == [True, False, True]
    scaled = heads[2].scaled
    assert scaled is not None
    assert (scaled.temperature.mean, scaled.fitted_on) == (pytest.approx(1.5), 100)
    assert scaled.nll.mean == pytest.approx(0.9 * heads[2].nll.mean)
    drawn = charts.reliability_charts(heads)
    assert [len(chart.figure["data"]) for chart in drawn] == [4, 3]
    assert [trace["y"] for trace in drawn[0].figure["data"][1:]] == [
        [bin.accuracy for bin in one.bins] for one in heads
    ]
    assert "softmax 12.0\xa0% overconfident on average" in drawn[0].alternative
    assert drawn[1].figure["data"][2]["x"] == [bin.confidence for bin in scaled.bins]
    page = html_page.render(summarise(study, card, results))
    table = page[page.index('id="calibration-table"') :].partition("</table>")[0]
    rows = [
        html.unescape(re.sub(r"<[^>]*>", " ", row)).split() for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    ]
    assert (rows[3].count("–"), rows[2].count("–"), rows[4].count("–")) == (4, 0, 0)
    assert rows[4][-5:] == ["1.500", "±", "0.248", "100", "images"]
    none = [with_statistics(make_result(result.run, card), scaled=False) for result in results]
    (chart,) = charts.reliability_charts(calibrated(summarise(study, card, none)))
    assert chart.title == "Reliability"
    assert "calibration-table" not in html_page.render(summarise(study, card, none))
