"""Stand-ins for `F.dropout` and the attention while an evaluation is probed.

Reference-counted over all threads and told apart by thread: two threads may evaluate two models at
once, and whoever ends last restores the functions.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import torch
from torch import nn

_lock = threading.Lock()
_heard: dict[int, list[list[str]]] = {}
"""By thread: the lists into which dropout that acts is written."""
_originals: tuple[Any, Any] | None = None


class Ear:
    """Hears of each dropout that acts in the thread that made it, until `close`."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        self._thread = threading.get_ident()
        with _lock:
            if not _heard:
                _install()
            _heard.setdefault(self._thread, []).append(self.hits)

    def close(self) -> None:
        """Stop listening, in whatever thread; the last one restores the functions."""
        with _lock:
            kept = [hits for hits in _heard.get(self._thread, []) if hits is not self.hits]
            if kept:
                _heard[self._thread] = kept
            else:
                _heard.pop(self._thread, None)
            if not _heard:
                _restore()


def _install() -> None:
    global _originals
    functional = nn.functional
    dropout, attention = functional.dropout, functional.scaled_dot_product_attention
    _originals = dropout, attention

    def probed(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if not torch.compiler.is_compiling() and training and p > 0:
            _hear(f"`F.dropout` at {_line_above()}")
        return dropout(input, p, training, inplace)

    def attended(*args: Any, **kwargs: Any) -> Any:
        rate = kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)
        if not torch.compiler.is_compiling() and isinstance(rate, float) and rate > 0:
            _hear(f"`scaled_dot_product_attention(dropout_p={rate})` at {_line_above()}")
        return attention(*args, **kwargs)

    functional.dropout = probed
    functional.scaled_dot_product_attention = attended


def _restore() -> None:
    global _originals
    if _originals is not None:
        nn.functional.dropout, nn.functional.scaled_dot_product_attention = _originals
        _originals = None


def _hear(text: str) -> None:
    for hits in _heard.get(threading.get_ident(), ()):
        hits.append(text)


def _line_above() -> str:
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
