"""Every variation of softmax as an interchangeable PyTorch output layer.

The public names are the lines of ``__init__.pyi`` beside this file; each is imported when it is first used, so that
``softmaxes --help`` need not wait for torch.
"""

import ast
from importlib import import_module, resources
from typing import Any

__version__ = "0.1.0"

_MODULE_OF = {  # public name -> the module that defines it
    name.name: f"{__name__}.{line.module}"
    for line in ast.parse(resources.files(__name__).joinpath("__init__.pyi").read_text("utf-8")).body
    if isinstance(line, ast.ImportFrom)
    for name in line.names
}
__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
