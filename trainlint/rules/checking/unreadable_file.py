"""TL002."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class UnreadableFile(Rule[Event], code="TL002", name="unreadable-file", severity=Severity.ERROR):
    """A file that cannot be read or decoded.

    ## Why is this bad?
    What cannot be read cannot be checked: a file or folder without permission, a pipe, bytes that
    are not in the encoding that the file declares (UTF-8 unless a `# -*- coding: ... -*-` line
    says otherwise), a notebook that is not valid JSON, a file larger than trainlint parses, Python
    of a form that its parser, libcst, does not know (`(name): int = 1`) where
    a rule has to look at it.

    This is reported whatever rules are selected, so that a file that could not be checked never
    looks like a clean one; `ignore = ["TL002"]` or `per-file-ignores` turns it off.

    ## How to fix
    Save the file as UTF-8, declare its encoding in the first two lines, mend its permissions, or
    exclude it.
    """

    message = "{problem}"
