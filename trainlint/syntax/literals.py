"""The values of literal tokens, found without running or warning about anything."""

from __future__ import annotations

import ast
import warnings

import libcst as cst


def number(node: cst.Integer | cst.Float | cst.Imaginary) -> complex:
    """The value of an integer, float or imaginary token."""
    text = node.value
    if isinstance(node, cst.Float):
        return float(text)
    if isinstance(node, cst.Imaginary):
        return complex(text)
    try:
        return int(text, 0)
    except ValueError:
        return float(text)  # more digits than Python is willing to convert: infinite


def string(node: cst.SimpleString) -> str | bytes:
    """The value of one string or bytes token."""
    text = node.value
    quote = text[-1]
    prefix, _, rest = text.partition(quote)
    width = 3 if len(rest) >= 5 and rest.startswith(quote * 2) else 1
    body = rest[width - 1 : -width]
    flags = prefix.lower()
    if "\\" in body and "r" not in flags:
        return _decoded(text, body)
    return body.encode("latin-1", "replace") if "b" in flags else body


def _decoded(text: str, body: str) -> str | bytes:
    """Resolve escapes as Python does; what it would refuse keeps its escapes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes are for other linters to tell
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError, MemoryError):
            return body
    return value if isinstance(value, str | bytes) else body


def text(node: cst.FormattedString) -> str:
    """The value of an f-string without expressions, escapes left as they are."""
    parts = [part.value for part in node.parts if isinstance(part, cst.FormattedStringText)]
    return "".join(parts).replace("{{", "{").replace("}}", "}")


def joined(values: list[object]) -> str | bytes:
    """The value of string tokens written next to each other."""
    if values and isinstance(values[0], bytes):
        return b"".join([value for value in values if isinstance(value, bytes)])
    return "".join([value for value in values if isinstance(value, str)])
