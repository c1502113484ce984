"""The rules: one class in one file each, found by walking this package."""

from __future__ import annotations

from functools import cache
from typing import Any

from trainlint.core.catalogue import Catalogue, RuleInfo
from trainlint.core.rule import Rule


@cache
def all_rules() -> tuple[type[Rule[Any]], ...]:
    """Every rule class, sorted by code."""
    from importlib import import_module
    from pkgutil import walk_packages

    found: dict[str, type[Rule[Any]]] = {}
    for module in walk_packages(__path__, prefix=f"{__name__}."):
        if not module.ispkg:
            _collect(import_module(module.name), found)
    return tuple(found[code] for code in sorted(found))


def _collect(module: object, found: dict[str, type[Rule[Any]]]) -> None:
    """Take the rules that `module` itself defines."""
    for value in vars(module).values():
        if not (isinstance(value, type) and issubclass(value, Rule) and value.code):
            continue
        if value.__module__ != getattr(module, "__name__", ""):
            continue
        if found.setdefault(value.code, value) is not value:
            raise TypeError(f"two rules share the code {value.code}")


def describe(rule: type[Rule[Any]]) -> RuleInfo:
    """The row of the catalogue that stands for a rule class."""
    return RuleInfo(
        rule.code,
        rule.name,
        rule.severity,
        rule.default,
        rule.static,
        rule.live,
        bool(rule.on),
        rule.summary(),
        rule.triggers,
    )


@cache
def catalogue() -> Catalogue:
    """The catalogue of all rules."""
    return Catalogue(describe(rule) for rule in all_rules())
