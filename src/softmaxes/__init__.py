"""Every variation of softmax as an interchangeable PyTorch output layer.

The public names are the lines of ``__init__.pyi`` beside this file; each is imported when it is first used.
"""

from softmaxes.lazy import public

__version__ = "0.1.0"

_names, __getattr__ = public(__name__)
__all__ = ["__version__", *_names]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
