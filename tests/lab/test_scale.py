"""Heads measured in processes of their own, within limits; what is written; what is advised."""

import csv
import io
import math
import multiprocessing
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from softmaxes import HierarchicalSoftmax
from softmaxes.lab import Entry, InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.cost import measure as scale
from softmaxes.lab.cost.devices import in_bytes, sent_by_rows, sent_by_subtrees
from softmaxes.lab.cost.records import Cell, Cost, Failure, Limits, Table, Timing, cells
from softmaxes.lab.cost.report import print_table, write_report
from softmaxes.lab.cost.scale import bytes_of
from softmaxes.lab.heads.registry import HEADS
from softmaxes.lab.store import Store

ROOT = Path(__file__).parents[2]
LIMITS = Limits(seconds=60, memory=4)
TINY = Cell(head="softmax", classes=8, features=4, batch_size=5, test_batch=3)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds, in processes that know of it."""
    monkeypatch.setattr(scale, "MEASURED_SECONDS", 0.01)
    if "fork" in multiprocessing.get_all_start_methods():
        monkeypatch.setattr(scale, "fresh_processes", lambda: multiprocessing.get_context("fork"))


def execute(folder: Path, made: list[Cell], limits: Limits = LIMITS) -> list[Cost]:
    console = Console(quiet=True)
    return scale.execute(Table(cells=tuple(made)), Store(folder), limits, console)


def parts(cell: Cell) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _, part in scale.measure(cell):
        found |= part
    return found


@pytest.mark.parametrize("head", [name for name, entry in HEADS.items() if entry.alone])
def test_every_head_that_is_there_from_the_first_step_is_measured(head: str) -> None:
    found = parts(TINY.model_copy(update={"head": head, "classes": 30}))
    cost = Cost(cell=TINY, limits=LIMITS, **found)
    assert cost.parameters is not None
    for name in ("forward", "backward", "update", "step", "log_prob", "topk"):
        timing = getattr(cost, name)
        assert 0 < timing.low <= timing.median <= timing.high
        assert timing.rounds >= 3
    assert cost.step is not None
    assert cost.forward is not None
    assert cost.step.median > cost.forward.median
    assert (cost.refresh is not None) == (HEADS[head].refresh is not None)


def test_a_step_is_measured_with_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in training, where the head looks for them before an epoch."""
    known = []
    step = scale._step

    def watched(head: Any, cell: Cell) -> Any:
        known.append(getattr(head, "_neighbors", None) is not None)
        return step(head, cell)

    monkeypatch.setattr(scale, "_step", watched)
    found = parts(TINY.model_copy(update={"head": "neighbor-sampled", "classes": 30}))
    assert found["refresh"] > 0
    assert known == [False, True]  # of the small head that warms up, and of the one that is measured


def test_a_head_behind_a_layer_is_not_measured_without_it() -> None:
    with pytest.raises(ValueError, match="softmax-hidden: expected a head without a hidden layer"):
        parts(TINY.model_copy(update={"head": "softmax-hidden"}))


@pytest.mark.slow
def test_the_memory_of_a_step_is_that_of_its_gradient() -> None:
    found = parts(Cell(head="softmax", classes=100_000, features=100, batch_size=2, test_batch=1))
    if found["step_memory"] is None:
        pytest.skip("the system does not tell")
    gradient = 100_000 * 101 * 4 / 2**20
    assert gradient * 0.95 < found["step_memory"] < gradient * 1.5
    sparse = parts(Cell(head="hierarchical", classes=100_000, features=100, batch_size=2, test_batch=1))
    assert sparse["step_memory"] < 0.2 * gradient


def test_sparse_gradients_where_a_head_can_have_them() -> None:
    for name in ("hierarchical", "forest", "sampled", "nce", "negative-sampling"):
        cell = TINY.model_copy(update={"head": name, "classes": 50})
        known = scale.labels(cell)
        head = scale.build(cell, known.known)
        head(torch.randn(3, 4), known.draw(3)).sum().backward()
        assert all(one.grad is not None and one.grad.is_sparse for one in head.parameters()), name


