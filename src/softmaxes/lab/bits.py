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

    Raises:
        TypeError: the flags are not bool.
        ValueError: they are not of shape (N,).
    """
    if flags.dtype != np.bool_:
        raise TypeError(f"packed: expected flags of dtype bool, got {flags.dtype}.")
    if flags.ndim != 1:
        raise ValueError(f"packed: expected flags of shape (N,), got {flags.shape}.")
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def unpacked(text: str, count: int) -> NDArray[np.bool_]:
    """What `packed` made of `count` flags.

    Raises:
        ValueError: the text is not that of `count` flags.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError(f"unpacked: expected base64, got {text[:40]!a}.") from None
    if count < 0 or len(content) != -(-count // 8):
        raise ValueError(f"unpacked: expected a bit for each of {count} flags, got {len(content)} bytes.")
    return np.unpackbits(np.frombuffer(content, np.uint8), count=count).astype(np.bool_)
