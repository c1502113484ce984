"""`libcst.parse_module` at two thirds of its price, for trees that are only read.

Most of the parser's time goes into making nodes, and half of the nodes are spaces, newlines and
commas that are all alike. While the parser runs, it is given one node for all that are equal, and
what it makes is not validated (the comment in `CSTNode.__post_init__` proposes that). The tree's
code and its other nodes are the same; only who asks for the identity of a blank could tell.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import libcst as cst

_MAX_SHARED = 2_000
"""Nodes of each kind that are kept for the next file."""
_ALIKE = {
    name: getattr(cst, name)
    for name in (
        "SimpleWhitespace",
        "ParenthesizedWhitespace",
        "EmptyLine",
        "Newline",
        "AssignEqual",
        "Colon",
        "Comma",
        "Dot",
        "LeftSquareBracket",
        "RightSquareBracket",
    )
}
"""Kinds of node without meaning of their own: blanks and punctuation. They are frozen.

Not those that end a range: the parenthesis of `from a import (b)`, what follows `match a:`.
"""

_SHARED = {name: lru_cache(maxsize=_MAX_SHARED)(kind) for name, kind in _ALIKE.items()}
_validate = cst.CSTNode.__post_init__
_one_at_a_time = threading.Lock()


def parse_module(text: str) -> cst.Module:
    """The tree of `text`; raises what `libcst.parse_module` raises."""
    with _one_at_a_time, _lean():
        return cst.parse_module(text)


@contextmanager
def _lean() -> Iterator[None]:
    """The parser looks each class up by its name in `libcst`, and finds these."""
    for name, shared in _SHARED.items():
        setattr(cst, name, shared)
    cst.CSTNode.__post_init__ = object.__hash__  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        cst.CSTNode.__post_init__ = _validate  # type: ignore[method-assign]
        for name, kind in _ALIKE.items():
            setattr(cst, name, kind)
