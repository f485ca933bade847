"""Processes that start without the script that starts them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without_script() -> Iterator[None]:
    """A new process does not run the user's script, as Python's own would; it need not be guarded.

    Python runs it for the functions and classes that are defined there. Those that a run needs are sent by cloudpickle.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
