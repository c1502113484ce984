"""`train()` or `eval()` overridden in the user's own classes so that switching modes breaks.

Said only of what the code certainly does, read off its bytecode: the static half (TL504) sees the
text, and says more.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

from torch import nn

from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.sensitivity import names_in

_SWITCHING = frozenset(
    [
        "super",
        "train",
        "apply",
        "children",
        "modules",
        "named_children",
        "named_modules",
        "_modules",
    ]
)
"""Names through which an override may reach the sub-modules."""


def broken(state: Observation) -> list[Verdict]:
    """Classes of the user's whose `train` or `eval` does not switch what is below them."""
    found: dict[tuple[type, str, str], list[str]] = {}
    others = state.kinds_outside("torch.", "transformers.", "peft.")
    for name, module in state.modules if others else ():
        kind = type(module)
        if kind not in others:
            continue
        for method in ("train", "eval"):
            fault = _fault(module, method)
            if fault is not None:
                found.setdefault((kind, method, fault), []).append(name)
    advice = "write `def train(self, mode=True): super().train(mode); ...; return self`"
    return [
        Verdict(
            "TL504",
            f"`{kind.__name__}.{method}` {fault}",
            tuple(names),
            help=advice,
            cause=f"{kind.__qualname__}.{method}",
        )
        for (kind, method, fault), names in found.items()
    ]


def _fault(module: nn.Module, method: str) -> str | None:
    own = module.__dict__.get(method)
    if own is not None and not callable(own):
        return "is an attribute: calling it raises TypeError"
    function = _own_method(type(module), method)
    if function is None:
        return None
    names = set(names_in(function.__code__))
    if method == "eval":
        silent = not names & (_SWITCHING | {"training", "eval"})
        return "does not switch to eval mode: nothing in it does" if silent else None
    if "backward" in names:
        return "runs the training: `eval()` of this module and of every parent calls it"
    if not _takes_mode(function):
        return "takes no mode: `eval()` calls `train(False)` and raises TypeError"
    if _is_inert(names) or names & _SWITCHING:
        return None
    if any(True for _ in module.children()):
        return "does not call `super().train(mode)`: the sub-modules keep their mode"
    return None


def _is_inert(names: set[str]) -> bool:
    """`def train(self, mode=True): return self`, and forms that only put parts in eval: meant."""
    return not names or names <= {"eval"}


def _own_method(kind: type, method: str) -> FunctionType | None:
    """The user's override: a plain function of a class that no installed package brought."""
    for base in kind.__mro__:
        if base is nn.Module:
            return None
        value = vars(base).get(method)
        if value is not None:
            return value if isinstance(value, FunctionType) and _is_users(base) else None
    return None


def _is_users(kind: type) -> bool:
    source = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return source is None or not ("site-packages" in source or "dist-packages" in source)


def _takes_mode(function: Any) -> bool:
    code = function.__code__
    takes_any = bool(code.co_flags & 0x04)  # CO_VARARGS
    return takes_any or code.co_argcount >= 2
