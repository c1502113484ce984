"""What is compiled when it is first used: the methods of dataclasses, and regular expressions.

A short run is over before it has used half of what its modules offer, and to compile that is the
dearest part of importing them.

`dataclasses.dataclass` compiles up to six functions for each class. Here it only collects the
fields, and does what else needs no compiling; `__init__`, `__eq__` and `__hash__` are written by
the first call. In two respects this is not what it would have made: a frozen object refuses every
assignment, also that of an attribute which a subclass that is no dataclass would add, and a frozen
class has to have slots.

A pattern that every run uses, or that stands in an inner loop, is better off with `re.compile`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

__all__ = ["dataclass", "pattern"]

T = TypeVar("T")
Method = Callable[..., Any]


def _dataclass(
    *, frozen: bool = False, slots: bool = False, eq: bool = True, kw_only: bool = False
) -> Callable[[type[T]], type[T]]:
    """Make a class a dataclass: `dataclasses.dataclass`, but with methods compiled late."""
    if frozen and not slots:
        raise TypeError("a frozen dataclass has to have slots")
    collected: Callable[[type[T]], type[T]] = dataclasses.dataclass(
        init=False, repr=False, eq=False, kw_only=kw_only, slots=slots
    )

    def make(plain: type[T]) -> type[T]:
        cls = collected(plain)
        methods: dict[str, Method | None] = {"__repr__": _repr}
        methods["__init__"] = _late(cls, "__init__", _frozen_init if frozen else _init)
        if eq:
            methods["__eq__"] = _late(cls, "__eq__", _eq)
            methods["__hash__"] = _late(cls, "__hash__", _hash) if frozen else None
        if frozen:
            methods.update(_FROZEN)
        for name, method in methods.items():
            if name not in vars(cls):
                setattr(cls, name, method)
        return cls

    return make


class _Pattern:
    """A regular expression that is compiled when it is first asked for one of its methods."""

    def __init__(self, pattern: str | bytes, flags: int = 0) -> None:
        self.pattern = pattern
        self.flags = flags

    def __getattr__(self, name: str) -> Any:
        """Called for what is not kept yet."""
        self.__dict__["_compiled"] = compiled = self.__dict__.get("_compiled") or re.compile(
            self.pattern, self.flags
        )
        self.__dict__[name] = method = getattr(compiled, name)
        return method


if TYPE_CHECKING:
    from dataclasses import dataclass
    from re import compile as pattern
else:
    dataclass = _dataclass
    pattern = _Pattern


def _late(cls: type, name: str, write: Callable[[type], Method]) -> Method:
    """A method that is written, and put in its own place, when it is first called."""

    def first(self: object, *args: object, **keywords: object) -> Any:
        method = write(cls)
        setattr(cls, name, method)
        return method(self, *args, **keywords)

    return first


def _init(cls: type) -> Method:
    return _initializer(cls, "self.{0} = {0}", {})


def _frozen_init(cls: type) -> Method:
    """Assigns through the slots: the class's own `__setattr__` refuses."""
    slots = {f"_set_{f.name}": getattr(cls, f.name).__set__ for f in fields(cls)}
    return _initializer(cls, "_set_{0}(self, {0})", slots)


def _initializer(cls: type, assignment: str, scope: dict[str, object]) -> Method:
    by_position: list[str] = []
    by_keyword: list[str] = []
    body: list[str] = []
    scope = {**scope, "_MISSING": MISSING}
    for field in fields(cls):
        (by_keyword if field.kw_only else by_position).append(_parameter(field, scope))
        if field.default_factory is not MISSING:
            body.append(f"if {field.name} is _MISSING: {field.name} = _make_{field.name}()")
        body.append(assignment.format(field.name))
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ["self", *by_position, *(["*"] if by_keyword else []), *by_keyword]
    return _compiled(cls, "__init__", parameters, body, scope)


def _parameter(field: Field[Any], scope: dict[str, object]) -> str:
    """A field as a parameter; what its default needs goes into the scope."""
    if field.default_factory is not MISSING:
        scope[f"_make_{field.name}"] = field.default_factory
        return f"{field.name}=_MISSING"
    if field.default is not MISSING:
        scope[f"_default_{field.name}"] = field.default
        return f"{field.name}=_default_{field.name}"
    return field.name


def _eq(cls: type) -> Method:
    compared = [f.name for f in fields(cls) if f.compare]
    body = [
        "if other.__class__ is self.__class__:",
        f" return {_values('self', compared)} == {_values('other', compared)}",
        "return NotImplemented",
    ]
    return _compiled(cls, "__eq__", ["self", "other"], body, {})


def _hash(cls: type) -> Method:
    hashed = [f.name for f in fields(cls) if (f.compare if f.hash is None else f.hash)]
    return _compiled(cls, "__hash__", ["self"], [f"return hash({_values('self', hashed)})"], {})


def _values(of: str, names: list[str]) -> str:
    return "(" + "".join(f"{of}.{name}," for name in names) + ")"


def _compiled(
    cls: type, name: str, parameters: list[str], body: list[str], scope: dict[str, object]
) -> Method:
    lines = "".join(f"\n {line}" for line in body or ["pass"])
    exec(f"def {name}({', '.join(parameters)}):{lines}", scope)
    method: Any = scope[name]
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    return method  # type: ignore[no-any-return]


@recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
    return f"{type(self).__qualname__}({shown})"


def _refuse_assignment(self: object, name: str, value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(self: object, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[object]:
    return [getattr(self, field.name) for field in fields(self)]


def _restore(self: Any, state: list[object]) -> None:
    """Unpickling assigns, which a frozen object refuses."""
    for field, value in zip(fields(self), state):
        object.__setattr__(self, field.name, value)


_FROZEN: dict[str, Method] = {
    "__setattr__": _refuse_assignment,
    "__delattr__": _refuse_deletion,
    "__getstate__": _state,
    "__setstate__": _restore,
}