def test_zipf_labels_come_as_often_as_their_law_says() -> None:
    known = scale.labels(TINY.model_copy(update={"classes": 100}))
    drawn = known.draw(200_000).bincount(minlength=100).double() / 200_000
    assert known.cumulative is not None
    expected = known.cumulative.diff(prepend=torch.zeros(1, dtype=torch.float64))
    assert sorted(expected.tolist(), reverse=True) == pytest.approx([1 / r / 5.18737751763962 for r in range(1, 101)])
    torch.testing.assert_close(drawn, expected, atol=0.004, rtol=0)
    counts = torch.as_tensor(known.known.train_counts)
    assert counts.argmax() == expected.argmax()
    uniform = scale.labels(TINY.model_copy(update={"classes": 100, "labels": "uniform"}))
    assert uniform.draw(100_000).bincount(minlength=100).min() > 800


@pytest.mark.slow
def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # real processes
    made = list(cells(["softmax", "hierarchical"], [8, 20], [4], TINY))
    first = execute(tmp_path, made[:3])
    monkeypatch.setattr(scale, "_in_process", lambda cell, limits: pytest.fail("measured again"))
    assert execute(tmp_path, made[:3]) == first
    monkeypatch.undo()
    again = execute(tmp_path, made)
    assert again[:3] == first
    assert again[3].step is not None
    path = tmp_path / "cells" / f"{made[0].key}.json"
    path.write_text((tmp_path / "cells" / f"{made[1].key}.json").read_text())
    with pytest.raises(InputError, match=f"expected the cost of cell {made[0].key}, got {made[1].key}'s"):
        execute(tmp_path, made)


@pytest.mark.slow
def test_too_much_memory_is_a_reason_and_larger_sizes_are_not_tried(tmp_path: Path) -> None:
    big = list(cells(["softmax"], [1000, 1_000_000, 20_000_000], [1000], TINY))
    begin = time.monotonic()
    small, large, larger = execute(tmp_path, big, Limits(seconds=60, memory=2))
    assert time.monotonic() - begin < 30  # 80 GB were not written to
    assert small.step is not None
    assert large.unfit == "needs more than 2 GiB of memory, 3.7 GiB in one piece"
    assert large.step is None
    assert larger.unfit == "not tried: with 1,000,000 classes it needs more than 2 GiB of memory, 3.7 GiB in one piece"


def slow(features: int, known: Any) -> HierarchicalSoftmax:
    if len(known.class_names) > scale.WARM_CLASSES:
        time.sleep(600)
    return HEADS["hierarchical"].build(features, known)  # type: ignore[return-value]


@pytest.mark.slow
def test_too_much_time_is_a_reason_and_more_time_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, "softmax", Entry(slow))
    cell = TINY.model_copy(update={"classes": 200})
    begin = time.monotonic()
    (cost,) = execute(tmp_path, [cell], Limits(seconds=2, memory=4))
    assert time.monotonic() - begin < 20
    assert cost.unfit == "took more than 2 s"
    monkeypatch.undo()
    assert execute(tmp_path, [cell], Limits(seconds=2, memory=4)) == [cost]
    assert execute(tmp_path, [cell], Limits(seconds=60, memory=4))[0].step is not None


def die(cell: Cell) -> Iterator[Any]:
    yield "build", {}
    yield "step", {}
    os._exit(7)


def test_a_process_that_dies_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "measure", die)
    (cost,) = execute(tmp_path, [TINY])
    assert cost.failures[0].phase == "step"
    assert cost.unfit == "ended with code 7"


def test_a_head_that_cannot_be_is_a_reason(tmp_path: Path) -> None:
    (cost,) = execute(tmp_path, [TINY.model_copy(update={"head": "softmax", "classes": 1})])
    assert cost.unfit.startswith("cannot be: ")


def test_heads_whose_tree_is_learned_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="expected heads that are there from the first step on, got hierarchical-clust"
    ):
        execute(tmp_path, [TINY.model_copy(update={"head": "hierarchical-clustered"})])
    assert not (tmp_path / "scale.json").exists()


