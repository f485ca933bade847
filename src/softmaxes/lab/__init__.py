"""The lab: trains classifiers that differ only in their output layer, and compares them fairly.

It needs the extra: ``pip install 'softmaxes[lab]'``. It imports `softmaxes`; `softmaxes` never imports it. Its public
names are the lines of ``__init__.pyi`` beside this file; each is imported when it is first used.
"""

import sys

from softmaxes.files import InputError as InputError
from softmaxes.lazy import public

_names, __getattr__ = public(__name__)
__all__ = ["InputError", *_names]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def main() -> int:
    """The command ``softmaxes``: the command line, or a line that says how to install what it needs."""
    from softmaxes.lab.stopping import farewell, stoppable

    with stoppable(last=True) as came:  # also while it is imported
        try:
            try:
                from softmaxes.lab.cli.main import main as run
            except ModuleNotFoundError as error:
                print(
                    f"softmaxes: expected the lab's packages, got no {error.name}; install them: "
                    "pip install 'softmaxes[lab]'",
                    file=sys.stderr,
                )
                return 2
            return run()
        except KeyboardInterrupt:
            return farewell(came)
