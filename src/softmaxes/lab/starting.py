"""Processes that start without the script that starts them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from typing import Any

_here = threading.local()
_prepared = spawn.get_preparation_data


def _without_script(name: str) -> dict[str, Any]:
    data: dict[str, Any] = _prepared(name)
    if getattr(_here, "without", False):
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
    return data


spawn.get_preparation_data = _without_script


@contextmanager
def without_script() -> Iterator[None]:
    """A process that this thread starts does not run the user's script, as Python's own would; it need not be guarded.

    Python runs it for the functions and classes that are defined there. Those that a run needs are sent by cloudpickle.
    """
    before = getattr(_here, "without", False)
    _here.without = True
    try:
        yield
    finally:
        _here.without = before
