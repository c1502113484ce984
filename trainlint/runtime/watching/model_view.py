"""The watched model, held weakly, with prepared lists that are cheap to compare.

The hot path reads flags, `requires_grad` and adapter status out of plain dicts and compares them
with what they were; a whole `Observation` is made only once something differs (RUNTIME 4.1: the
comparison is some 170 times cheaper than PEFT's `get_model_status`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

from torch import nn

from trainlint.runtime.judge.modes import Modes, Switch
from trainlint.runtime.observation import Observation
from trainlint.runtime.observe import observe
from trainlint.runtime.wrappers import unwrap

CLOSE_STEPS = 3
"""How many first steps are looked at in full."""
_AT_ONCE = 300
"""Up to some three times so many parameters, everything is read again at every step."""
_flag = itemgetter("training")
_requires = attrgetter("requires_grad")


@dataclass(frozen=True, slots=True)
class Plan:
    """Prepared lists for the hot path: dicts and parameters, never the root module itself."""

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
    pairs: list[tuple[dict[str, Any], dict[str, Any]]]
    """Every module's `_modules` and `_parameters`."""
    has_adapters: bool
    scalings: list[dict[str, Any]]
    rhythm: int
    """Everything is read again every so many steps: 1 below 900 parameters or so."""
    shape: int
    """`shape_of` when the lists were made."""

    def requires(self) -> bytes:
        """Which parameters require gradients, one byte each."""
        return bytes(map(_requires, self.parameters))


