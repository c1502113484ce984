"""How module classes override `train` and `eval`."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.events import ModeOverride
from trainlint.core.facts import Site
from trainlint.flow import ir
from trainlint.flow.project import ClassInfo
from trainlint.flow.reading import (
    Bindings,
    attribute_of,
    bindings_of,
    leaves,
    receiver_of,
    returns_of,
)
from trainlint.flow.walk import nodes_of, walk

_METHODS = ("train", "eval")
_TRAINS = frozenset({"backward", "manual_backward", "zero_grad", "step"})
_REPORTS = frozenset({"print", "info", "debug", "warning", "warn", "isinstance", "bool", "type"})
_POSITIONAL = (ir.ParameterKind.POSITIONAL, ir.ParameterKind.POSITIONAL_ONLY)


def overrides_of(info: ClassInfo) -> tuple[ModeOverride, ...]:
    """The overrides that stand in the class's own body."""
    found = [
        Override(info, function).read()
        for name, function in info.methods.items()
        if name in _METHODS and not _is_abstract(function)
    ]
    overrides = [override for override in found if override is not None]
    if _is_own_pair(overrides):
        overrides = []
    overrides += _attributes(info)
    return tuple(sorted(overrides, key=lambda override: override.site.node))


def _is_own_pair(overrides: list[ModeOverride]) -> bool:
    """`train()` and `eval()` without a mode, each of which switches the parts by itself."""
    return {o.method for o in overrides} == {"train", "eval"} and all(
        o.calls_super and not o.runs_training and not (o.takes_mode and o.method == "train")
        for o in overrides
    )


def _is_abstract(function: ir.Function) -> bool:
    return any(
        isinstance(part, ir.Name | ir.Attribute)
        and (part.id if isinstance(part, ir.Name) else part.attr)
        in ("abstractmethod", "overload", "staticmethod", "classmethod")
        for decorator in function.decorators
        for part in walk(decorator)
    )


def _attributes(info: ClassInfo) -> Iterator[ModeOverride]:
    """`self.train = True`: an attribute that hides the method."""
    for function in info.methods.values():
        if function.words.isdisjoint(_METHODS):
            continue
        receiver, bindings = receiver_of(function), bindings_of(function)
        for node in nodes_of(function):
            if not isinstance(node, ir.Assign):
                continue
            for target in node.targets:
                name = attribute_of(target, receiver)
                if name in _METHODS and _is_flag(node.value, bindings):
                    yield _attribute(name, Site(info.module.path, node.node))
    for name in _METHODS:
        value = info.assigned.get(name)
        if value is not None and name not in info.methods and isinstance(value, ir.Literal):
            yield _attribute(name, Site(info.module.path, value.node))


def _attribute(name: str, site: Site) -> ModeOverride:
    return ModeOverride(name, site, False, False, False, False, False, is_attribute=True)


def _is_flag(value: ir.Expr, bindings: Bindings) -> bool:
    """A literal, or a parameter that is one by default."""
    match value:
        case ir.Literal(value=constant):
            return constant is not None
        case ir.Name(id=name):
            parameter = bindings.parameters.get(name)
            default = parameter.default if parameter is not None else None
            return isinstance(default, ir.Literal) and isinstance(default.value, bool)
        case ir.Compare():
            return True
        case ir.UnaryOp(op="not"):
            return True
        case _:
            return False


