"""TOML beside what the standard library reads: the line of each key, and writing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["key_lines", "write_toml"]

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"((?:[^"\\]|\\.)*)"|'([^']*)')\s*""")


def key_lines(text: str) -> dict[Path, int]:
    """Return the line of each table and key of a TOML text, and of each element of its arrays.

    The text is one that ``tomllib`` reads; keys inside inline tables are found on the line of the table.

    >>> key_lines('a = 1\\n[b]\\nc.d = [\\n  1,\\n]')
    {('a',): 1, ('b',): 2, ('b', 'c', 'd'): 3, ('b', 'c'): 3, ('b', 'c', 'd', 0): 4}
    >>> key_lines('[[a]]\\n[[a]]\\nb = 1')
    {('a', 0): 1, ('a',): 1, ('a', 1): 2, ('a', 1, 'b'): 3}
    """
    found: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    at, line = 0, 1
    while at < len(text):
        char = text[at]
        if char in " \t\r\n":
            line += char == "\n"
            at += 1
        elif char == "#":
            at = _end_of_line(text, at)
        elif char == "[":
            is_array = text.startswith("[[", at)
            names, at = _dotted(text, at + 2 if is_array else at + 1)
            table = _numbered(names, arrays, is_array)
            _note(found, table, line)
            at = _end_of_line(text, at)
        else:
            path, at = _dotted(text, at)
            if not path or at >= len(text) or text[at] != "=":
                at = _end_of_line(text, at)
                continue
            _note(found, table + path, line)
            at, line = _skip_value(text, at + 1, line, table + path, found)
    return found


def _numbered(names: Path, arrays: dict[Path, int], is_array: bool) -> Path:
    """Return the path of a table: after the name of an array of tables comes the number of its last one."""
    path: Path = ()
    for i, name in enumerate(names):
        path = (*path, name)
        if is_array and i == len(names) - 1:
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path = (*path, arrays[path])
    return path


def _note(found: dict[Path, int], path: Path, line: int) -> None:
    for size in range(len(path), 0, -1):
        found.setdefault(path[:size], line)


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _dotted(text: str, at: int) -> tuple[Path, int]:
    """Read a dotted key from ``at``; return it and where it ends."""
    parts: list[str] = []
    while match := _KEY.match(text, at):
        parts.append(next(part for part in match.groups() if part is not None))
        at = match.end()
        if at < len(text) and text[at] == ".":
            at += 1
            continue
        break
    return tuple(parts), at


def _skip_value(text: str, at: int, line: int, path: Path, found: dict[Path, int]) -> tuple[int, int]:
    """Go past a value and note the lines of the elements of an array; return the place and line after it."""
    depth, index, fresh = 0, 0, False
    is_array: bool | None = None
    while at < len(text):
        char = text[at]
        if char == "\n" and depth == 0:
            return at, line
        if char in " \t\r\n":
            line += char == "\n"
            at += 1
            continue
        if char == "#":
            at = _end_of_line(text, at)
            continue
        if is_array is None:
            is_array = char == "["
        if fresh and depth == 1 and char not in ",]":
            found.setdefault((*path, index), line)
            fresh = False
        if char in "\"'":
            end = _end_of_string(text, at)
            line += text.count("\n", at, end)
            at = end
            continue
        if char in "[{":
            depth += 1
            fresh = fresh or (depth == 1 and is_array)
        elif char in "]}":
            depth -= 1
        elif char == "," and depth == 1:
            index += 1
            fresh = is_array
        at += 1
    return at, line


def _end_of_string(text: str, at: int) -> int:
    quote = text[at]
    mark = quote * 3 if text.startswith(quote * 3, at) else quote
    at += len(mark)
    while at < len(text) and not text.startswith(mark, at):
        at += 2 if text[at] == "\\" and quote == '"' else 1
    return min(len(text), at + len(mark))


def write_toml(data: Mapping[str, Any]) -> str:
    """Write tables of texts, numbers, truth values, lists and tables as TOML.

    >>> print(write_toml({"name": "x", "link": {"model": "pause"}}), end="")
    name = "x"
    <BLANKLINE>
    [link]
    model = "pause"
    """
    lines: list[str] = []
    _write_table((), data, lines)
    return "\n".join(lines).strip("\n") + "\n"


def _write_table(
    path: tuple[str, ...], table: Mapping[str, Any], lines: list[str], *, in_array: bool = False
) -> None:
    plain = {k: v for k, v in table.items() if not _is_tables(v) and v is not None}
    if path and (plain or not table) and not in_array:
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(k)} = {_value(v)}" for k, v in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            _write_table((*path, key), value, lines)
        elif _is_tables(value):
            for one in value:
                lines += ["", f"[[{'.'.join(map(_key, (*path, key)))}]]"]
                _write_table((*path, key), one, lines, in_array=True)


def _is_tables(value: Any) -> bool:
    """Whether a value is a table or an array of tables."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(one, Mapping) for one in value)
    return isinstance(value, Mapping)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        items = [_value(v) for v in value if v is not None]
        one_line = f"[{', '.join(items)}]"
        nested = any(isinstance(v, (list, tuple)) for v in value)
        if len(one_line) <= 100 and not nested:
            return one_line
        return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + "}"
    raise TypeError(f"a {type(value).__name__} cannot be written as TOML")


def _text(value: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    body = "".join(
        escapes.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in value
    )
    return f'"{body}"'
