"""The activations, loops and jumps of a run of the interpreter, and its bounds."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Hashable
from dataclasses import field

from trainlint.core.facts import Site
from trainlint.core.late import dataclass
from trainlint.flow import ir
from trainlint.flow.epochs import Draw
from trainlint.flow.project import ClassInfo, ModuleInfo
from trainlint.flow.state import (
    State,
)
from trainlint.flow.values import (
    FrameId,
    Func,
    Value,
)

MAX_DEPTH = 14
MAX_ROUNDS = 4
MAX_UNROLLED = 8
MAX_STEPS = 24_000
PATIENCE = 4_000
"""Steps after which an entry that has shown no event of training is given up.

What is entered for the names that it mentions may turn out to load files for thousands of steps.
"""
GENEROUS_STEPS = 3_000
"""After that many statements fewer disjuncts are kept."""
SIZE_OF_A_STEP = 200
"""Values and objects of states whose comparison takes about as long as a step.

Where a program holds thousands, joining its branches is most of the work.
"""

BUILTINS = frozenset(dir(builtins))


class BudgetExceeded(Exception):
    """An analysis took more steps than it may; what it has found so far stands."""


@dataclass(eq=False, slots=True)
class Loop:
    """A loop being interpreted."""

    word: str
    round: int = 1
    node: int = -1
    loaders: tuple[str, ...] = ()
    site: Site | None = None
    repeats: bool = True
    """Its rounds are alike; False for a loop over known items or over the parts of a model."""
    unrolled: bool = False
    """Its items are known, and each is taken once."""
    ends: bool = False
    """A `while` that is left at some time, also where no round that was followed leaves it."""
    tests: int = 0
    """How many tests stood around the loop."""
    names: frozenset[str] = frozenset()
    """What a `for` binds in each of its rounds."""
    draw: Draw | None = None
    """The distributed sampler that it draws from, with the epoch loop around it."""


@dataclass(eq=False, slots=True)
class Frame:
    """One activation of a function, or a module's top level."""

    id: FrameId
    module: ModuleInfo
    func: Func | None = None
    outer: FrameId | None = None
    locals: frozenset[str] = frozenset()
    receiver: Value | None = None
    caller: Frame | None = None
    yields: Callable[[list[State], Value | None], list[State]] | None = None
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)
    cls: ClassInfo | None = None
    called: Site | None = None
    """The call in the caller's code."""
    loops: int = 0
    """How many loops stood around that call."""
    decided: set[Hashable] = field(default_factory=set)
    """The tests that both ways of were taken in the branch that runs now."""

    @property
    def name(self) -> str:
        """The function's name, empty at a module's top level."""
        return self.func.function.name if self.func is not None else ""


@dataclass(slots=True)
class Out:
    """Where a block leads: on, or away by a jump."""

    on: list[State]
    jumps: list[tuple[ir.JumpKind, State, Value | None]] = field(default_factory=list)


Evaluated = list[tuple[State, Value]]
