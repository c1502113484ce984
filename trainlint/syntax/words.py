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
WORD = re.compile(r"(?<!\w)[^\W\d]\w*")


def code_of(text: str) -> str:
    """A text without its comments and its strings, except for those that hold code."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _TEXT.sub(r"\1 ", text)


_FORMATTED = re.compile(rf"(?<!\w)(?:[rR]?[fFtT]|[fFtT][rR])({_STRING})", re.DOTALL | re.VERBOSE)
_FIELD = re.compile(r"\{((?:[^{}]|\{[^{}]*\})*)\}")
_KEYWORD = re.compile(r"([(,]\s*)[^\W\d]\w*\s*=(?!=)")
_LAST_TARGET = re.compile(
    r"^(?:[^()\n]|\((?:[^()\n]|\([^()\n]*\))*\))*,[ \t]*(\w+)[ \t]*=(?!=)", re.MULTILINE
)
"""The last name of `a, b = c`, which looks like a keyword."""


def words_of(text: str) -> set[str]:
    """The names that code mentions, and perhaps some more; not those of its keyword arguments.

    `class` is among them where there is one.
    """
    code = code_of(text)
    if "{" in code:
        code = _FORMATTED.sub(_fields, code)
    found = set(WORD.findall(_KEYWORD.sub(r"\1", code)))
    found.update(_LAST_TARGET.findall(code))
    return found - _RESERVED


def _fields(formatted: re.Match[str]) -> str:
    """What an f-string's braces hold; the whole string if they are nested deeper."""
    text = formatted[1]
    return text if "{" in _FIELD.sub("", text) else " ".join(_FIELD.findall(text))


_RESERVED = frozenset(kwlist) - {"class"}
