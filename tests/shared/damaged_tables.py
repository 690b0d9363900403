"""Files as a bad disk, a bad editor or a bad person leaves them, from a fixed seed."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from typing import Any

DEEP: Any = 1
for _ in range(300):
    DEEP = [DEEP]
WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    3,
    0.5,
    10**9,
    10**30,
    -(10**12),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "a/../b\n",
    "\x1b[2J",
    "os:system",
    [],
    {},
    [1],
    [[1, 2], [3]],
    {"kind": "x"},
    DEEP,
]
LITERALS = [
    "true", "-1", "0", "1", "3", "0.5", "1000000000", "1" + "0" * 30, "1e308", "nan", "inf", "-inf", '""',
    '"x"', r'"a/../b\n"', r'"\u001b[2J"', '"os:system"', "[]", "{}", "[1]", "[[1, 2], [3]]", "1979-05-27",
    "[" * 300 + "]" * 300, "1" * 5000,
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything in nested tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def damaged_values(source: random.Random, value: Any) -> Any:
    """Nested tables in which something is of another type, missing, huge, or in the wrong place."""
    changed = copy.deepcopy(value)
    for _ in range(source.choice([1, 1, 1, 2, 3])):
        known = sorted(places(changed), key=str)
        if not known:
            break
        *path, last = source.choice(known)
        inner = changed
        for key in path:
            inner = inner[key]
        kind = source.random()
        if kind < 0.15:
            del inner[last]
        elif kind < 0.3 and isinstance(inner, list):
            inner *= source.choice([0, 2, 1000])
        elif kind < 0.4:
            *from_path, from_last = source.choice(known)
            other = value
            try:
                for key in (*from_path, from_last):
                    other = other[key]
            except (LookupError, TypeError):
                continue
            inner[last] = copy.deepcopy(other)
        else:
            inner[last] = copy.deepcopy(source.choice(WRONG))
    return changed


def damaged_bytes(source: random.Random, data: bytes) -> bytes:
    """Bytes that are cut short, flipped, repeated, zeroed, or preceded by others."""
    kind, at = source.randrange(5), source.randrange(len(data) + 1)
    if kind == 0:
        return data[:at]
    if kind == 1:
        flipped = bytearray(data)
        for _ in range(source.choice([1, 3, 30])):
            flipped[source.randrange(len(data))] ^= 1 << source.randrange(8)
        return bytes(flipped)
    if kind == 2:
        return data[:at] + data[max(0, at - 40) :]
    if kind == 3:
        return data[:at] + bytes(source.choice([1, 64, 4096])) + data[at + 64 :]
    return source.choice([b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 100_000, b"\x89HDF\r\n\x1a\n"]) + data


def damaged_json(source: random.Random, value: Any) -> bytes:
    """JSON of a table with a mistake in its values, its keys or its text."""
    if source.random() < 0.75:
        return json.dumps(damaged_values(source, value)).encode()
    text = json.dumps(value)
    if source.random() < 0.3:
        key = source.choice(list(value))
        text = f'{text[:-1]}, "{key}": {json.dumps(source.choice(WRONG))}}}'
    return damaged_bytes(source, text.encode())


def damaged_toml(source: random.Random, text: str) -> bytes:
    """TOML with other values, without lines, with lines twice, or with other bytes."""
    if source.random() < 0.2:
        return damaged_bytes(source, text.encode())
    for _ in range(source.choice([1, 1, 2])):
        values = [match.span(1) for match in re.finditer(r"= *([^\n,{}\[\]]+)", text)]
        lines = text.splitlines(keepends=True)
        kind = source.random()
        if kind < 0.7 and values:
            start, stop = source.choice(values)
            text = text[:start] + source.choice(LITERALS) + text[stop:]
        else:
            at = source.randrange(len(lines))
            lines[at : at + 1] = [] if kind < 0.85 else 2 * [lines[at]]
            text = "".join(lines) or "\n"
    return text.encode()
