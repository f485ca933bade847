"""Where lines are written for a reader at a terminal."""

import sys
from io import TextIOWrapper

from rich.console import Console


def plain(stderr: bool = False, soft_wrap: bool = True) -> Console:
    """A console that writes what it is given: a path or a name in it is neither markup nor an emoji's name.

    Args:
        stderr: whether it writes to standard error.
        soft_wrap: whether lines are left to the terminal to break; tables are made for its width if not.
    """
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=soft_wrap)


def replace_unencodable() -> None:
    """Let what standard output cannot encode be replaced: a ± in a table must not be the end of a verb."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
