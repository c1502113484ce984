"""Hooks that sit on a user's modules, and vanish from copies and pickles of them."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from trainlint.runtime.report import HIDDEN

__tracebackhide__ = HIDDEN


class Listener(Protocol):
    """What is told of the model's forwards: a watch."""

    def on_forward(self, module: nn.Module, given: Iterable[object] = ()) -> None:
        """A forward of what was given begins."""

    def on_forward_end(self, module: nn.Module, output: object) -> None:
        """A forward is over; `output` is None if it raised."""


class Used(Protocol):
    """What is told that a backward used a graph: the record of a forward."""

    consumed: bool


_INERT = contextlib.nullcontext().__exit__
"""Takes anything, returns None, pickles without trainlint: what a copy of a hook turns into."""


class _Vanishing:
    """A hook that a deepcopy or a pickle of its module replaces by one that does nothing."""

    def __deepcopy__(self, memo: object) -> object:
        return _INERT

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


class ForwardBegins(_Vanishing):
    """Before the root's forward.

    Dynamo traces hooks inside what it compiles, and torch 2.13 refuses a hook that is
    `torch.compiler.disable`d under fullgraph; one that returns at once breaks nothing. The watch
    sits on the OptimizedModule as well, where hooks run outside the graph.
    """

    def __init__(self, watch: Listener) -> None:
        self.watch = weakref.ref(watch)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            return
        watch = self.watch()
        if watch is not None:
            watch.on_forward(module, (*args, *kwargs.values()))


class ForwardEnds(_Vanishing):
    """After the root's forward, also when it raised."""

    def __init__(self, watch: Listener) -> None:
        self.watch = weakref.ref(watch)

    def __call__(self, module: nn.Module, args: object, output: object) -> None:
        if torch.compiler.is_compiling():
            return
        watch = self.watch()
        if watch is not None:
            watch.on_forward_end(module, output)


class Ran(_Vanishing):
    """On a module whose parameters got no gradient: did it run, and with gradients on."""

    def __init__(self, seen: dict[str, bool], name: str) -> None:
        self.seen, self.name = seen, name

    def __call__(self, module: nn.Module, args: object) -> None:
        if torch.compiler.is_compiling():
            return
        self.seen[self.name] = self.seen.get(self.name, False) or torch.is_grad_enabled()


class Consumed(_Vanishing):
    """On an output: a backward passed here, so the forward was a training one."""

    def __init__(self, forward: Used) -> None:
        self.forward = forward

    def __call__(self, grad: torch.Tensor) -> None:
        self.forward.consumed = True


class Marker:
    """Lives as long as the graph of one forward: it hangs in the metadata of its last nodes."""

    __slots__ = ("__weakref__",)


MARK = "trainlint"


def tensors(output: object, limit: int = 8) -> list[torch.Tensor]:
    """The first tensors of an output that carry a graph, through tuples, dicts and dataclasses."""
    found: list[torch.Tensor] = []
    stack = [output]
    looked = 0
    while stack and len(found) < limit and looked < 200:
        looked += 1
        value = stack.pop()
        if isinstance(value, torch.Tensor):
            if value.grad_fn is not None:
                found.append(value)
        elif isinstance(value, Mapping):
            stack.extend(reversed(list(value.values())))
        elif isinstance(value, (list, tuple)):
            stack.extend(reversed(value))
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            stack.extend(getattr(value, f.name, None) for f in dataclasses.fields(value))
    return found


def mark(found: list[torch.Tensor], forward: Used) -> weakref.ref[Marker] | None:
    """Tie a forward to its graph: when the graph dies, and whether a backward used it."""
    marker = Marker()
    tied = False
    for tensor in found:
        node = tensor.grad_fn
        if node is None:
            continue
        try:
            node.metadata.setdefault(MARK, []).append(marker)
            tensor.register_hook(Consumed(forward))
            tied = True
        except (RuntimeError, AttributeError):  # a tensor that takes no hooks: leave it alone
            continue
    return weakref.ref(marker) if tied else None


def reaches(
    losses: list[torch.Tensor], wanted: list[weakref.ref[Marker]], limit: int = 4000
) -> set[int]:
    """Which of the marked forwards a loss's graph leads back to, by position in `wanted`.

    Outputs lie close to the loss, so that a breadth-first walk finds them at once.
    """
    alive = {id(m): i for i, ref in enumerate(wanted) if (m := ref()) is not None}
    found: set[int] = set()
    level = [t.grad_fn for t in losses if t.grad_fn is not None]
    seen = set(level)
    while level and len(found) < len(alive) and len(seen) < limit:
        following = []
        for node in level:
            for marker in node.metadata.get(MARK, ()):
                if id(marker) in alive:
                    found.add(alive[id(marker)])
            for above, _ in node.next_functions:
                if above is not None and above not in seen:
                    seen.add(above)
                    following.append(above)
        level = following
    return found
