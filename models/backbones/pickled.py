"""Reads arrays from a pickle file of `paddle.save` without unpickling it: nothing that the file names is called.

The file's operations are interpreted here, on a stack of plain values. Where a real unpickler would call functions,
only arrays, their types and encoded bytes are allowed, and this module checks and builds them itself.
"""

from __future__ import annotations

import math
import mmap
import pickle
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deploy.errors import UserError

MOST_OPERATIONS = 500_000  # limit; a network's file has about 40 operations for every array
TYPES = {f"{kind}{size}" for kind, sizes in (("f", "248"), ("i", "1248"), ("u", "1248"), ("b", "1")) for size in sizes}
"""Names of numpy's types that weights may have."""
MODULES = ("numpy.core.", "numpy._core.")
RECONSTRUCT, FROM_BUFFER = "multiarray._reconstruct", "numeric._frombuffer"
PLAIN = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "collections.OrderedDict": "dict",
    "builtins.tuple": "tuple",
    "__builtin__.tuple": "tuple",
    "builtins.bytes": "bytes",
    "__builtin__.bytes": "bytes",
    "_codecs.encode": "encode",
    **{f"{module}{name}": name for module in MODULES for name in (RECONSTRUCT, FROM_BUFFER)},
}
"""Functions and classes that a file may name, with the short names used below."""


class _Name(NamedTuple):
    """A function or class that the file names, by its short name in PLAIN."""

    text: str


class _Type:
    """A numpy type under construction."""

    def __init__(self, text: Any) -> None:
        _check(type(text) is str and text in TYPES, "an array of a type that weights do not have")
        self.value = np.dtype(text)


class _Array:
    """An array under construction."""

    value: np.ndarray | None = None


def read_pickle(path: str | Path) -> Any:
    """Read a pickle file: dictionaries, lists, tuples, text, numbers, and arrays, which are copied to new memory.

    The file's size limits memory and time, whatever is in the file.

    Raises:
        OSError: the file cannot be read.
        UserError: the file would call something that arrays do not need.
        ValueError: the file is damaged, or not a pickle.
    """
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _Reader(data).read()
    except (IndexError, KeyError, OverflowError) as error:  # it uses a value that does not exist, or a wrong shape
        raise ValueError(f"not a whole pickle: {type(error).__name__}") from error


def _check(holds: bool, told: str) -> None:
    if not holds:
        raise ValueError(told)


