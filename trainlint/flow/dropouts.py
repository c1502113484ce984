"""Functional dropouts in the methods of module classes: whether they follow the mode."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trainlint.core import late
from trainlint.core.events import FunctionalDropout
from trainlint.core.facts import Certainty, Site
from trainlint.flow import ir
from trainlint.flow.guards import asks_for_mode, calls_in
from trainlint.flow.project import ClassInfo
from trainlint.flow.reading import (
    Scope,
    all_methods,
    attribute_of,
    receiver_of,
    root_of,
)
from trainlint.flow.values import Const, External
from trainlint.flow.walk import below, nodes_of, walk
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp

_ON_PURPOSE = late.pattern(r"^MC|_mc_|^mc_|monte_?carlo|bayes|uncertain|stochastic", re.IGNORECASE)
_RUNS_IN_TRAINING = late.pattern(r"train|augment|loss|corrupt|nois", re.IGNORECASE)
_WORD = late.pattern(r"drop|attention|attn")
_MAX_DEPTH = 4


def dropouts_of(info: ClassInfo) -> Iterator[FunctionalDropout]:
    """The functional dropouts in a class's own methods."""
    if _ON_PURPOSE.search(info.name):
        return
    names = _names_of_dropouts(info)
    for function in info.methods.values():
        if function.name != "__init__" and _may_drop(function, names):
            yield from _dropouts_in(function, info)


def _names_of_dropouts(info: ClassInfo) -> set[str]:
    """What the file calls the functional dropouts that it imports."""
    return {
        bound
        for bound, binding in info.module.bindings.items()
        if isinstance(binding, ir.Import) and _WORD.search(f"{binding.module}.{binding.name}")
    }


def _may_drop(function: ir.Function, names: set[str]) -> bool:
    return bool(function.words & names) or any(map(_WORD.search, function.words))


def _dropouts_in(function: ir.Function, info: ClassInfo) -> Iterator[FunctionalDropout]:
    scope = Scope(info.module, function)
    found = {
        id(call): (path, spec)
        for call in nodes_of(function)
        if isinstance(call, ir.Call)
        and (path := scope.path(call.func))
        and isinstance(spec := LIBRARY.call(path), sp.DropoutFunction)
    }
    if found:
        always = bool(_ON_PURPOSE.search(function.name) or _RUNS_IN_TRAINING.search(function.name))
        always = always or guarded_at_callers(function.name, info)
        for call, guarded in calls_in(function.body):
            if id(call) not in found:
                continue
            path, spec = found[id(call)]
            given = given_to(call, spec.probability, spec.position)
            probability = Probability(info, function, scope).of(given, spec.default)
            yield FunctionalDropout(
                site=Site(info.module.path, call.node),
                callee=path,
                training=_training(call, spec, probability),
                probability_zero=_ZERO.get(probability, Certainty.UNKNOWN),
                guarded=guarded or always,
                in_module=True,
            )


_ZERO = {"zero": Certainty.YES, "constant": Certainty.NO}


def _training(call: ir.Call, spec: sp.DropoutFunction, probability: str) -> str:
    if any(argument.star for argument in call.args):
        return "unknown"
    if spec.training:
        match given_to(call, spec.training, spec.training_position):
            case ir.Literal(value=bool() as value):
                return "true" if value else "false"
            case None:
                pass
            case given:
                return "tied" if asks_for_mode(given) else "unknown"
    return "missing" if probability in ("zero", "constant") else probability


def given_to(call: ir.Call, name: str, position: int) -> ir.Expr | None:
    """A call's argument by keyword or position."""
    for argument in call.args:
        if argument.name == name:
            return argument.value
    plain = [a for a in call.args if a.name is None]
    return plain[position].value if 0 <= position < len(plain) else None


def guarded_at_callers(name: str, info: ClassInfo, depth: int = 0) -> bool:
    """Whether the class calls the method, and only under a test of the mode."""
    if name == "forward" or depth > _MAX_DEPTH:
        return False
    found = False
    for _, function in all_methods(info):
        if name not in function.words or function.name == name:
            continue
        receiver = receiver_of(function)
        for call, guarded in calls_in(function.body):
            if attribute_of(call.func, receiver) != name:
                continue
            found = True
            if not guarded and not guarded_at_callers(function.name, info, depth + 1):
                return False
    return found


