"""Prepared lists of a model's state that are cheap to read again, whole or in turns.

In a model of up to a thousand parameters everything is read again at every step. In a larger
one every fourth step reads one part of each list, in turn: what changes in many places at once, as
a freeze or `add_adapter` does, shows within four steps, a single parameter after all turns (2,763
parameters: 8 turns, 32 steps).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

from torch import nn

from trainlint.runtime.observation import Observation

GLANCE_EVERY = 4
"""In a huge model every so many steps have a turn: cold code and data are dear to reach at all."""
_READ_AT_ONCE = 800
"""Up to so many parameters are read in one turn."""
_WALKED_AT_ONCE = 900
"""Up to so many modules' registries are read in one turn."""
_GROWTH = 1.7
"""Turns grow faster than the list, so that a huge model costs little more than a large one."""
_ALL = slice(None)
_flag = itemgetter("training")
_requires = attrgetter("requires_grad")
_status = itemgetter("_disable_adapters", "_active_adapter", "merged_adapters")

Status = list[tuple[Any, ...]]
"""Disabled, active and merged of each PEFT layer."""


def turns_for(length: int, at_once: int) -> int:
    """In how many turns a list is read."""
    return max(1, int((length / at_once) ** _GROWTH))


class Rotation:
    """Which part of a list is next."""

    __slots__ = ("_length", "_next", "turns")

    def __init__(self, length: int, turns: int) -> None:
        self._length, self.turns, self._next = length, turns, 0

    def index(self) -> int:
        """The number of the next part."""
        turn = self._next
        self._next = (turn + 1) % self.turns
        return turn

    def part(self) -> slice:
        """The next part of the list."""
        return part_of(self._length, self.turns, self.index())


def part_of(length: int, turns: int, turn: int) -> slice:
    """One of equal parts of a list."""
    return slice(length * turn // turns, length * (turn + 1) // turns)


@dataclass(frozen=True, slots=True)
class Plan:
    """Dicts and parameters, never the root module itself."""

    names: list[str]
    """Dotted names of all modules."""
    acting: list[int]
    """Positions of the modules whose flag matters; the root first."""
    flag_dicts: list[dict[str, Any]]
    """Their `__dict__`s."""
    parameters: list[nn.Parameter]
    parameter_names: list[str]
    tuners: list[dict[str, Any]]
    """The `__dict__`s of PEFT's layers, then of the PeftModel."""
    whole: list[dict[str, Any]]
    """Those of them that hold all three of `_status`."""
    others: list[dict[str, Any]]
    registries: list[dict[str, Any]]
    """Every module's `_modules` and `_parameters`, and every layer's `scaling`."""
    has_adapters: bool
    configs: dict[str, Any]
    """The `peft_config` of the model, which PEFT itself adds to."""
    adapters: int
    """How many configs there were when the lists were made."""
    turns: int
    """In how many turns flags, `requires_grad`, status and gradients are read."""
    shapes: tuple[int, ...]
    """For each turn of `registries` its `shape_of` when the lists were made."""

    def flags(self, part: slice = _ALL) -> bytes:
        """The training flags that matter, one byte each."""
        return bytes(map(_flag, self.flag_dicts[part]))

    def requires(self, part: slice = _ALL) -> bytes:
        """Which parameters require gradients, one byte each."""
        return bytes(map(_requires, self.parameters[part]))

    def status(self, part: slice = _ALL) -> Status:
        """Status of the whole ones in this part, then of all others; holds live lists."""
        whole = self.whole[part]
        try:
            found: Status = list(map(_status, whole))
        except KeyError:  # an attribute was deleted: PEFT itself never does
            found = [_status_of(d) for d in whole]
        return found + [_status_of(d) for d in self.others]

    def shape(self, turn: int) -> int:
        """What `shapes` was made of, now."""
        return shape_of(self.registries[part_of(len(self.registries), len(self.shapes), turn)])


def make_plan(state: Observation) -> Plan:
    """Prepare the lists from a full observation."""
    acting = [0, *(i for i in state.sensitive if i != 0)]
    tuners = [x.module.__dict__ for x in state.layers]
    if state.peft is not None:
        tuners.append(state.peft.__dict__)
    registries = [d for _, m in state.modules for d in (m._modules, m._parameters)]
    registries += [d["scaling"] for d in tuners if isinstance(d.get("scaling"), dict)]
    strides = turns_for(len(state.modules), _WALKED_AT_ONCE)
    owner = state.peft if state.peft is not None else state.model
    configs = getattr(owner, "peft_config", {})
    return Plan(
        names=[n for n, _ in state.modules],
        acting=acting,
        flag_dicts=[state.modules[i][1].__dict__ for i in acting],
        parameters=[p for _, p in state.parameters],
        parameter_names=[n for n, _ in state.parameters],
        tuners=tuners,
        whole=[d for d in tuners if _is_whole(d)],
        others=[d for d in tuners if not _is_whole(d)],
        registries=registries,
        has_adapters=state.has_adapters,
        configs=configs,
        adapters=len(configs),
        turns=turns_for(len(state.parameters), _READ_AT_ONCE),
        shapes=tuple(
            shape_of(registries[part_of(len(registries), strides, turn)]) for turn in range(strides)
        ),
    )


def _is_whole(d: dict[str, Any]) -> bool:
    return "_disable_adapters" in d and "_active_adapter" in d and "merged_adapters" in d


def _status_of(d: dict[str, Any]) -> tuple[Any, ...]:
    return (
        d.get("_disable_adapters", d.get("_adapters_disabled")),
        d.get("_active_adapter", d.get("active_adapter")),
        d.get("merged_adapters"),
    )


def copied(status: Status) -> Status:
    """The same, apart from the lists that PEFT goes on writing to."""
    return [tuple(list(v) if type(v) is list else v for v in entry) for entry in status]


def shape_of(registries: Iterable[dict[str, Any]]) -> int:
    """Changes when a module, a parameter or a scaling is added, removed or replaced."""
    return sum(map(id, itertools.chain.from_iterable(map(dict.values, registries))))
