"""The arguments of one call, and how they meet a function's parameters."""

from __future__ import annotations

from trainlint.core.late import dataclass
from trainlint.flow import ir
from trainlint.flow.values import TupleValue, Value


@dataclass(frozen=True, slots=True)
class Arguments:
    """Evaluated arguments; `complete` is False when a `*args` or `**kwargs` hid some."""

    positional: tuple[Value, ...] = ()
    keywords: tuple[tuple[str, Value], ...] = ()
    complete: bool = True
    exprs: tuple[ir.Argument, ...] = ()
    spread: tuple[Value, ...] = ()
    """All that `*layers` can give where only how many is not known; empty if more is hidden."""

    def get(self, name: str, position: int | None = None) -> Value | None:
        """An argument by keyword or position."""
        for key, value in self.keywords:
            if key == name:
                return value
        if position is not None and position < len(self.positional):
            return self.positional[position]
        return None

    def expr(self, name: str, position: int | None = None) -> ir.Expr | None:
        """The expression of an argument."""
        for argument in self.exprs:
            if argument.name == name:
                return argument.value
        plain = [a for a in self.exprs if a.name is None]
        if position is not None and position < len(plain) and not any(a.star for a in plain):
            return plain[position].value
        return None

    @property
    def values(self) -> tuple[Value, ...]:
        """All values."""
        return (*self.positional, *(v for _, v in self.keywords))

    def with_first(self, value: Value) -> Arguments:
        """The same with one more in front: a bound receiver."""
        return Arguments((value, *self.positional), self.keywords, self.complete, ())


@dataclass(frozen=True, slots=True)
class Bound:
    """What each parameter got; a missing name was not given."""

    values: dict[str, Value]
    extra: tuple[tuple[str, Value], ...] = ()


def bind(function: ir.Function, arguments: Arguments) -> Bound:
    """Match arguments with parameters as Python does, without complaint."""
    values: dict[str, Value] = {}
    rest = list(arguments.positional)
    keywords = dict(arguments.keywords)
    for parameter in function.parameters:
        match parameter.kind:
            case ir.ParameterKind.STAR:
                if arguments.complete:
                    values[parameter.name] = TupleValue(tuple(rest))
                rest = []
            case ir.ParameterKind.DOUBLE_STAR:
                pass
            case ir.ParameterKind.KEYWORD_ONLY:
                if parameter.name in keywords:
                    values[parameter.name] = keywords.pop(parameter.name)
            case _:
                if rest:
                    values[parameter.name] = rest.pop(0)
                elif parameter.name in keywords:
                    values[parameter.name] = keywords.pop(parameter.name)
    return Bound(values, tuple(keywords.items()))
