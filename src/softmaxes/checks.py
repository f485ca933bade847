"""Numbers that a caller gives, checked in one place, with one sentence for each error."""

import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any


def integer(owner: str, what: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """An int, from anything that is an integer: an int, a NumPy integer, a tensor of one integer; never a bool.

    Args:
        owner: who expects it; the error begins with it.
        what: what it is called.
        value: what came.
        least: the smallest that will do; no bound if not given.
        most: the largest that will do; no bound if not given.

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of range.

    Example:
        >>> import numpy as np
        >>> from softmaxes.checks import integer
        >>> integer("Softmax", "num_classes", np.int64(3), least=2)
        3
    """
    if type(value) is not int:
        try:
            if isinstance(value, bool):
                raise TypeError
            value = operator.index(value)
        except TypeError:
            raise TypeError(f"{owner}: expected {what} to be an int, got {value!r}.") from None
    if least is not None and value < least:
        raise ValueError(f"{owner}: expected {what} to be at least {least}, got {value}.")
    if most is not None and value > most:
        raise ValueError(f"{owner}: expected {what} to be at most {most}, got {value}.")
    return int(value)


def number(owner: str, what: str, value: Any, rule: str, holds: Callable[[float], bool]) -> float:
    """A number, from anything that is a real one; never a bool.

    Args:
        owner: who expects it; the error begins with it.
        what: what it is called.
        value: what came.
        rule: what holds of it, in words.
        holds: whether it does.

    Raises:
        TypeError: it is not a number.
        ValueError: the rule does not hold.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}: expected {what} to be a number, got {value!r}.")
    found: float = value if isinstance(value, int | float) else float(value)
    if not holds(found):
        raise ValueError(f"{owner}: expected {what} to be {rule}, got {found}.")
    return found


def is_finite(value: float) -> bool:
    """Whether a number, however long, is one that a float can be."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
