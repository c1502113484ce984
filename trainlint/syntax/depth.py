"""Room on the stack for code that is nested deeper than Python's default limit allows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# From 3.11 on, a Python call takes no room on the C stack, so that only memory is the limit.
_FRAMES = 20_000 if sys.version_info >= (3, 11) else 4_000


class TooDeep(ValueError):
    """The code is nested too deep to be walked."""


@contextmanager
def deep_stack() -> Iterator[None]:
    """Raise the recursion limit; a RecursionError in spite of that becomes `TooDeep`."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _FRAMES))
    try:
        yield
    except RecursionError:
        raise TooDeep("the code is nested too deep") from None
    finally:
        sys.setrecursionlimit(before)