def make_plan(state: Observation) -> Plan:
    """Prepare the lists from a full observation."""
    acting = [0, *(i for i in state.sensitive if i != 0)]
    pairs = [(m._modules, m._parameters) for _, m in state.modules]
    tuners = [x.module.__dict__ for x in state.layers]
    if state.peft is not None:
        tuners.append(state.peft.__dict__)
    scalings = [d["scaling"] for d in tuners if isinstance(d.get("scaling"), dict)]
    return Plan(
        names=[n for n, _ in state.modules],
        acting=acting,
        flag_dicts=[state.modules[i][1].__dict__ for i in acting],
        parameters=[p for _, p in state.parameters],
        parameter_names=[n for n, _ in state.parameters],
        tuners=tuners,
        pairs=pairs,
        has_adapters=state.has_adapters,
        scalings=scalings,
        rhythm=max(1, (len(state.parameters) // _AT_ONCE) ** 2 // 3),
        shape=shape_of(pairs, scalings),
    )


def shape_of(
    pairs: Iterable[tuple[dict[str, Any], dict[str, Any]]], scalings: Iterable[dict[str, Any]]
) -> int:
    """Changes when anything is added, removed, replaced or scaled to nothing."""
    total = 0
    for children, parameters in pairs:
        for child in children.values():
            total += id(child)
        for parameter in parameters.values():
            total += id(parameter)
    for scaling in scalings:
        for value in scaling.values():
            if value == 0:
                total += 1
    return total


def chain(model: nn.Module) -> list[nn.Module]:
    """A model and what it wraps, outermost first."""
    inner = unwrap(model)
    found = [model]
    while found[-1] is not inner:
        for child in found[-1]._modules.values():
            if child is not None and unwrap(child) is inner:
                found.append(child)
                break
        else:
            break
    return found


class ModelView:
    """The model of one open watch; `plan` is None once the model is gone."""

    def __init__(self, model: nn.Module, on_death: Callable[[Any], object]) -> None:
        self.root: weakref.ref[nn.Module] = weakref.ref(model, on_death)
        self.inner: weakref.ref[nn.Module] = weakref.ref(unwrap(model))
        self.parallel = any(
            type(m).__name__ in ("DistributedDataParallel", "DataParallel") for m in chain(model)
        )
        self.shells: list[weakref.ref[nn.Module]] = []
        """Modules that `torch.compile` made around it during the watch."""
        self.plan: Plan | None = None
        self._known_flags: bytes | None = None

    def prepare(self) -> None:
        """Make the lists anew: at the start, and when the structure changed."""
        state = self.observe()
        self.plan = None if state is None else make_plan(state)
        self._known_flags = None

    def observe(self) -> Observation | None:
        """Everything about the model now, or None if it is gone."""
        root = self.root()
        return None if root is None else observe(root)

    def reshaped(self) -> bool:
        """Whether a module, a parameter or a zero scaling came or went since `prepare`."""
        plan = self.plan
        return plan is not None and shape_of(plan.pairs, plan.scalings) != plan.shape

    def called(self, module: nn.Module) -> bool:
        """Whether a hook fired for the model, and not for a copy that took the hook along."""
        if module is self.root() or module is self.inner():
            return True
        return any(module is ref() for ref in self.shells)

    def wraps(self, module: nn.Module) -> bool:
        """Whether this is the model or one of the wrappers around it."""
        root = self.root()
        return root is not None and any(module is shell for shell in chain(root))

    def bypassed_by(self, module: nn.Module) -> bool:
        """Whether this call goes past the DDP wrapper that is watched."""
        return self.parallel and module is self.inner() and module is not self.root()

    def flags(self, steps: int) -> bytes:
        """The flags that matter; read again after `train()`, and on a step that looks."""
        plan = self.plan
        if plan is None:
            return b""
        if self._known_flags is None or self.looks(steps):
            self._known_flags = bytes(map(_flag, plan.flag_dicts))
        return self._known_flags

    def switched(self) -> None:
        """Some `train()` or `eval()` ran: read the flags again."""
        self._known_flags = None

    def looks(self, steps: int) -> bool:
        """Whether this step reads everything again: always, but now and then in huge models."""
        plan = self.plan
        return plan is None or steps <= CLOSE_STEPS or steps % plan.rhythm == 0

    def walks(self, steps: int) -> bool:
        """Whether this step is one at which the structure is walked."""
        plan = self.plan
        rhythm = 1 if plan is None else plan.rhythm * max(1, len(plan.names) // 2000)
        return steps <= CLOSE_STEPS or steps % rhythm == 0

    def tuner_state(self) -> list[object]:
        """Disabled, active and merged of every PEFT layer."""
        plan = self.plan
        if plan is None:
            return []
        result: list[object] = []
        for d in plan.tuners:
            active = d.get("_active_adapter", d.get("active_adapter"))
            merged = d.get("merged_adapters", ())
            disabled = d.get("_disable_adapters", d.get("_adapters_disabled"))
            result.append(
                (disabled, active if type(active) is str else tuple(active or ()), len(merged))
            )
        return result

    def passes_by(self) -> bool:
        """Whether the adapters are disabled: `with disable_adapter()`."""
        tuners = [] if self.plan is None else self.plan.tuners
        if not tuners:
            return False
        if tuners[-1].get("_adapters_disabled"):
            return True
        return all(
            d.get("_disable_adapters", False) for d in tuners if "_disable_adapters" in d
        ) and any("_disable_adapters" in d for d in tuners)

    def names(self, parameters: Sequence[nn.Parameter]) -> tuple[str, ...]:
        """Dotted names of those that belong to the model."""
        plan = self.plan
        if plan is None:
            return ()
        by_id = {id(p): n for n, p in zip(plan.parameter_names, plan.parameters)}
        return tuple(by_id[id(p)] for p in parameters if id(p) in by_id)

    def ids(self) -> set[int]:
        """Ids of all the model's parameters."""
        return set() if self.plan is None else {id(p) for p in self.plan.parameters}

    def modes(
        self,
        state: Observation,
        keep_eval: Iterable[str],
        keep_train: Iterable[str],
        switches: Iterable[Switch],
    ) -> Modes:
        """What a verdict on flags needs beside them."""
        by_name = {n: i for i, (n, _) in enumerate(state.modules)}
        names = {id(m): n for n, m in state.modules}
        root = self.root()
        if root is not None:
            for shell in chain(root):
                names[id(shell)] = ""
        return Modes(
            frozenset(by_name[n] for n in keep_eval if n in by_name),
            frozenset(by_name[n] for n in keep_train if n in by_name),
            tuple(switches),
            names,
        )
