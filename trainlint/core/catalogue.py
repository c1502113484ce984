"""Which rules there are, and which of them a selection means.

Works on `RuleInfo` rows and not on rule classes, so that a run whose results are all cached never
imports a rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from trainlint.core.diagnostic import Severity


class RuleInfo(NamedTuple):
    """What selection and reporting need to know of a rule."""

    code: str
    name: str
    severity: Severity
    default: bool
    static: bool
    live: bool
    flow: bool
    """It listens to events, so that a file has to be interpreted for it."""
    summary: str
    triggers: tuple[bytes, ...]


class UnknownSelector(ValueError):
    """A code, prefix or name that means no rule."""

    def __init__(self, selector: str, nearest: str | None) -> None:
        self.selector = selector
        self.nearest = nearest
        hint = f"; did you mean `{nearest}`?" if nearest else ""
        super().__init__(f"unknown rule `{selector}`{hint}")


class Layer(NamedTuple):
    """One source of selection: a configuration file or the command line.

    `select` is None where the layer does not choose anew but adds to the layer below.
    """

    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


EVERYTHING = "ALL"
DEFAULT_SELECT = ("TL",)
UNSELECTABLE = ("TL001", "TL002")
"""Reported whatever is selected, unless they are ignored: a file that could not be checked must
not look like a clean one."""

_PREFIX = re.compile(r"TL\d{0,2}\Z")


class Catalogue:
    """All rules, by code and by name."""

    def __init__(self, rules: Iterable[RuleInfo]) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.code))
        self.by_code = {rule.code: rule for rule in self.rules}
        self._by_name = {rule.name: rule for rule in self.rules}

    def find(self, selector: str) -> RuleInfo | None:
        """The one rule with this code or name."""
        return self.by_code.get(selector) or self._by_name.get(selector)

    def matches(self, selector: str) -> frozenset[str]:
        """Every rule that a selector covers, also those that are off by default."""
        if rule := self.find(selector):
            return frozenset((rule.code,))
        if selector == EVERYTHING:
            return frozenset(self.by_code)
        if _PREFIX.match(selector):
            found = frozenset(code for code in self.by_code if code.startswith(selector))
            if found:
                return found
        raise UnknownSelector(selector, self.nearest(selector))

    def selects(self, selector: str) -> frozenset[str]:
        """The rules that a selector turns on: a prefix leaves those alone that are off."""
        found = self.matches(selector)
        if selector == EVERYTHING or self.find(selector):
            return found
        return frozenset(code for code in found if self.by_code[code].default)

    def nearest(self, selector: str) -> str | None:
        """The known code, name or prefix that looks most like `selector`."""
        from difflib import get_close_matches

        known = {EVERYTHING, *(code[:3] for code in self.by_code), *self.by_code, *self._by_name}
        by_fold = {word.casefold(): word for word in sorted(known)}
        close = get_close_matches(selector.casefold(), sorted(by_fold), n=1)
        return by_fold[close[0]] if close else None

    def resolve(self, layers: Sequence[Layer]) -> frozenset[str]:
        """The rules that are on, from the lowest layer (defaults) to the highest (flags).

        Within a layer the more specific selector wins: `--select TL1 --ignore TL101` leaves
        TL101 out, `--ignore TL1 --select TL101` has it alone.
        """
        chosen = frozenset[str]()
        always = frozenset(code for code in UNSELECTABLE if code in self.by_code)
        for layer in (Layer(select=DEFAULT_SELECT), *layers):
            if layer.select is not None:
                chosen = always
            chosen = self._apply(layer, chosen)
        return chosen

    def _apply(self, layer: Layer, chosen: frozenset[str]) -> frozenset[str]:
        wanted = (*(layer.select or ()), *layer.extend_select)
        steps = [(self._weight(s), 0, self.selects(s)) for s in wanted]
        steps += [(self._weight(s), 1, self.matches(s)) for s in layer.ignore]
        for _, removes, codes in sorted(steps, key=lambda step: step[:2]):
            chosen = chosen - codes if removes else chosen | codes
        return chosen

    def _weight(self, selector: str) -> int:
        if self.find(selector):
            return 100
        return 0 if selector == EVERYTHING else len(selector)
