"""Public names that are imported when they are first used, so that ``softmaxes --help`` need not wait for torch."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module, resources
from typing import Any


def public(package: str) -> tuple[list[str], Callable[[str], Any]]:
    """The public names of a package, the imports of the ``__init__.pyi`` beside it, and its ``__getattr__``."""
    text = resources.files(package).joinpath("__init__.pyi").read_text("utf-8")
    module_of = {
        name.name: f"{package}.{line.module}"
        for line in ast.parse(text).body
        if isinstance(line, ast.ImportFrom) and line.level == 1
        for name in line.names
    }

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module_of[name]), name)
        setattr(sys.modules[package], name, value)  # found there from now on
        return value

    return list(module_of), get
