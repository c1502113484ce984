"""What other programs read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from trainlint.core.diagnostic import Diagnostic, Fix, Position, Severity, Span
from trainlint.output.text import place, shown_path

URL = "https://trainlint.readthedocs.io"


def _location(position: Position) -> dict[str, int]:
    return {"row": position.row, "column": position.column}


def _range(span: Span) -> dict[str, Any]:
    return {"location": _location(span.start), "end_location": _location(span.end)}


def as_dict(found: Diagnostic) -> dict[str, Any]:
    """A diagnostic as the contract's JSON; the field names are ruff's."""
    return {
        "code": found.code,
        "name": found.name,
        "severity": found.severity.value,
        "message": found.message,
        "filename": found.filename,
        "cell": found.cell,
        **_range(found.span),
        "related": [
            {
                "message": related.message,
                "filename": related.filename,
                **({} if related.cell is None else {"cell": related.cell}),
                **_range(related.span),
            }
            for related in found.related
        ],
        "fix": _fix(found.fix) if found.fix else None,
        "noqa_row": found.span.start.row,
        "url": found.url,
    }


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "applicability": fix.applicability.value,
        "message": fix.message,
        "edits": [{"content": edit.content, **_range(edit.span)} for edit in fix.edits],
    }


def json_array(diagnostics: Sequence[Diagnostic], cwd: str) -> str:
    """One array."""
    if not diagnostics:
        return "[]\n"
    return json.dumps([as_dict(found) for found in diagnostics], indent=2) + "\n"


def json_lines(diagnostics: Sequence[Diagnostic], cwd: str) -> str:
    """One object a line."""
    return "".join(json.dumps(as_dict(found)) + "\n" for found in diagnostics)


def statistics(diagnostics: Sequence[Diagnostic]) -> str:
    """Counts by rule, as JSON."""
    counts = Counter((d.code, d.name) for d in diagnostics)
    fixable = {d.code for d in diagnostics if d.fix}
    rows = [
        {"code": code, "name": name, "count": count, "fixable": code in fixable}
        for (code, name), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    return json.dumps(rows, indent=2) + "\n"


_GITHUB_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def github(diagnostics: Sequence[Diagnostic], cwd: str) -> str:
    """Workflow commands, which GitHub shows beside the changed lines."""
    return "".join(_github(found, cwd) for found in diagnostics)


def _github(found: Diagnostic, cwd: str) -> str:
    span = found.span
    properties = {"title": f"trainlint ({found.code})", "file": found.filename}
    if found.cell is None:  # GitHub has no lines for a notebook's cells
        properties |= {"line": str(span.start.row), "col": str(span.start.column)}
        properties |= {"endLine": str(span.end.row), "endColumn": str(span.end.column)}
    shown = ",".join(f"{key}={_escape_property(value)}" for key, value in properties.items())
    text = f"{place(found.filename, found.cell, span, cwd)}: {found.code} {found.message}"
    return f"::{_GITHUB_LEVELS[found.severity]} {shown}::{_escape_data(text)}\n"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")


_GITLAB_LEVELS = {Severity.ERROR: "major", Severity.WARNING: "minor", Severity.INFO: "info"}


def fingerprints(diagnostics: Sequence[Diagnostic], cwd: str) -> list[str]:
    """A mark for each that survives moved lines: file, rule, message, and a count of the same."""
    seen: Counter[str] = Counter()
    marks = []
    for found in diagnostics:
        key = "\0".join((shown_path(found.filename, cwd), found.code, found.message))
        seen[key] += 1
        text = f"{key}\0{seen[key]}".encode("utf-8", "backslashreplace")
        marks.append(hashlib.sha256(text).hexdigest()[:32])
    return marks


def gitlab(diagnostics: Sequence[Diagnostic], cwd: str) -> str:
    """GitLab's code quality report."""
    rows = [
        {
            "description": f"{found.code} {found.message}",
            "check_name": found.name,
            "fingerprint": fingerprint,
            "severity": _GITLAB_LEVELS[found.severity],
            "location": {
                "path": shown_path(found.filename, cwd),
                "positions": {
                    "begin": {"line": found.span.start.row, "column": found.span.start.column},
                    "end": {"line": found.span.end.row, "column": found.span.end.column},
                },
            },
        }
        for found, fingerprint in zip(diagnostics, fingerprints(diagnostics, cwd), strict=True)
    ]
    return json.dumps(rows, indent=2) + "\n"


def junit(diagnostics: Sequence[Diagnostic], cwd: str) -> str:
    """JUnit's XML: one suite a file, one failed case a finding."""
    from xml.sax.saxutils import escape, quoteattr

    def safe(text: str) -> str:
        return "".join(c if c >= " " and not "\ud800" <= c <= "\udfff" else "?" for c in text)

    by_file: dict[str, list[Diagnostic]] = {}
    for found in diagnostics:
        by_file.setdefault(found.filename, []).append(found)
    total = f'tests="{len(diagnostics)}" failures="{len(diagnostics)}" errors="0"'
    out = ['<?xml version="1.0" encoding="utf-8"?>', f'<testsuites name="trainlint" {total}>']
    for filename, rows in by_file.items():
        count = f'tests="{len(rows)}" failures="{len(rows)}" errors="0" skipped="0"'
        name = quoteattr(safe(shown_path(filename, cwd)))
        out.append(f'  <testsuite name={name} {count} package="trainlint">')
        for found in rows:
            line, column = found.span.start
            out.append(
                f"    <testcase name={quoteattr(f'{found.code} {found.name}')} classname={name} "
                f'line="{line}" column="{column}" time="0">'
            )
            message = safe(found.message)
            where = safe(place(found.filename, found.cell, found.span, cwd))
            out.append(
                f"      <failure message={quoteattr(message)}>{escape(f'{where}: {message}')}"
                "</failure>"
            )
            out.append("    </testcase>")
        out.append("  </testsuite>")
    out.append("</testsuites>")
    return "\n".join(out) + "\n"


_RD_LEVELS = {Severity.ERROR: "ERROR", Severity.WARNING: "WARNING", Severity.INFO: "INFO"}


def _rd_range(span: Span) -> dict[str, Any]:
    return {
        "start": {"line": span.start.row, "column": span.start.column},
        "end": {"line": span.end.row, "column": span.end.column},
    }


def rdjson(diagnostics: Sequence[Diagnostic], cwd: str) -> str:
    """Reviewdog's format."""
    rows: list[dict[str, Any]] = []
    for found in diagnostics:
        row: dict[str, Any] = {
            "message": found.message,
            "location": {
                "path": shown_path(found.filename, cwd),
                "range": _rd_range(found.span),
            },
            "severity": _RD_LEVELS[found.severity],
            "code": {"value": found.code, "url": found.url},
        }
        if found.related:
            row["related_locations"] = [
                {
                    "message": related.message,
                    "location": {
                        "path": shown_path(related.filename, cwd),
                        "range": _rd_range(related.span),
                    },
                }
                for related in found.related
            ]
        if found.fix:
            row["suggestions"] = [
                {"range": _rd_range(edit.span), "text": edit.content} for edit in found.fix.edits
            ]
        rows.append(row)
    source = {"name": "trainlint", "url": URL}
    document = {"source": source, "severity": "WARNING", "diagnostics": rows}
    return json.dumps(document, indent=2) + "\n"
