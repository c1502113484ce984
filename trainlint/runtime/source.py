"""Which line of the user's own code is running."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import NamedTuple

LIBRARIES = frozenset(
    [
        "torch",
        "peft",
        "transformers",
        "accelerate",
        "trainlint",
        "lightning",
        "pytorch_lightning",
        "lightning_fabric",
        "lightning_utilities",
        "trl",
        "deepspeed",
        "apex",
        "contextlib",
        "functools",
        "threading",
        "bitsandbytes",
        "sentence_transformers",
        "torchmetrics",
    ]
)
"""Top-level packages whose frames are never the user's own."""

_INSIDE: dict[CodeType, bool] = {}


class Caller(NamedTuple):
    """The user's line, the function it stands in, and the library calls between it and us."""

    where: str | None
    function: str
    through: tuple[str, ...]
    """`package.function` of the library frames passed, innermost first."""


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _library(frame: FrameType) -> bool:
    code = frame.f_code
    known = _INSIDE.get(code)
    if known is None:
        if len(_INSIDE) > 20_000:
            _INSIDE.clear()
        known = _package(frame) in LIBRARIES or code.co_filename.startswith("<frozen")
        _INSIDE[code] = known
    return known


def calling() -> FrameType:
    """The nearest frame that is not trainlint's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _package(frame) == "trainlint":
        frame = frame.f_back
    return frame


def runs(wanted: FrameType) -> bool:
    """Whether the current thread is still inside this frame."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not wanted:
        frame = frame.f_back
    return frame is not None


def where(depth: int = 1) -> str | None:
    """`file:line` of the nearest frame that is the user's own, or None."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and _library(frame):
        frame = frame.f_back
    return None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def place(depth: int = 1) -> tuple[str | None, str]:
    """Like `where`, with the name of the function."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and _library(frame):
        frame = frame.f_back
    if frame is None:
        return None, ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno}", frame.f_code.co_name


def caller(depth: int = 1) -> Caller:
    """Like `where`, with the path there: dearer, for the moments when something is off."""
    frame: FrameType | None = sys._getframe(depth)
    through: list[str] = []
    while frame is not None and _library(frame):
        through.append(f"{_package(frame)}.{frame.f_code.co_name}")
        frame = frame.f_back
    if frame is None:
        return Caller(None, "", tuple(through))
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return Caller(place, frame.f_code.co_name, tuple(through))