class _Reader:
    """The stack machine that interprets a pickle; methods are named like the operations in `pickle`."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.view, self.at = data, memoryview(data), 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.made = 0
        """Bytes of arrays and encoded text made so far; `count` limits them to twice the file's size."""

    def read(self) -> Any:
        """Interpret the operations up to STOP, and return the value on top of the stack."""
        for _ in range(MOST_OPERATIONS):
            operation = bytes(self.take(1))
            if operation == pickle.STOP:
                return _finished(self.pop())
            simple = VALUES.get(operation)
            if simple is not None:
                self.stack.append(simple(self))
            elif operation in ACTIONS:
                ACTIONS[operation](self)
            else:
                raise ValueError(f"operation {operation!r} at byte {self.at - 1} is none that arrays need")
        raise ValueError(f"over {MOST_OPERATIONS} operations")

    # Taking from the file and the stack -----------------------------------------------------------------------------

    def take(self, count: int) -> memoryview:
        """Return the next `count` bytes as a view of the file; ValueError if the file ends before."""
        start, self.at = self.at, self.at + count
        _check(self.at <= len(self.data), "it is cut short")
        return self.view[start : self.at]

    def number(self, form: str) -> Any:
        """Read the next number, in a format of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def block(self, form: str) -> memoryview:
        """Read a length in format `form`, then bytes of this length."""
        return self.take(self.number(form))

    def text(self, form: str) -> str:
        """Read a length in format `form`, then a text with this number of bytes."""
        return str(self.block(form), "utf-8", "surrogatepass")

    def line(self) -> str:
        """Read the text up to the end of the line."""
        end = self.data.find(b"\n", self.at, self.at + 256)
        _check(end >= 0, "a name without an end")
        return str(self.take(end + 1 - self.at)[:-1], "ascii")

    def pop(self) -> Any:
        """Remove the top of the stack and return it; ValueError if nothing is above the last mark."""
        _check(len(self.stack) > (self.marks[-1] if self.marks else 0), "it takes more than there is")
        return self.stack.pop()

    def marked(self) -> list[Any]:
        """Remove all values above the last mark, and the mark; return the values."""
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def top(self, kind: type) -> Any:
        """Return the top of the stack without removing it; ValueError if it is not of this type."""
        _check(bool(self.stack) and type(self.stack[-1]) is kind, f"no {kind.__name__} where one is needed")
        return self.stack[-1]

    def tuple_of(self, count: int) -> tuple[Any, ...]:
        """Remove `count` values from the stack; return them with the topmost last."""
        return tuple([self.pop() for _ in range(count)][::-1])

    # Operations that change existing values --------------------------------------------------------------------------

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def memoize(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        _check(len(values) % 2 == 0 and all(type(key) in (str, int) for key in values[::2]), "a name that is no text")
        self.top(dict).update(zip(values[::2], values[1::2]))

    # Operations that would call something ----------------------------------------------------------------------------

    def named(self, module: Any, name: Any) -> _Name:
        """Return the name of a function or class; UserError if arrays do not need it."""
        _check(type(module) is str and type(name) is str, "a name that is no text")
        full = f"{module}.{name}"
        if full not in PLAIN:
            raise UserError(f"it wants to run {full[:100]!r}, and weights may hold plain arrays only")
        return _Name(PLAIN[full])

    def stack_global(self) -> _Name:
        return self.named(*self.tuple_of(2))

    def reduce(self) -> Any:
        """Return the result that a call would have; it is built here, without calling what the file names."""
        name, given = self.tuple_of(2)
        _check(type(name) is _Name and type(given) is tuple, "a call of nothing that can be called")
        if name.text == RECONSTRUCT:
            return _Array()
        if name.text == "dtype":
            return _Type(given[0])
        if name.text == "encode":
            text, coding = given
            _check(type(text) is str and coding == "latin1", "bytes encoded otherwise than arrays are")
            self.count(len(text))
            return text.encode("latin1")
        if name.text == FROM_BUFFER:
            array, (data, kind, shape, order) = _Array(), given
            self.fill(array, shape, kind, order == "F", data)
            return array
        if name.text == "tuple" and len(given) == 1 and type(given[0]) is tuple:
            return given[0]
        _check(not given and name.text in ("dict", "bytes"), "a call with values that arrays do not need")
        return {} if name.text == "dict" else b""

    def build(self) -> None:
        """Set the byte order of a type, or type, shape and values of an array."""
        state, target = self.pop(), self.stack[-1]
        _check(type(state) is tuple, "an array without its values")
        if type(target) is _Type:
            _, order, subtype, names, fields, *_ = state
            _check(order in ("<", ">", "|") and subtype is names is fields is None, "an array of compound values")
            target.value = target.value.newbyteorder(order)
        else:
            _check(type(target) is _Array, "values for what is no array")
            _, shape, kind, fortran, data = state
            self.fill(target, shape, kind, fortran is True, data)

    def fill(self, array: _Array, shape: Any, kind: Any, fortran: bool, data: Any) -> None:
        """Build the array; ValueError if type, shape and number of bytes do not fit together."""
        _check(array.value is None and type(kind) is _Type, "an array without a type")
        _check(type(data) in (bytes, memoryview), "an array without values")
        _check(type(shape) is tuple and len(shape) <= 32 and all(type(n) is int and n >= 0 for n in shape), "no shape")
        _check(math.prod(shape) * kind.value.itemsize == len(data), "an array whose shape does not fit its bytes")
        self.count(len(data))
        stored = np.ndarray(shape, kind.value, data, order="F" if fortran else "C")
        array.value = stored.astype(kind.value.newbyteorder("="), order="K")

    def count(self, size: int) -> None:
        """Add `size` to the bytes made so far; ValueError if they are more than twice the file's size.

        Otherwise a small file could have the same bytes copied many times.
        """
        self.made += size
        _check(self.made <= 2 * len(self.data), "it holds the same values many times")


def _finished(value: Any) -> Any:
    """Replace `_Array`s by their arrays: the value itself, the values of a dictionary, and pairs in a dictionary."""
    if type(value) is _Array:
        return value.value
    if type(value) is dict:
        return {name: _pair(item) for name, item in value.items()}
    return value


def _pair(value: Any) -> Any:
    if type(value) is tuple and len(value) == 2:  # paddle.save's (tensor name, array)
        value = value[1]
    return value.value if type(value) is _Array else value


VALUES = {
    pickle.NONE: lambda reader: None,
    pickle.NEWTRUE: lambda reader: True,
    pickle.NEWFALSE: lambda reader: False,
    pickle.BININT: lambda reader: reader.number("<i"),
    pickle.BININT1: lambda reader: reader.number("<B"),
    pickle.BININT2: lambda reader: reader.number("<H"),
    pickle.LONG1: lambda reader: int.from_bytes(reader.block("<B"), "little", signed=True),
    pickle.BINFLOAT: lambda reader: reader.number(">d"),
    pickle.BINUNICODE: lambda reader: reader.text("<I"),
    pickle.SHORT_BINUNICODE: lambda reader: reader.text("<B"),
    pickle.BINUNICODE8: lambda reader: reader.text("<Q"),
    pickle.BINBYTES: lambda reader: reader.block("<I"),
    pickle.SHORT_BINBYTES: lambda reader: reader.block("<B"),
    pickle.BINBYTES8: lambda reader: reader.block("<Q"),
    pickle.BYTEARRAY8: lambda reader: reader.block("<Q"),
    pickle.EMPTY_TUPLE: lambda reader: (),
    pickle.TUPLE1: lambda reader: reader.tuple_of(1),
    pickle.TUPLE2: lambda reader: reader.tuple_of(2),
    pickle.TUPLE3: lambda reader: reader.tuple_of(3),
    pickle.TUPLE: lambda reader: tuple(reader.marked()),
    pickle.EMPTY_LIST: lambda reader: [],
    pickle.EMPTY_DICT: lambda reader: {},
    pickle.GLOBAL: lambda reader: reader.named(reader.line(), reader.line()),
    pickle.STACK_GLOBAL: _Reader.stack_global,
    pickle.REDUCE: _Reader.reduce,
    pickle.BINGET: lambda reader: reader.memo[reader.number("<B")],
    pickle.LONG_BINGET: lambda reader: reader.memo[reader.number("<I")],
}
"""Operations that put one value on the stack."""
ACTIONS = {
    pickle.PROTO: lambda reader: reader.take(1),
    pickle.FRAME: lambda reader: reader.take(8),
    pickle.MARK: _Reader.mark,
    pickle.MEMOIZE: lambda reader: reader.memoize(len(reader.memo)),
    pickle.BINPUT: lambda reader: reader.memoize(reader.number("<B")),
    pickle.LONG_BINPUT: lambda reader: reader.memoize(reader.number("<I")),
    pickle.APPEND: lambda reader: reader.append([reader.pop()]),
    pickle.APPENDS: lambda reader: reader.append(reader.marked()),
    pickle.SETITEM: lambda reader: reader.set_items(list(reader.tuple_of(2))),
    pickle.SETITEMS: lambda reader: reader.set_items(reader.marked()),
    pickle.BUILD: _Reader.build,
}
"""The other operations."""