class Override:
    """One method that overrides `train` or `eval`."""

    def __init__(self, info: ClassInfo, function: ir.Function) -> None:
        self.info = info
        self.function = function
        self.receiver = receiver_of(function)
        self.calls = [node for node in nodes_of(function) if isinstance(node, ir.Call)]
        taken = [p for p in function.parameters if p.name != self.receiver]
        self.taken = taken
        modes = [p for p in taken if p.kind in _POSITIONAL][:1]
        others = [p for p in taken if p.kind not in _POSITIONAL]
        self.mode_names = {p.name for p in (*modes, *others)}

    def read(self) -> ModeOverride | None:
        """What the body shows; None where overriding makes no difference."""
        name = self.function.name
        if name == "eval" and (self._is_default_eval() or self._base_overrides_train()):
            return None
        is_property = any(
            isinstance(d, ir.Name) and "property" in d.id for d in self.function.decorators
        )
        return ModeOverride(
            method=name,
            site=Site(self.info.module.path, self.function.name_node),
            takes_mode=self._takes_mode(),
            returns_self=self._returns_self(),
            calls_super=self._reaches_children(),
            uses_mode=self._mentions_mode(self.function.body),
            runs_training=self._runs_training(),
            is_attribute=is_property,
            inert=self._is_inert(),
            forces_eval=self._forces_eval(),
        )

    def _takes_mode(self) -> bool:
        """Whether `train(False)` can be called."""
        required = [p for p in self.taken if p.kind in _POSITIONAL and p.default is None]
        if len(required) > 1 or any(
            p.kind is ir.ParameterKind.KEYWORD_ONLY and p.default is None for p in self.taken
        ):
            return False
        return any(p.kind in (*_POSITIONAL, ir.ParameterKind.STAR) for p in self.taken)

    def _returns_self(self) -> bool:
        if self._only_raises():
            return True
        if not leaves(self.function.body):
            return False
        return all(self._is_self(jump.value) for jump in returns_of(self.function))

    def _is_self(self, value: ir.Expr | None) -> bool:
        match value:
            case ir.Name(id=name):
                return name == self.receiver or self._switched(name)
            case ir.Call(func=ir.Attribute(attr=attr)):
                return attr in _METHODS
            case _:
                return False

    def _switched(self, name: str) -> bool:
        """`result = super().train(mode); ...; return result`."""
        only = bindings_of(self.function).only(name)
        return isinstance(only, ir.Call) and self._is_self(only)

    def _reaches_children(self) -> bool:
        """Whether something that may switch the sub-modules gets the mode."""
        return any(self._may_switch(call) for call in self.calls)

    def _may_switch(self, call: ir.Call) -> bool:
        match call.func:
            case ir.Attribute(value=owner, attr="train"):
                return True
            case ir.Attribute(value=ir.Call(func=ir.Name(id="super")), attr=attr):
                return attr in (self.function.name, "eval", "apply")
            case ir.Attribute(value=owner, attr="eval") if self.function.name == "eval":
                # What a call gives is no part: a proxy has what it stands for elsewhere.
                return self._is_class(owner) or self._iterates(owner) or isinstance(owner, ir.Call)
            case ir.Attribute(attr=name) | ir.Name(id=name) if name in _REPORTS:
                return False
            case _:
                pass
        values = [argument.value for argument in call.args]
        if any(isinstance(v, ir.Name) and v.id == self.receiver for v in values):
            return True
        if self.function.name == "eval":
            return False
        return any(self._mentions_mode(value) for value in values) and self._is_own(call.func)

    def _is_own(self, func: ir.Expr) -> bool:
        """`self.set_mode(mode)`, `switch(module, mode)`."""
        return isinstance(func, ir.Attribute | ir.Name)

    def _is_class(self, owner: ir.Expr) -> bool:
        """`nn.Module.eval(self)`."""
        words = owner.attr if isinstance(owner, ir.Attribute) else ""
        return words[:1].isupper() or (isinstance(owner, ir.Name) and owner.id[:1].isupper())

    def _iterates(self, owner: ir.Expr) -> bool:
        """`for child in self.children(): child.eval()`."""
        return isinstance(owner, ir.Name) and any(
            isinstance(node, ir.For)
            and isinstance(node.target, ir.Name | ir.Sequence)
            and any(isinstance(part, ir.Name) and part.id == owner.id for part in walk(node.target))
            for node in nodes_of(self.function)
        )

    def _mentions_mode(self, node: object) -> bool:
        return any(isinstance(part, ir.Name) and part.id in self.mode_names for part in walk(node))

    def _runs_training(self) -> bool:
        return any(
            isinstance(call.func, ir.Attribute) and call.func.attr in _TRAINS for call in self.calls
        )

    def _is_inert(self) -> bool:
        return all(
            isinstance(s, ir.Jump)
            or (isinstance(s, ir.Expression) and isinstance(s.value, ir.Literal))
            for s in self.function.body
        ) and all(
            jump.value is None or isinstance(jump.value, ir.Name | ir.Literal)
            for jump in returns_of(self.function)
        )

    def _only_raises(self) -> bool:
        last = self.function.body[-1] if self.function.body else None
        return (
            isinstance(last, ir.Jump)
            and last.kind is ir.JumpKind.RAISE
            and not any(returns_of(self.function))
        )

    def _forces_eval(self) -> bool:
        """`super().train(False)`, whatever the mode."""
        if self.function.name != "train":
            return False
        switches = [c for c in self.calls if _switches_whole(c, self.receiver)]
        return bool(switches) and all(_to_eval(call) for call in switches)

    def _is_default_eval(self) -> bool:
        """`def eval(self): return self.train(False)`: what torch does anyway."""
        statements = [
            s
            for s in self.function.body
            if not (isinstance(s, ir.Expression) and isinstance(s.value, ir.Literal))
        ]
        if not 1 <= len(statements) <= 2:
            return False
        first = statements[0]
        value = first.value if isinstance(first, ir.Jump | ir.Expression) else None
        is_switch = isinstance(value, ir.Call) and _switches_whole(value, self.receiver)
        return is_switch and all(isinstance(s, ir.Jump) for s in statements[1:])

    def _base_overrides_train(self) -> bool:
        return any("train" in cls.methods for cls in self.info.mro) and (
            "train" not in self.info.methods
        )


def _switches_whole(call: ir.Call, receiver: str) -> bool:
    """`super().train(...)`, `self.eval()`."""
    match call.func:
        case ir.Attribute(value=ir.Call(func=ir.Name(id="super")), attr=attr):
            return attr in _METHODS
        case ir.Attribute(value=ir.Name(id=name), attr=attr):
            return name == receiver and attr in _METHODS
        case _:
            return False


def _to_eval(call: ir.Call) -> bool:
    if isinstance(call.func, ir.Attribute) and call.func.attr == "eval":
        return True
    given = call.args[0].value if call.args else None
    return isinstance(given, ir.Literal) and given.value is False
