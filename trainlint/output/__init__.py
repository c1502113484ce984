"""Diagnostics in, text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainlint.core.catalogue import Catalogue
from trainlint.core.diagnostic import Diagnostic
from trainlint.output.text import Frames, concise, full

Machine = Callable[[Sequence[Diagnostic], str], str]


def render(
    output_format: str,
    diagnostics: Sequence[Diagnostic],
    cwd: str,
    *,
    colour: bool = False,
    catalogue: Callable[[], Catalogue] | None = None,
) -> str:
    """The whole output of a run in one of the formats; paths are shown relative to `cwd`."""
    if output_format == "full":
        return full(diagnostics, cwd, Frames(), colour)
    if output_format == "concise":
        return concise(diagnostics, cwd, colour)
    if output_format == "sarif":
        from trainlint.output.sarif import sarif

        return sarif(diagnostics, cwd, catalogue() if catalogue else Catalogue(()))
    from trainlint.output import formats

    writers: dict[str, Machine] = {
        "json": formats.json_array,
        "json-lines": formats.json_lines,
        "github": formats.github,
        "gitlab": formats.gitlab,
        "junit": formats.junit,
        "rdjson": formats.rdjson,
    }
    return writers[output_format](diagnostics, cwd)
