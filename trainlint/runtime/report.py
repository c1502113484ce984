"""What a live check hands back: violations, the report, the error."""

from __future__ import annotations

import html
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from operator import methodcaller
from pathlib import Path
from typing import Any

from trainlint.core.diagnostic import Severity

_SHOWN = 4
_DIGITS = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)|(?<=\.)\d+$")


@dataclass(frozen=True, slots=True)
class Violation:
    """One cause of trouble in a live run."""

    code: str
    name: str
    severity: str
    message: str
    modules: tuple[str, ...] = ()
    """Dotted names of the sub-modules it is about."""
    parameters: tuple[str, ...] = ()
    """Dotted names of the parameters it is about."""
    step: int | None = None
    """The optimizer step during which it showed, from 1; None outside a watch."""
    where: str | None = None
    """The user's own line, as `file:line`."""
    related: tuple[str, ...] = ()
    """The evidence: earlier lines, as `file:line: what happened there`."""
    help: str | None = None

    @property
    def acts(self) -> bool:
        """Errors and warnings act; info stands in the report only."""
        return self.severity != Severity.INFO.value

    def __str__(self) -> str:
        place = "" if self.where is None else f"{self.where}: "
        step = "" if self.step is None else f" (step {self.step})"
        lines = [f"{place}{self.code} [{self.name}] {self.message}{step}"]
        lines += [f"    {note}" for note in self.related]
        if self.help:
            lines.append(f"    help: {self.help}")
        return "\n".join(lines)


class TrainingStateError(AssertionError):
    """A model, its optimizer or its training loop is not in the state it should be in.

    An AssertionError, so that a plain pytest run shows it as a failed assertion.
    """

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations: tuple[Violation, ...] = tuple(violations)
        super().__init__(self._text())

    def _text(self) -> str:
        if len(self.violations) == 1:
            return str(self.violations[0])
        head = f"{len(self.violations)} violations"
        return "\n".join([head, *(f"- {v}" for v in self.violations)])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.violations,)


HIDDEN = methodcaller("errisinstance", TrainingStateError)
"""For `__tracebackhide__`: pytest shows the user's frames and leaves out ours, but for the last,
in `watching/findings.py`: the last one is printed whole, and torch's would be a page."""


@dataclass(slots=True)
class Report:
    """Everything one look, or one watch, found."""

    violations: list[Violation] = field(default_factory=list)
    steps: int = 0
    """How many optimizer steps were seen."""

    @property
    def ok(self) -> bool:
        """Nothing that acts was found (info does not count)."""
        return not any(v.acts for v in self.violations)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        found = [asdict(violation) for violation in self.violations]
        return {"ok": self.ok, "steps": self.steps, "violations": found}

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict()` as JSON, atomically."""
        _write(Path(path), json.dumps(self.to_dict(), indent=2) + "\n")

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one page that needs nothing else, atomically."""
        _write(Path(path), _page(self))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write JSON or HTML, as the name ends."""
        if Path(path).suffix == ".html":
            self.to_html(path)
        else:
            self.to_json(path)

    def __str__(self) -> str:
        seen = f"{self.steps} step{'' if self.steps == 1 else 's'} seen"
        if not self.violations:
            return f"trainlint: nothing found, {seen}"
        rows = [("code", "severity", "step", "where", "message")]
        for v in self.violations:
            step = "-" if v.step is None else str(v.step)
            rows.append((f"{v.code} {v.name}", v.severity, step, v.where or "-", v.message))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]
            )
            for row in rows
        ]
        count = len(self.violations)
        return "\n".join([f"trainlint: {count} finding{'s'[: count > 1]}, {seen}", *lines])


def _write(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent or ".", prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _page(report: Report) -> str:
    head = "".join(f"<th>{h}</th>" for h in ("code", "severity", "step", "where", "message"))
    body = []
    for v in report.violations:
        names = ", ".join((*v.modules, *v.parameters)[:20])
        cells = (f"{v.code} {v.name}", v.severity, v.step or "", v.where or "", v.message)
        row = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
        body.append(f"<tr class={v.severity}>{row}</tr>")
        if names:
            body.append(f"<tr><td></td><td colspan=4><code>{html.escape(names)}</code></td></tr>")
    style = (
        "body{font:15px sans-serif;margin:2em}td,th{text-align:left;padding:.3em .8em;"
        "border-top:1px solid #ddd;vertical-align:top}.error td{background:#fee}"
        ".warning td{background:#fff6e0}"
    )
    return (
        "<!doctype html><meta charset=utf-8><title>trainlint</title>"
        f"<style>{style}</style><h1>trainlint</h1>"
        f"<p>{len(report.violations)} findings, {report.steps} steps</p>"
        f"<table><tr>{head}</tr>{''.join(body)}</table>\n"
    )


def _pattern(name: str) -> str:
    short = name.removeprefix("base_model.model.").removeprefix("module.")
    return _DIGITS.sub("*", short)


def grouped(names: Sequence[str], universe: Iterable[str] = ()) -> str:
    """Names for a sentence, those that differ only in layer numbers taken together.

    `universe` are all the names there are, so that "4 of 32" can be said.
    """
    counts = Counter(map(_pattern, names))
    totals = Counter(map(_pattern, universe))
    parts = []
    for pattern, count in counts.most_common(_SHOWN):
        total = totals[pattern]
        if count == 1 and total <= 1:
            parts.append(f"`{pattern or 'the model itself'}`")
        elif total > count or (total and total == count):
            parts.append(f"{count} of {total} `{pattern}`")
        else:
            parts.append(f"{count} `{pattern}`")
    rest = sum(counts.values()) - sum(c for _, c in counts.most_common(_SHOWN))
    if rest:
        parts.append(f"{rest} more")
    return ", ".join(parts)
