"""A strict validator for the part of CDDL (RFC 8610) that protocol/cddl uses, and no more.

The validators at hand parse the schemas but let much pass: texts where bytes of a length are asked
for, nested arrays of any length, group choices not at all. So they check the grammar, and this
checks the records: arrays with occurrences, groups, choices of both kinds, ranges, sizes, literals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import cbor2

Accepts = Callable[[Any], bool]
Group = Callable[[list[Any], int], Iterator[int]]
"""From items and a position to every position at which the group may end."""

_TOKEN = re.compile(
    r"\s*(?:;[^\n]*)?(?:(\.\.|//|\.size|[A-Za-z][\w-]*|\d+|\"[^\"]*\"|[=/*\[\](),:])|$)"
)
_BASIC: dict[str, Accepts] = {
    "uint": lambda value: type(value) is int and value >= 0,
    "bytes": lambda value: type(value) is bytes,
    "tstr": lambda value: type(value) is str,
    "null": lambda value: value is None,
    "any": lambda value: True,
}


class Rules:
    """The rules of a schema; ``accepts`` judges encoded records. Unknown names raise KeyError."""

    def __init__(self, text: str) -> None:
        self._tokens = [t for line in text.split("\n") for t in _TOKEN.findall(line) if t]
        self._at = 0
        self._types: dict[str, Accepts] = dict(_BASIC)
        self._groups: dict[str, Group] = {}
        self._named: set[str] = set()
        while self._at < len(self._tokens):
            self._rule()
        unknown = self._named - set(self._types) - set(self._groups)
        if unknown:
            raise KeyError(f"no such rule: {sorted(unknown)}")

    def accepts(self, rule: str, data: bytes) -> bool:
        try:
            value = cbor2.loads(data)
        except (cbor2.CBORError, ValueError):
            return False
        return self._types[rule](value)

    def names(self) -> set[str]:
        return set(self._types) - set(_BASIC)

    # Parsing.

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._peek()
        if not token or (expected and token != expected):
            raise SyntaxError(f"{token!r} where {expected or 'anything'!r} belongs")
        self._at += 1
        return token

    def _rule(self) -> None:
        name = self._take()
        self._take("=")
        if name in self._types or name in self._groups:
            raise SyntaxError(f"{name} is defined twice")
        if self._peek() == "(" and self._is_group():
            self._take("(")
            self._groups[name] = self._group(")")
            self._take(")")
        else:
            self._types[name] = self._type()

    def _is_group(self) -> bool:
        """Whether the parenthesis at hand holds entries (with a colon or comma) or a type."""
        depth, at = 0, self._at
        while True:
            token = self._tokens[at]
            depth += (token in "([") - (token in ")]")
            if depth == 0:
                return False
            if depth <= 2 and token in (":", ","):
                return True
            at += 1

    def _type(self) -> Accepts:
        choices = [self._range()]
        while self._peek() == "/":
            self._take()
            choices.append(self._range())
        return choices[0] if len(choices) == 1 else lambda v: any(c(v) for c in choices)

    def _range(self) -> Accepts:
        token = self._peek()
        if token.isdecimal():
            low = high = int(self._take())
            if self._peek() == "..":
                self._take()
                high = int(self._take())
            return lambda v: type(v) is int and low <= v <= high
        if token.startswith('"'):
            literal = self._take()[1:-1]
            return lambda v: type(v) is str and v == literal
        if token == "[":
            self._take()
            group = self._group("]")
            self._take("]")
            return lambda v: isinstance(v, list) and len(v) in group(v, 0)
        if token == "(":
            self._take()
            inner = self._type()
            self._take(")")
            return inner
        name = self._take()
        if self._peek() == ".size":
            self._take()
            return self._sized(name)
        self._named.add(name)
        return lambda v: self._types[name](v)

    def _sized(self, name: str) -> Accepts:
        enclosed = self._peek() == "("
        if enclosed:
            self._take()
        low = high = int(self._take())
        if enclosed:
            self._take("..")
            high = int(self._take())
            self._take(")")
        basic = _BASIC[name]

        def accepts(value: Any) -> bool:
            if not basic(value):
                return False
            return low <= len(value.encode() if type(value) is str else value) <= high

        return accepts

    def _group(self, closing: str) -> Group:
        choices = [self._sequence(closing)]
        while self._peek() == "//":
            self._take()
            choices.append(self._sequence(closing))

        def match(items: list[Any], at: int) -> Iterator[int]:
            for choice in choices:
                yield from choice(items, at)

        return match

    def _sequence(self, closing: str) -> Group:
        entries = []
        while self._peek() not in (closing, "//"):
            entries.append(self._entry())
            if self._peek() == ",":
                self._take()

        def match(items: list[Any], at: int, entry: int = 0) -> Iterator[int]:
            if entry == len(entries):
                yield at
                return
            for end in entries[entry](items, at):
                yield from match(items, end, entry + 1)

        return match

    def _entry(self) -> Group:
        low, high = 1, 1
        if self._peek() == "*" or self._peek(1) == "*":
            low = 0 if self._peek() == "*" else int(self._take())
            self._take("*")
            high = int(self._take()) if self._peek().isdecimal() else 1 << 32
        if self._peek(1) == ":":
            self._take()
            self._take(":")
        if self._peek() == "(" and self._is_group():
            self._take("(")
            inner = self._group(")")
            self._take(")")
            return inner
        if self._peek() not in self._types and self._peek(1) in (",", ")", "]", "//"):
            name = self._peek()
            if name[0].isalpha():
                self._named.add(self._take())
                return self._by_name(name, low, high)
        accepts = self._type()
        return _repeated(accepts, low, high)

    def _by_name(self, name: str, low: int, high: int) -> Group:
        def match(items: list[Any], at: int) -> Iterator[int]:
            if name in self._groups:
                yield from self._groups[name](items, at)
            else:
                yield from _repeated(self._types[name], low, high)(items, at)

        return match


def _repeated(accepts: Accepts, low: int, high: int) -> Group:
    def match(items: list[Any], at: int) -> Iterator[int]:
        # Greedy, and the longest run first: no array of the protocol needs anything else.
        end = at
        while end < len(items) and end - at < high and accepts(items[end]):
            end += 1
        yield from range(end, at + low - 1, -1)

    return match
