"""Pickles of arrays, strings and numbers, read as data: nothing that a pickle names is looked up or called.

A pickle is a program for a machine with a stack. The one here knows the instructions that such data are written with,
in every protocol, and takes as many as `MOST_STEPS`. It makes no more than the file holds, and it never follows what is
nested, however deep.
"""

import codecs
import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from softmaxes.files import InputError
from softmaxes.lab.data.dataset import clip

MOST_STEPS = 2**21  # an image takes some four: its labels and its file's name; a file has room for 350,000 images
MOST_KEY = 2**31  # larger numbers could be chosen so that a dictionary takes for ever
LAST_PROTOCOL = 5

_WIDTHS = {  # bytes that say how long the argument is
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


def read_pickle(content: bytes, where: str, what: str) -> dict[str, object]:
    """The dictionary in a pickle, its keys as text.

    Args:
        content: the pickle.
        where: its file, for messages.
        what: what it officially holds, for messages.

    Raises:
        InputError: it is cut off, broken, or more than a dictionary of arrays, strings and numbers.
    """
    try:
        record = _Machine(content, where).run()
    except InputError:
        raise
    except EOFError as error:
        raise InputError(
            f"{where}: expected a whole pickle of {what}, the file ends after {len(content)} bytes."
        ) from error
    except Exception as error:  # a broken pickle can raise anything
        reason = clip(" ".join(str(error).split()) or type(error).__name__)
        raise InputError(f"{where}: expected a pickle of {what}, got one that cannot be read: {reason}.") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected a pickled dictionary, got {_kind(record)}.")
    return {text(key, where): value for key, value in record.items()}


def text(value: object, where: str) -> str:
    """A name, which a pickle holds as text or as bytes."""
    try:
        found = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: expected names in UTF-8, got: {clip(str(error))}.") from error
    if not isinstance(found, str):
        raise InputError(f"{where}: expected names as text, got {_kind(value)}.")
    return found


def values(value: object, what: str, where: str) -> list[object]:
    """A list."""
    if not isinstance(value, list):
        raise InputError(f"{where}: expected {what} as a list, got {_kind(value)}.")
    return value


def integers(value: object, what: str, where: str) -> npt.NDArray[np.integer]:
    """The integer array that a pickled array or list of numbers stands for."""
    try:
        if isinstance(value, _Array):
            return value.rebuild()
        numbers = values(value, what, where)
        if not all(type(number) is int for number in numbers):
            raise ValueError("a list of other things")
        return np.array(numbers, dtype=np.int64)
    except InputError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"{where}: expected {what} as an array or list of integers, got {clip(str(error))}."
        ) from error


def _kind(value: object) -> str:
    return type(value).__name__.strip("_").lower()


# What stands for the things that a pickle may name


@dataclass(frozen=True, slots=True)
class _Function:
    """Something that a pickle may call, and what is done in its place."""

    stand_in: Callable[..., object]


@dataclass(slots=True)
class _Type:
    """A number type as a pickle describes it: its code, and after BUILD its state."""

    code: object
    state: object = None

    def rebuild(self) -> np.dtype[np.integer]:
        code = self.code.decode("ascii", "replace") if isinstance(self.code, bytes) else self.code
        if not isinstance(code, str) or not re.fullmatch("[iu][1248]", code):
            raise ValueError(f"elements of type {code!a}" if isinstance(code, str) else "elements of no type")
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "="
        return np.dtype(code).newbyteorder(">" if order in (">", b">") else "<")


