"""Yes or no for each of many examples, as short text in a JSON file."""

import base64

import numpy as np
from numpy.typing import NDArray


def packed(flags: NDArray[np.bool_]) -> str:
    """A bit each, the first the highest of its byte, as base64: 840 characters of 5,000 flags.

    Example:
        >>> import numpy as np
        >>> from softmaxes.lab.bits import packed, unpacked
        >>> packed(np.array([True, False, True]))
        'oA=='
        >>> unpacked("oA==", 3).tolist()
        [True, False, True]
    """
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def unpacked(text: str, count: int) -> NDArray[np.bool_]:
    """What `packed` made of so many flags."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(np.bool_)
