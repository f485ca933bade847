"""One thread: tests are small, and the machine may be shared. Signals do what they do at a terminal, in every test.

A test that starts a Python of its own waits seconds for it. Each such test is marked `slow`, or fails.
"""

import gc
import multiprocessing.context
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)
HANDLERS = {  # nohup and a shell's background jobs ignore some of them
    number: signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if (number := getattr(signal, name, None)) is not None
}
START = subprocess.Popen.__init__
FRESH = [getattr(multiprocessing.context, f"{how}Process", None) for how in ("Spawn", "ForkServer")]
SLOW_FIXTURES = {"browser", "installed", "many_report", "report", "whole"}
SLOW_PAGES = {  # which draw figures
    "test_a_matrix_of_too_many_classes_is_by_group_or_not_drawn",
    "test_a_partial_study_says_so",
    "test_a_study_of_which_every_run_diverged",
    "test_an_infinite_nll_is_shown_with_the_share_behind_it",
    "test_confidence_is_told_before_and_after_scaling",
    "test_heads_left_out_are_named_with_the_reason",
    "test_heads_whose_names_differ_in_case_have_a_figure_each",
    "test_names_of_many_heads_stand_beside_the_axes",
    "test_of_even_classes_nothing_is_said_by_frequency",
    "test_reliability_is_drawn_for_few_heads_and_for_many",
    "test_results_from_before_statistics_have_no_such_sections",
    "test_the_figures_of_many_heads_are_panels",
    "test_the_stored_tables_are_made_again_to_the_last_letter",
    "test_the_terminal_table_of_many_heads_fits_80_columns",
    "test_vectors_have_no_pictures_and_are_called_examples",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test is slow by what it needs: a fixture, figures, the training of a page, a Python that tells imports."""
    for item in items:
        needs = not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        page = item.path.suffix == ".md" or item.name in SLOW_PAGES
        if needs or page or item.name.endswith("imports_no_torch"):
            item.add_marker("slow")


def _refuse(*_: object, **__: object) -> None:
    pytest.fail("expected no new Python in a test that is not marked with pytest.mark.slow")


def _start(self: Any, command: Any, *rest: Any, **options: Any) -> None:
    program = command if isinstance(command, str | Path) else command[0]
    if Path(program).name.startswith("python"):
        _refuse()
    START(self, command, *rest, **options)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fixtures that several tests share are watched, too."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("slow") is None:
            patch.setattr(subprocess.Popen, "__init__", _start)
            for process in filter(None, FRESH):
                patch.setattr(process, "_Popen", _refuse)
        return (yield)


@pytest.fixture(autouse=True)
def _signals() -> None:
    """A test of the command as a whole process ignores signals at its end, as the last thing of the process."""
    for number, handler in HANDLERS.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="module")
def _settled() -> None:
    """What is there before a module stays to the end: a full garbage collection in its tests need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without their figures, which take seconds to draw, in tests that look at something else."""
    monkeypatch.setattr("softmaxes.lab.report.figures.draw", lambda summary: {})