@dataclass(slots=True)
class _Array:
    """An array as a pickle describes it; it takes numpy's place while reading, so numpy sees only checked values."""

    state: object = None

    def rebuild(self) -> npt.NDArray[np.integer]:
        match self.state:
            case (_, tuple(shape), _Type() as kind, (bool() | int() | str()) as order, bytes(content), *axes):
                pass
            case _:
                raise ValueError("an array without shape, type or content")
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError("an array of a shape that is none")
        flat = np.frombuffer(content, dtype=kind.rebuild())
        if order == "K" and axes:
            turned = axes[0]
            if not isinstance(turned, tuple) or not all(type(axis) is int for axis in turned):
                raise ValueError("an array of axes that are none")
            return flat.reshape(shape).transpose(turned)
        return flat.reshape(shape, order="F" if order in (1, "F") else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(content: object, kind: object, shape: object, order: object, axes: object = None) -> _Array:
    return _Array((None, shape, kind, order, content, axes))


def _type(code: object, *_: object) -> _Type:
    return _Type(code)


def _encode(shown: object, encoding: object) -> bytes:
    """The bytes that Python 3 writes into old pickles as text."""
    if not isinstance(shown, str) or encoding not in ("latin1", "latin-1", b"latin1"):
        raise ValueError("bytes in an unknown encoding")
    return shown.encode("latin-1")


def _no_bytes() -> bytes:
    return b""


_STANDS_FOR: dict[tuple[str, str], Callable[..., object]] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _reconstruct,
    ("numpy", "dtype"): _type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


# The machine


class _Machine:
    """Takes one instruction after the other; what it does not know is an error."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content = content
        self.where = where
        self.place = 0
        self.stack: list[object] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, object] = {}
        self.encoded = 0  # bytes that were made of text

    def run(self) -> object:
        """What the pickle holds."""
        for _ in range(MOST_STEPS):
            code = self.take(1)
            if code == b".":
                break
            try:
                size, execute = _INSTRUCTIONS[code]
            except KeyError:
                raise ValueError(f"the instruction {_NAMES.get(code, code)}") from None
            execute(self, self.argument(size) if size else b"")
        else:
            raise InputError(f"{self.where}: expected a pickle of at most {MOST_STEPS:,} instructions, got more.")
        if self.place < len(self.content):
            raise ValueError(f"{len(self.content) - self.place} bytes after its end")
        return self.pop()

    def take(self, size: int) -> bytes:
        """The next bytes."""
        end = self.place + size
        if end > len(self.content):
            raise EOFError
        start, self.place = self.place, end
        return self.content[start:end]

    def line(self) -> bytes:
        """The next bytes up to the end of the line."""
        end = self.content.find(b"\n", self.place)
        if end < 0:
            raise EOFError
        line = self.content[self.place : end]
        self.place = end + 1
        return line

    def argument(self, size: int) -> bytes:
        """What follows an instruction, of the size that `pickletools` gives for it."""
        if size >= 0:
            return self.take(size)
        if size == pickletools.UP_TO_NEWLINE:
            return self.line()
        return self.take(int.from_bytes(self.take(_WIDTHS[size]), "little"))

    def pop(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("an instruction without what it needs")
        return self.stack.pop()

    def top(self) -> object:
        self.stack.append(top := self.pop())
        return top

    def marked(self) -> list[object]:
        """What lies above the last mark."""
        if not self.marks:
            raise ValueError("an instruction without what it needs")
        height = self.marks.pop()
        found = self.stack[height:]
        del self.stack[height:]
        return found

    # Instructions

    def mark(self, _: bytes) -> None:
        self.marks.append(len(self.stack))

    def protocol(self, argument: bytes) -> None:
        if argument[0] > LAST_PROTOCOL:
            raise ValueError(f"protocol {argument[0]}")

    def ignored(self, _: bytes) -> None:
        pass

    def put(self, argument: bytes) -> None:
        self.memo[int(argument)] = self.top()

    def put_binary(self, argument: bytes) -> None:
        self.memo[int.from_bytes(argument, "little")] = self.top()

    def memoize(self, _: bytes) -> None:
        self.memo[len(self.memo)] = self.top()

    def get(self, argument: bytes) -> None:
        self.recall(int(argument))

    def get_binary(self, argument: bytes) -> None:
        self.recall(int.from_bytes(argument, "little"))

    def recall(self, number: int) -> None:
        if number not in self.memo:
            raise ValueError("a value that it never kept")
        self.stack.append(self.memo[number])

    def tuple_of_marked(self, _: bytes) -> None:
        self.stack.append(tuple(self.marked()))

    def list_of_marked(self, _: bytes) -> None:
        self.stack.append(self.marked())

    def tuple_of_one(self, _: bytes) -> None:
        self.stack.append((self.pop(),))

    def tuple_of_two(self, _: bytes) -> None:
        second = self.pop()
        self.stack.append((self.pop(), second))

    def tuple_of_three(self, _: bytes) -> None:
        third, second = self.pop(), self.pop()
        self.stack.append((self.pop(), second, third))

    def append(self, _: bytes) -> None:
        item = self.pop()
        self.extend([item])

    def append_marked(self, _: bytes) -> None:
        self.extend(self.marked())

    def extend(self, items: list[object]) -> None:
        target = self.top()
        if type(target) is not list:
            raise ValueError(f"items for {_kind(target)}")
        target.extend(items)

    def dictionary_of_marked(self, _: bytes) -> None:
        items = self.marked()
        self.stack.append({})
        self.update(items)

    def set_item(self, _: bytes) -> None:
        value = self.pop()
        self.update([self.pop(), value])

    def set_marked(self, _: bytes) -> None:
        self.update(self.marked())

    def update(self, items: list[object]) -> None:
        target = self.top()
        if type(target) is not dict or len(items) % 2:
            raise ValueError(f"keys and values for {_kind(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, bytes) and not (type(key) is int and abs(key) < MOST_KEY):
                raise InputError(f"{self.where}: expected names as text, got {_kind(key)}.")
            target[key] = value

    def named(self, argument: bytes) -> None:
        self.find(argument.decode(), self.line().decode())

    def named_on_stack(self, _: bytes) -> None:
        name, module = self.pop(), self.pop()
        self.find(text(module, self.where), text(name, self.where))

    def find(self, module: str, name: str) -> None:
        stand_in = _STANDS_FOR.get((module, name))
        if stand_in is None:
            called = clip(f"{module}.{name}".encode("unicode_escape").decode())
            raise InputError(f"{self.where}: expected only arrays, strings and numbers, got a call of {called}.")
        self.stack.append(_Function(stand_in))

    def call(self, _: bytes) -> None:
        arguments, called = self.pop(), self.pop()
        if not isinstance(called, _Function) or not isinstance(arguments, tuple):
            raise ValueError(f"a call of {_kind(called)}")
        made = called.stand_in(*arguments)
        if isinstance(made, bytes):  # of text that may be kept and encoded again and again
            self.encoded += len(made)
            if self.encoded > len(self.content):
                raise ValueError("more bytes than it holds")
        self.stack.append(made)

    def build(self, _: bytes) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, _Array | _Type):
            raise ValueError(f"a state for {_kind(target)}")
        target.state = state


def _pushes(convert: Callable[[bytes], object]) -> Callable[[_Machine, bytes], None]:
    """An instruction that puts its argument on the stack as what it stands for."""

    def push(machine: _Machine, argument: bytes) -> None:
        machine.stack.append(convert(argument))

    return push


def _unsigned(argument: bytes) -> int:
    return int.from_bytes(argument, "little")


def _signed(argument: bytes) -> int:
    return int.from_bytes(argument, "little", signed=True)


def _written(argument: bytes) -> int | bool:
    return argument == b"01" if argument in (b"00", b"01") else int(argument.removesuffix(b"L"))


def _quoted(argument: bytes) -> bytes:
    argument = argument.strip()
    if len(argument) < 2 or argument[:1] != argument[-1:] or argument[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    return codecs.escape_decode(argument[1:-1])[0]


def _utf_8(argument: bytes) -> str:
    return argument.decode("utf-8", "surrogatepass")


_BY_NAME: Mapping[str, Callable[[_Machine, bytes], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": _Machine.ignored,
    "READONLY_BUFFER": _Machine.ignored,  # on the stack lie bytes, which nobody can change
    "NONE": _pushes(lambda _: None),
    "NEWTRUE": _pushes(lambda _: True),
    "NEWFALSE": _pushes(lambda _: False),
    "INT": _pushes(_written),
    "LONG": _pushes(_written),
    "BININT": _pushes(_signed),
    "BININT1": _pushes(_unsigned),
    "BININT2": _pushes(_unsigned),
    "LONG1": _pushes(_signed),
    "LONG4": _pushes(_signed),
    "FLOAT": _pushes(float),
    "BINFLOAT": _pushes(lambda argument: struct.unpack(">d", argument)[0]),
    "STRING": _pushes(_quoted),
    "UNICODE": _pushes(lambda argument: argument.decode("raw-unicode-escape")),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _pushes(bytes)),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _pushes(_utf_8)),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _pushes(bytes)),
    "EMPTY_TUPLE": _pushes(lambda _: ()),
    "EMPTY_LIST": _pushes(lambda _: []),
    "EMPTY_DICT": _pushes(lambda _: {}),
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_of_marked,
    "TUPLE1": _Machine.tuple_of_one,
    "TUPLE2": _Machine.tuple_of_two,
    "TUPLE3": _Machine.tuple_of_three,
    "LIST": _Machine.list_of_marked,
    "DICT": _Machine.dictionary_of_marked,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_marked,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_marked,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put_binary,
    "LONG_BINPUT": _Machine.put_binary,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get_binary,
    "LONG_BINGET": _Machine.get_binary,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.named_on_stack,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}

_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}
_INSTRUCTIONS: dict[bytes, tuple[int, Callable[[_Machine, bytes], None]]] = {
    opcode.code.encode("latin-1"): (opcode.arg.n if opcode.arg else 0, _BY_NAME[opcode.name])
    for opcode in pickletools.opcodes
    if opcode.name in _BY_NAME
}
