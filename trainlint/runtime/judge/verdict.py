"""A verdict: one cause, before it has a step and a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from trainlint.core.diagnostic import Severity
from trainlint.runtime.codes import LIVE
from trainlint.runtime.report import Violation


@dataclass(frozen=True, slots=True)
class Verdict:
    """One cause, before it has a step and a line."""

    code: str
    message: str
    modules: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    severity: Severity | None = None
    related: tuple[str, ...] = ()
    help: str | None = None
    cause: str = ""
    """What makes two verdicts of one code the same one; the names, if empty."""
    line: str | None = None
    """The user's line at fault, if it is not the one now running."""

    @property
    def key(self) -> tuple[str, object]:
        """Two verdicts with the same key are one finding."""
        return self.code, self.cause or (self.modules, self.parameters)

    def at(self, line: str | None) -> Verdict:
        """The same verdict at another of the user's lines."""
        return replace(self, line=line)

    def violation(self, step: int | None = None, where: str | None = None) -> Violation:
        """What the user sees: the verdict with its rule's name, its step (from 1) and its line."""
        rule = LIVE[self.code]
        severity = self.severity or rule.severity
        return Violation(
            code=rule.code,
            name=rule.name,
            severity=severity.value,
            message=self.message,
            modules=self.modules,
            parameters=self.parameters,
            step=step,
            where=self.line or where,
            related=self.related,
            help=self.help,
        )


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{n}`" for n in names) or "none"
