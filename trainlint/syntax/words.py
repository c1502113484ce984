"""The names in code, read from its text."""

from __future__ import annotations

import re
from keyword import kwlist

_STRING = r"""(?:'''[^\\]*?(?:\\.[^\\]*?)*?'''|\"\"\"[^\\]*?(?:\\.[^\\]*?)*?\"\"\"
    |'[^'\\\n]*(?:\\.[^'\\\n]*)*'|"[^"\\\n]*(?:\\.[^"\\\n]*)*")"""
_TEXT = re.compile(
    rf"(?<!\w)((?:[rR]?[fFtT]|[fFtT][rR]){_STRING})|(?<!\w)[rRbBuU]{{0,2}}{_STRING}|\#[^\n]*|\\\n",
    re.DOTALL | re.VERBOSE,
)
"""Strings, those first that hold code, comments, and ends of lines that are none."""
_LETTER = r"a-zA-Z_\x80-\U0010ffff"
WORD = re.compile(rf"(?<![{_LETTER}\d])[{_LETTER}][{_LETTER}\d]*")
"""A name; `\\w` has no vowel signs, of which there may be some in it."""


def code_of(text: str) -> str:
    """A text without its comments and its strings, except for those that hold code."""
    return _TEXT.sub(r"\1 ", _with_plain_line_ends(text))


_FIELD = re.compile(r"\{((?:[^{}]|\{[^{}]*\})*)\}")
_KEYWORD = re.compile(r"[(,]\s*[^\W\d]\w*\s*=(?!=)")
_LAST_TARGET = re.compile(r"^(?:[^(=\n]*|[ \t]*\([^=\n]*),[ \t]*(\w+)[ \t]*=(?!=)", re.MULTILINE)
"""The last name of `a, b = c`, which looks like a keyword."""


def words_of(text: str) -> set[str]:
    """The names that code mentions, and perhaps some more; not those of its keyword arguments.

    `class` is among them where there is one.
    """
    parts = _TEXT.split(_with_plain_line_ends(text))
    code = " ".join([*parts[::2], *map(_fields, filter(None, parts[1::2]))])
    found = set(WORD.findall(_KEYWORD.sub(" ", code)))
    found.update(_LAST_TARGET.findall(code))
    return found - _RESERVED


def _fields(formatted: str) -> str:
    """What an f-string's braces hold; the whole string if they are nested deeper."""
    nested = "{" in _FIELD.sub("", formatted)
    return formatted.lstrip("fFrRtT") if nested else " ".join(_FIELD.findall(formatted))


def _with_plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


_RESERVED = frozenset(kwlist) - {"class"}
