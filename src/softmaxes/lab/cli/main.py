"""The command `softmaxes`: its verbs, and how it ends. Torch is imported by the verbs, so that ``--help`` is quick."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from traceback import walk_tb

from cyclopts import App, ConsumeMultipleError, CycloptsError, Parameter, UnusedCliTokensError
from pydantic import ValidationError

import softmaxes.lab.quiet  # noqa: F401
from softmaxes import __version__
from softmaxes.files import InputError, said
from softmaxes.lab.cli.compare import compare, repeat, report, train
from softmaxes.lab.cli.cost import advise, scale
from softmaxes.lab.cli.data import list_heads, show_data
from softmaxes.lab.cli.tree import app as tree_app
from softmaxes.lab.cli.use import demo, export, predict
from softmaxes.lab.console import plain, replace_unencodable
from softmaxes.lab.devices import follows, under_torchrun
from softmaxes.lab.machine import too_little
from softmaxes.lab.stopping import farewell, stoppable
from softmaxes.names import printable

LINE = 900  # characters of an error
SHOWN = 60  # of a value in it
STOPPED, UNREAD = 130, 141  # exit codes: 128 and the number of SIGINT, of SIGPIPE

app = App(
    name="softmaxes",
    version=__version__,
    help="""Train classifiers that differ only in their softmax, and compare them fairly.

Begin with `softmaxes compare`: minutes later there is a table and a page, `runs/glyphs/report.html`.
""",
    help_format="markdown",
    help_epilogue="`softmaxes VERB --help` has the options of a verb, with examples.",
    default_parameter=Parameter(json_list=False, json_dict=False),  # a path may begin with [ or {
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)

app.command(compare, sort_key=1)
app.command(train, sort_key=2)
app.command(repeat, sort_key=3)
app.command(report, sort_key=3)
app.command(predict, sort_key=4)
app.command(demo, sort_key=4)
app.command(export, sort_key=4)
app.command(list_heads, sort_key=5, name="heads")
app.command(show_data, sort_key=6, name="data")
app.command(tree_app)
app.command(scale, sort_key=8)
app.command(advise, sort_key=9)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after the program's name; those it was called with if not given.

    Returns:
        The exit code: 0, or 2 after one line on standard error that says what was expected and what came. Where a
        signal stopped it, 128 and the signal's number, as shells have it: 130 of Ctrl-C, 129 of SIGHUP, 143 of SIGTERM,
        after a line that says how to go on; 141, of SIGPIPE, and no word where nobody reads on, as in a pipe to `head`.
    """
    replace_unencodable()
    if follows():
        from softmaxes.lab.comparison.torchrun import follow

        return follow()
    with stoppable() as came:
        code, line = _run(arguments, came)
        if code == 0 and under_torchrun():
            from softmaxes.lab.comparison.torchrun import dismiss

            dismiss()
        if code == STOPPED or (came and code != 0):  # whatever else came of it
            return farewell(came)
        if line:
            with suppress(OSError):  # of a terminal that was closed
                plain(stderr=True).print(f"softmaxes: {_printable(line)}")
        return code


def _run(arguments: Sequence[str] | None, came: Sequence[int]) -> tuple[int, str]:
    """The exit code of the command line, and the line that says why if it is not 0; `came` has signals that came."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (InputError, CycloptsError, ValidationError) as error:
        return 2, _one_line(error)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich has it that way
            return UNREAD, ""
        raise
    except OSError as error:
        return 2, f"{_of_output(error)}{said(error)}."
    except (MemoryError, RuntimeError) as error:
        if came:
            return STOPPED, ""
        if not too_little(error):
            raise
        return 2, "expected enough memory for these data, got too little."
    except KeyboardInterrupt:
        return STOPPED, ""
    except Exception:
        if came:  # what was cut off may have led to anything
            return STOPPED, ""
        raise
    return (code if isinstance(code, int) else 0), ""


def _of_output(error: OSError) -> str:
    """What the system does not say: that it is standard output which takes no more."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    wrote = frame.f_globals["__name__"].startswith((f"{__package__}.", "rich."))
    return "standard output: " if error.filename is None and wrote else ""


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        said = said.partition(", unable to parse")[0]
        if not first["loc"]:  # of a whole record, which may be long
            return f"{said}."
        option = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        return f"{option}: {said}, got {printable(str(first['input']), SHOWN)}."
    if isinstance(error, ConsumeMultipleError) and error.keyword is not None:
        return f"{error.keyword}: expected a value or more, got none."
    if isinstance(error, UnusedCliTokensError):
        word, *others = error.unused_tokens or [""]
        verb = " ".join(error.command_chain or [])
        more = f" and {len(others):,} more" if others else ""
        return f"{verb}: expected options, see softmaxes {verb} --help, got {printable(word, SHOWN)!r}{more}."
    if isinstance(error.__cause__, ValidationError):
        return _one_line(error.__cause__)
    return " ".join(str(error).split())


def _printable(text: str) -> str:
    """One line of some length: an error may quote a stranger's file."""
    return printable(text, LINE)
