"""TL001."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class InvalidSyntax(Rule[Event], code="TL001", name="invalid-syntax", severity=Severity.ERROR):
    """A file that cannot be parsed.

    ## Why is this bad?
    A file that is not Python cannot be checked, and cannot run. trainlint reads the syntax of
    Python 3.8 to 3.14, whatever version it runs on. To protect itself it also refuses code that
    is nested beyond what any Python accepts, and says which limit was passed.

    This is reported whatever rules are selected, so that a file that could not be checked never
    looks like a clean one; `ignore = ["TL001"]` or `per-file-ignores` turns it off.

    ## Example
    ```python
    def train(model:  # error: [invalid-syntax]
        model.train()
    ```

    ## Use instead
    ```python
    def train(model):
        model.train()
    ```
    """

    message = "{problem}"