class Probability:
    """Whether a probability is `zero`, a `constant`, `tied` to the mode, or `unknown`."""

    def __init__(self, info: ClassInfo, function: ir.Function, scope: Scope) -> None:
        self.info = info
        self.scope = scope
        self.receiver = receiver_of(function)

    def of(self, expr: ir.Expr | None, default: float, depth: int = 0) -> str:
        """The kind of an expression; `default` if it is not given."""
        if expr is None:
            return "constant" if default else "zero"
        if asks_for_mode(expr):
            return "tied"
        if depth > _MAX_DEPTH:
            return "unknown"
        match expr:
            case ir.Literal(value=value):
                return "constant" if value else "zero"
            case ir.Name(id=name):
                return self._name(name, depth)
            case ir.Attribute() | ir.Subscript():
                return self._attribute(expr)
            case ir.BinOp(left=left, right=right):
                kinds = {self.of(left, 0, depth + 1), self.of(right, 0, depth + 1)}
                return _joined(kinds)
            case ir.Call(func=func, args=args) if self.scope.path(func) == "builtins.float":
                return self.of(args[0].value if args else None, 0, depth + 1)
            case _:
                return "unknown"

    def _name(self, name: str, depth: int) -> str:
        owner = self.scope.owner(name)
        if owner is not None:
            only = owner.bindings.only(name)
            return self.of(only, 0, depth + 1) if only is not None else "unknown"
        match self.scope.value(ir.Name(name)):
            case Const(value=value):
                return "constant" if value else "zero"
            case External():
                return "unknown"
            case _:
                return "unknown"

    def _attribute(self, expr: ir.Attribute | ir.Subscript) -> str:
        """`self.p`, `config.dropout`, `self.config["dropout"]`."""
        root = root_of(expr)
        if not isinstance(root, ir.Name):
            return "unknown"
        if root.id != self.receiver:
            return "unknown" if self.scope.owner(root.id) is not None else "constant"
        first = next((a for node in walk(expr) if (a := attribute_of(node, self.receiver))), None)
        if first is None:
            return "unknown"
        return self._own_attribute(first, isinstance(expr, ir.Attribute) and first == expr.attr)

    def _own_attribute(self, name: str, is_whole: bool) -> str:
        found: list[ir.Expr] = []
        for function in (f for cls in self.info.mro for f in cls.methods.values()):
            if function.name == name:
                return "tied" if "training" in function.words else "unknown"
            if name not in function.words:
                continue
            for value in _assigned_to(function, name):
                if function.name != "__init__":
                    return "unknown"
                found.append(value)
        found += [cls.assigned[name] for cls in self.info.mro if name in cls.assigned]
        if not found:
            return "unknown"
        zero = all(isinstance(v, ir.Literal) and not v.value for v in found)
        return "zero" if zero and is_whole else "constant"


def _assigned_to(function: ir.Function, name: str) -> Iterator[ir.Expr]:
    """Values that a method assigns to `self.name`."""
    receiver = receiver_of(function)
    for node in nodes_of(function):
        match node:
            case ir.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _paired(target, value, receiver, name)
            case ir.AugAssign(target=target, value=value):
                if attribute_of(target, receiver) == name:
                    yield value
            case _:
                pass


def _paired(target: ir.Expr, value: ir.Expr, receiver: str, name: str) -> Iterator[ir.Expr]:
    match target, value:
        case ir.Sequence(items=items), ir.Sequence(items=values) if len(items) == len(values):
            for item, part in zip(items, values, strict=True):
                yield from _paired(item, part, receiver, name)
        case ir.Sequence(items=items), _:
            if any(attribute_of(part, receiver) == name for part in below(items)):
                yield value
        case _ if attribute_of(target, receiver) == name:
            yield value
        case _:
            pass


def _joined(kinds: set[str]) -> str:
    for kind in ("unknown", "tied", "zero"):
        if kind in kinds:
            return kind
    return "constant"