@pytest.mark.slow
def test_the_command_writes_a_page_figures_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "costs"
    words = ["scale", "--heads", "softmax", "hierarchical", "--features", "8", "--out", str(out), "--device", "cpu"]
    assert main([*words, "--classes", "1000", "10", "30000", "10000", "--seconds", "60"]) == 0
    said = capsys.readouterr()
    assert "hierarchical, 30,000 classes: step" in said.err
    assert f"report: {out / 'report.html'}" in said.out
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["head"], row["classes"]) for row in rows[:3]] == [
        ("softmax", "10"),
        ("hierarchical", "10"),
        ("softmax", "1000"),
    ]
    html = (out / "report.html").read_text()
    assert "At 30,000 classes a training step of hierarchical takes" in html
    charts = re.findall(r'<div class="plot wide" id="([^"]+)"', html)
    assert charts == [f"{name}-8" for name in (*scale_names(), "step_memory")][: len(charts)]
    assert len(charts) >= 6
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert {path.name for path in (out / "figures").iterdir()} >= {f"{name}_8_features.png" for name in scale_names()}
    assert re.match(r"\| head \| 10 \| 1,000 \| 10,000 \| 30,000 \| C to the \|\n", (out / "table.md").read_text())
    before = (out / "table.csv").read_bytes()
    assert main([*words, "--classes", "1000", "10", "30000", "10000", "--seconds", "60"]) == 0
    assert (out / "table.csv").read_bytes() == before
    capsys.readouterr()
    assert main(["advise", "--classes", "20000", "--features", "8", "--measured", str(out / "table.csv")]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("head"))
    assert lines[first + 1].startswith("softmax ")
    assert lines[first + 2].startswith("hierarchical ")  # less accurate wherever it was studied
    assert "yes   between, ×" in lines[first + 2]


def scale_names() -> list[str]:
    return ["step", "forward", "backward", "update", "log_prob", "topk"]


@pytest.mark.slow
def test_what_did_not_fit_is_on_the_page(tmp_path: Path) -> None:
    costs = execute(tmp_path, list(cells(["softmax"], [8, 10**6], [1000], TINY)), Limits(seconds=60, memory=2))
    html = write_report(costs, tmp_path).read_text()
    assert '<a href="#unfit">does not fit</a>' in html
    assert "softmax, 1,000,000 classes, 1000 features, build: needs more than 2 GiB of memory" in html


@pytest.mark.parametrize(
    ("text", "size"), [("16GB", 2**34), ("512 MiB", 2**29), ("1.5g", 1.5 * 2**30), ("100", 100), ("2TB", 2**41)]
)
def test_sizes_in_words(text: str, size: float) -> None:
    assert bytes_of(text) == size


def test_without_a_word_the_memory_that_is_free_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softmaxes.lab.cost.scale.memory_at_hand", lambda: 3.0)
    assert bytes_of(None) == 3 * 2**30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scale", "--heads", "nope"], "--heads: expected names from `softmaxes heads`, or all alone, got nope."),
        (["scale", "--heads", "all", "nce"], "--heads: expected names from `softmaxes heads`, or all alone, got all."),
        (["scale", "--classes", "3"], "--classes: expected 4 to 100,000,000, got 3."),
        (["scale", "--features", "0"], "--features: expected 1 to 1,000,000, got 0."),
        (["scale", "--batch-size", "0"], "--batch-size: expected 1 to 1,000,000, got 0."),
        (["scale", "--seconds", "0"], "--seconds: expected more than 0, got 0."),
        (["scale", "--seconds", "nan"], "--seconds: expected more than 0, got nan."),
        (["scale", "--seconds", "1e308"], "--seconds: expected less than 1,000,000, got 1e+308."),
        (["scale", "--classes", "10.5"], 'Invalid value for --classes: unable to convert "10.5" into int.'),
        (["scale", "--features", "1e3"], 'Invalid value for --features: unable to convert "1e3" into int.'),
        (
            ["scale", "--memory", f"{10**400}TB"],
            "--memory: expected a size such as 16GB or 512MB, at most 1024TB, got ",
        ),
        (["scale", "--memory", "0.1B"], "--memory: expected a size such as 16GB or 512MB, got 0.1B."),
        (["scale", "--memory", "much"], "--memory: expected a size such as 16GB or 512MB, got much."),
        (["advise", "--classes", "1"], "--classes: expected 4 to 100,000,000, got 1."),
        (["advise", "--classes", "9", "--memory", "0GB"], "--memory: expected a size such as 16GB or 512MB, got 0GB."),
    ],
)
def test_bad_words_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"softmaxes: {message}")
    assert said.count("\n") == 1
    assert message.endswith(" ") or said == f"softmaxes: {message}\n"


