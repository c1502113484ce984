"""What a user declares, checked for sense before anything runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from torch import nn

from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import grouped
from trainlint.runtime.wrappers import unwrap

Patterns: TypeAlias = str | Iterable[str] | None
Kept: TypeAlias = str | nn.Module | Iterable[str | nn.Module]


@dataclass(frozen=True, slots=True)
class Expect:
    """Turns what would be silence into a check.

    Glob patterns over dotted names of parameters (`trainable`, `frozen`) and modules (`eval`);
    a pattern covers all below what it matches. `active` are adapter names.
    """

    trainable: Patterns = None
    frozen: Patterns = None
    eval: Patterns = None
    active: Patterns = None

    def __post_init__(self) -> None:
        for option in ("trainable", "frozen", "eval", "active"):
            value = getattr(self, option)
            if value is None:
                continue
            listed = isinstance(value, Iterable) and not isinstance(value, str)
            items = tuple(value) if listed else (value,)
            if not all(isinstance(item, str) for item in items):
                raise TypeError(
                    f"Expect({option}=...) expects glob patterns (strings), got {value!r}"
                )
            object.__setattr__(self, option, items)


def matches(name: str, pattern: str) -> bool:
    """Whether a glob names this dotted name, one of its endings, or something above it."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        for start in range(end):
            if fnmatchcase(".".join(parts[start:end]), pattern):
                return True
    return False


def _tuple(value: Patterns) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _nothing(option: str, pattern: str, names: Sequence[str], what: str) -> ValueError:
    ends = [name.rpartition(".")[2] for name in names]
    near = difflib.get_close_matches(pattern, [*names, *ends], 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; the first are {list(names)[:4]}"
    return ValueError(f"{option}: {pattern!r} matches no {what} of the model{hint}")


def check_model(model: object) -> nn.Module:
    """The model, or a TypeError that says what was expected."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model (torch.nn.Module), got {type(model).__name__}")
    return model


def check_optimizers(optimizer: object) -> list[Any]:
    """The optimizers given, out of any wrapper, or a TypeError."""
    if optimizer is None:
        return []
    given = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    found: list[Any] = []
    for one in given:
        inner = one
        while not isinstance(getattr(inner, "param_groups", None), list) or _is_shell(inner):
            following = getattr(inner, "optimizer", None)
            if following is None or following is inner:
                break
            inner = following
        if not isinstance(getattr(inner, "param_groups", None), list):
            raise TypeError(
                "optimizer: expected a torch.optim.Optimizer, a list of them, or None, "
                f"got {type(one).__name__}"
            )
        found.append(inner)
    return found


def _is_shell(optimizer: object) -> bool:
    """AcceleratedOptimizer and Lightning's wrapper hold the real one."""
    return type(optimizer).__name__ in ("AcceleratedOptimizer", "LightningOptimizer")


def check_phase(phase: object) -> str | None:
    """The phase, or a ValueError."""
    if phase is None or phase in ("train", "eval"):
        return phase
    raise ValueError(f"phase: expected 'train', 'eval' or None, got {phase!r}")


def check_names(option: str, patterns: Patterns, state: Observation) -> None:
    """Every pattern over parameters must match one."""
    names = [name for name, _ in state.parameters]
    for pattern in _tuple(patterns):
        if not any(matches(name, pattern) for name in names):
            raise _nothing(option, pattern, names, "parameter")


def kept(option: str, value: Kept, state: Observation) -> frozenset[int]:
    """Positions of the modules that `allow_eval` or `allow_train` names, all below included."""
    items = [value] if isinstance(value, (str, nn.Module)) else list(value)
    positions: set[int] = set()
    names = [name for name, _ in state.modules]
    for item in items:
        if isinstance(item, nn.Module):
            inner = {id(m) for m in unwrap(item).modules()}
            hit = {i for i, (_, m) in enumerate(state.modules) if id(m) in inner}
            if not hit:
                raise ValueError(f"{option}: {type(item).__name__} is no sub-module of the model")
        elif isinstance(item, str):
            hit = {i for i, name in enumerate(names) if name and matches(name, item)}
            if not hit:
                raise _nothing(option, item, names[1:], "module")
        else:
            raise TypeError(
                f"{option}: expected glob patterns or modules, got {type(item).__name__}"
            )
        positions |= hit
    return frozenset(positions)


def check_expect(expect: object, state: Observation) -> Expect:
    """The expectation, its patterns known to match something."""
    if expect is None:
        return Expect()
    if not isinstance(expect, Expect):
        raise TypeError(f"expect: expected trainlint.runtime.Expect, got {type(expect).__name__}")
    check_names("Expect(trainable=...)", expect.trainable, state)
    check_names("Expect(frozen=...)", expect.frozen, state)
    if expect.eval is not None:
        kept("Expect(eval=...)", expect.eval, state)
    if expect.active is not None and not state.has_adapters:
        raise ValueError("Expect(active=...): the model has no adapters")
    return expect


def unmet(expect: Expect, state: Observation, *, training: bool) -> list[Verdict]:
    """What was declared and is not so."""
    found: list[Verdict] = []
    found += _unmet_parameters(expect, state)
    if expect.eval is not None and training:
        positions = kept("Expect(eval=...)", expect.eval, state)
        wrong = [i for i in sorted(positions) if state.modules[i][1].training]
        if wrong:
            names = tuple(state.modules[i][0] for i in wrong)
            text = f"expected in eval mode, in train mode: {grouped(names)}"
            found.append(Verdict("TL105", text, names, cause="undone"))
    active = _tuple(expect.active)
    lost = [a for a in active if a not in state.declared]
    if lost:
        there = ", ".join(state.declared) or "none"
        text = f"expected active: {', '.join(lost)}; active: {there}"
        code = "TL407" if set(lost) <= set(state.adapter_names()) else "TL417"
        found.append(Verdict(code, text, cause="expected active"))
    return found


def _unmet_parameters(expect: Expect, state: Observation) -> list[Verdict]:
    found = []
    patterns = _tuple(expect.frozen)
    wrong = tuple(
        n for n, p in state.parameters if p.requires_grad and any(matches(n, g) for g in patterns)
    )
    if wrong:
        text = f"expected frozen ({', '.join(patterns)}), yet trainable: {grouped(wrong)}"
        code = "TL416" if state.has_adapters else "TL307"
        found.append(Verdict(code, text, (), wrong, cause="expected frozen"))
    patterns = _tuple(expect.trainable)
    wrong = tuple(
        n
        for n, p in state.parameters
        if not p.requires_grad
        and isinstance(p, torch.Tensor)
        and any(matches(n, g) for g in patterns)
    )
    if wrong:
        text = f"expected to train ({', '.join(patterns)}), yet frozen: {grouped(wrong)}"
        found.append(Verdict("TL701", text, (), wrong, cause="expected trainable"))
    return found
