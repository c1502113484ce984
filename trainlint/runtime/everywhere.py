"""Watch whatever trains, without being told which model: for `pytest --trainlint`."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as modules

from trainlint.runtime import patches
from trainlint.runtime.report import HIDDEN, Violation
from trainlint.runtime.watch import Action, Watch, watch

__tracebackhide__ = HIDDEN


class WatchEverything:
    """Opens a watch on every outermost module that runs forward and has parameters.

    A global forward hook costs some microseconds for every module (RUNTIME 4.2): bearable in
    tests, not in a training run.
    """

    def __init__(
        self,
        *,
        select: str | Iterable[str] | None = None,
        ignore: str | Iterable[str] | None = None,
        on_violation: Action = "raise",
    ) -> None:
        self._options: dict[str, Any] = {
            "select": select,
            "ignore": ignore,
            "on_violation": on_violation,
        }
        self._watches: dict[int, tuple[weakref.ref[nn.Module], Watch]] = {}
        self._local = threading.local()
        self._handles: list[Any] = []

    @property
    def violations(self) -> list[Violation]:
        """What all watches found."""
        return [v for _, w in self._watches.values() for v in w.report.violations]

    def __enter__(self) -> WatchEverything:
        self._handles = [
            modules.register_module_forward_pre_hook(self._begins),
            modules.register_module_forward_hook(self._ends, always_call=True),
        ]
        return self

    def _begins(self, module: nn.Module, args: tuple[object, ...]) -> None:
        if torch.compiler.is_compiling():
            return
        depth = getattr(self._local, "depth", 0)
        self._local.depth = depth + 1
        if depth == 0 and not patches.local.backward:  # there a checkpoint recomputes its part
            self._open(module, args)

    def _ends(self, module: nn.Module, args: object, output: object) -> None:
        if not torch.compiler.is_compiling():
            self._local.depth = max(0, getattr(self._local, "depth", 0) - 1)

    def _open(self, module: nn.Module, args: tuple[object, ...]) -> None:
        known = self._watches.get(id(module))
        if known is not None and known[0]() is module:
            return
        if next(module.parameters(), None) is None or self._is_part(module):
            return
        for inner in module.modules():
            self._close_part(inner)
        opened = watch(module, **self._options)
        opened.only_training = True
        opened.__enter__()
        self._watches[id(module)] = (weakref.ref(module), opened)
        opened.on_forward(module, args)  # its own hook was registered too late for this call

    def _is_part(self, module: nn.Module) -> bool:
        """Whether it lies inside a model that is watched: `generate()` calls the base alone."""
        roots = [root for ref, _ in self._watches.values() if (root := ref()) is not None]
        return any(module is inner for root in roots for inner in root.modules())

    def _close_part(self, inner: nn.Module) -> None:
        """The model around it is watched from now on."""
        known = self._watches.get(id(inner))
        if known is not None and known[0]() is inner:
            known[1].close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        first: BaseException | None = None
        for _, opened in list(self._watches.values()):
            try:
                opened.__exit__(kind, error, trace)
            except AssertionError as found:
                first = first or found
        if first is not None:
            raise first