def test_where_nothing_could_be_measured_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell told of its machine before its time was over."""
    monkeypatch.undo()
    reason = Failure(phase="build", reason="took more than 0.001 s")
    limits = Limits(seconds=0.001, memory=4)
    costs = [Cost(cell=cell, failures=(reason,), limits=limits) for cell in cells(["softmax"], [8, 20], [4], TINY)]
    page = write_report(costs, tmp_path).read_text()
    assert "Nothing could be measured." in page
    assert "took more than 0.001 s" in page
    print_table(costs, Console(file=io.StringIO()))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [(1e-9, 1e-9, 1e-9), (1e-9, 1.0, 1e9), (1e9, 1e9, 1e9)])
@pytest.mark.parametrize("memory", [0.0, 5e-324, 1e9])
def test_a_page_has_room_for_every_number_of_a_record(
    tmp_path: Path, seconds: tuple[float, float, float], memory: float
) -> None:
    low, median, high = seconds
    one = Timing(low=low, median=median, high=high, rounds=10**9)
    least = Timing(low=1e-9, median=1e-9, high=1e-9, rounds=1)
    costs = [
        Cost(cell=cell, parameters=2**63 - 1, step=one, topk=least, step_memory=memory, limits=LIMITS)
        for cell in cells(["softmax", "hierarchical"], [1000, 2000, 10**9], [4], TINY)
    ]
    assert "<body>" in write_report(costs, tmp_path).read_text()
    print_table(costs, Console(file=io.StringIO()))


def test_a_page_is_made_before_any_of_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.csv").write_text("what was there")
    monkeypatch.setattr("softmaxes.lab.cost.report.markdown", lambda scale: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report([Cost(cell=TINY, limits=LIMITS)], tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["what was there"]


def test_advice_without_a_table_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["advise", "--classes", "2000000", "--features", "256", "--memory", "1GB"]) == 0
    said = capsys.readouterr().out
    assert "1 GiB of memory; read off the table that comes with softmaxes." in said
    assert re.search(r"^softmax .* no ", said, re.MULTILINE)
    assert re.search(r"^hierarchical ", said, re.MULTILINE)
    assert re.search(r"^neighbor-sampled: before each epoch [\d,]+ s more, to look for", said, re.MULTILINE)
    assert main(["advise", "--classes", "1000000", "--features", "64", "--optimizer", "adamw"]) == 0
    assert re.search(r"^hierarchical .* 0\.\d+ ms .* measured", capsys.readouterr().out, re.MULTILINE)


def test_the_table_that_comes_with_softmaxes_is_both_stored_ones() -> None:
    own, *stored = (
        (ROOT / folder).read_text(encoding="utf-8").splitlines()
        for folder in (
            "src/softmaxes/lab/cost/measured.csv",
            "results/scale/table.csv",
            "results/scale-adamw/table.csv",
        )
    )
    assert own == stored[0] + stored[1][1:]
    assert stored[0][0] == stored[1][0]


def test_the_sizes_that_are_measured_if_none_is_given_are_powers_of_ten() -> None:
    from softmaxes.lab.cost.scale import CLASSES

    assert [math.log10(classes) for classes in CLASSES] == [2, 3, 4, 5, 6]


@pytest.mark.slow
def test_advice_for_an_optimizer_a_batch_and_several_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was measured with another optimiser says nothing of this one."""
    monkeypatch.chdir(tmp_path)
    assert main(["advise", "--classes", "1000000", "--optimizer", "adam"]) == 2
    assert (
        "expected rows measured with adam on cpu, got adamw on cpu, sgd on cpu; measure them: "
        in capsys.readouterr().err
    )
    scaled = ["scale", "--heads", "hierarchical", "--classes", "100", "200", "--features", "8", "--batch-size", "16"]
    assert main([*scaled, "--optimizer", "adamw", "--out", "adamw"]) == 0
    assert "with 8 features, AdamW, " in Path("adamw/report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    tables = ["--measured", "adamw/table.csv", str(ROOT / "results/scale/table.csv")]
    assert main(["advise", "--classes", "200", "--features", "8", "--optimizer", "adamw", *tables]) == 0
    said = capsys.readouterr().out
    assert "training steps of 16 examples with AdamW" in said
    assert len(re.findall(r"^hierarchical .* measured", said, re.MULTILINE)) == 1
    assert main(["advise", "--classes", "200", "--features", "8", "--batch-size", "32", *tables]) == 0
    said = capsys.readouterr().out
    assert "training steps of 32 examples with SGD" in said
    assert "softmax" in said


def test_what_advice_says_of_accuracy_is_what_the_studies_found(capsys: pytest.CaptureFixture[str]) -> None:
    from tables import KNOWN, known_accuracy

    assert KNOWN.read_text() == known_accuracy(), "run docs/tables.py"
    assert main(["advise", "--classes", "100000", "--within", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(index for index, line in enumerate(lines) if line.startswith("head")) + 1 :]
    heads = [line.split()[0] for line in table[: table.index("")]]
    with KNOWN.open() as file:
        rows = list(csv.DictReader(file))
    near, far = (
        {row["head"]: float(row["points"]) for row in rows if row["classes"] == number} for number in ("18557", "100")
    )
    quick = [line.split()[0] for line in table[: len(heads)] if " slow " not in line]
    ranked = [near[head] for head in quick if head in near]
    others = [head for head in quick if head in far and head not in near]
    assert ranked
    assert ranked == sorted(ranked, reverse=True)
    assert others
    assert [head for head in quick if head in near or head in far] == [head for head in quick if head in near] + others
    assert all(" * −" in table[heads.index(head)] for head in others)
    assert not any("*" in table[heads.index(head)] for head in near if head in heads)
    assert heads.index("softmax") > heads.index("hierarchical")  # a third of a second a step
    assert " slow " in table[heads.index("softmax")]
    assert "reference" in table[heads.index("softmax")]
    assert "not known" in table[heads.index("nce")]
    assert main(["advise", "--classes", "100000", "--within", "0"]) == 2
    assert capsys.readouterr().err == "softmaxes: --within: expected milliseconds, more than 0, got 0.\n"


def test_several_devices_hold_copies_or_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """What is foretold for one device is divided where the head can be split; the bytes are those of the counts."""
    assert main(["advise", "--classes", "1000000", "--features", "128", "--memory", "600MB", "--devices", "4"]) == 0
    told = capsys.readouterr().out
    lines = {line.split()[0]: line for line in told.splitlines() if line}
    copy, part = (float(number) for number in re.findall(r"([\d.]+) GiB", lines["softmax"]))
    assert part == pytest.approx(copy / 4, abs=0.01)
    assert lines["softmax"].split()[-1] == "part"
    assert lines["forest"].split()[-1] == "no"
    assert f"{in_bytes(8 * 64 * 128 * 3)}" in lines["sampled"]
    assert f"{in_bytes((64 * 8 + 255 * 8) * 128 * 3 / 4)}" in lines["hierarchical"]
    assert "The 4 devices share each step." in told
    assert main(["advise", "--classes", "1000", "--memory", "1GB", "--devices", "4"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["softmax"].split()[-3:] == ["774", "kB", "copy"]  # 8 bytes of 1,000 times 129 numbers, of which 3/4
    assert lines["sampled"].split()[-4:] == ["≤", "774", "kB", "copy"]
    assert main(["advise", "--classes", "1000", "--devices", "0"]) == 2
    assert "--devices: expected 1 or more, got 0." in capsys.readouterr().err


def test_the_counts_of_bytes_are_what_was_measured() -> None:
    """`benchmarks/sharded.py` counted what four processes sent in a step, all together, in kB."""
    table = (ROOT / "results" / "benchmarks" / "sharded.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if "| 4 |" in line]
    for head, classes, _, _, _, _, sent in rows:
        size = float(classes.replace(",", ""))
        count = sent_by_rows(64, 128, 4) if head == "sampled" else sent_by_subtrees(64, 128, size, 4)
        assert 4 * count / 1e3 == pytest.approx(float(sent.replace(",", "")), rel=0.15)
