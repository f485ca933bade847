"""The lab: trains classifiers that differ only in their output layer, and compares them fairly.

It needs the extra: ``pip install 'softmaxes[lab]'``. It imports `softmaxes`; `softmaxes` never imports it.
"""


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line: what was expected, what came, which file."""
