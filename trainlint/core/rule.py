"""What a rule is: one class in one file, whose docstring is its page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import field, replace
from typing import ClassVar, Generic, TypeVar

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.facts import Origin, Site
from trainlint.core.late import dataclass

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule's verdict at a place, before it has rows and columns."""

    rule: type[Rule[Event]]
    site: Site
    message: str
    severity: Severity
    trail: tuple[Origin, ...] = ()
    help: str | None = None
    names: tuple[str, ...] = ()
    """Dotted names of the modules or parameters at fault (the runtime half fills it)."""
    detail: dict[str, str] = field(default_factory=dict, compare=False)

    def because(self, *origins: Origin | None) -> Finding:
        """The finding with more steps in its evidence trail; None is left out."""
        known = tuple(o for o in origins if o is not None and o not in self.trail)
        return replace(self, trail=self.trail + known)

    def at(self, severity: Severity) -> Finding:
        """The finding with another severity."""
        return replace(self, severity=severity)

    def mend(self, text: str) -> Finding:
        """The finding with advice on how to mend it."""
        return replace(self, help=text)

    def about(self, *names: str) -> Finding:
        """The finding with the modules or parameters it is about."""
        return replace(self, names=names)


class Rule(Generic[E]):
    """Base of all rules; a subclass registers itself by its code.

    Class keywords: `code`, `name` (kebab case), `severity`, `since`, and `default=False` for a
    rule that is off until it is selected by its full code, its name or `ALL`.
    """

    code: ClassVar[str] = ""
    name: ClassVar[str] = ""
    severity: ClassVar[Severity] = Severity.WARNING
    since: ClassVar[str] = ""
    default: ClassVar[bool] = True
    message: ClassVar[str] = ""
    on: ClassVar[tuple[type[Event], ...]] = ()
    """The events it listens to; a rule about the checking itself has none."""
    triggers: ClassVar[tuple[bytes, ...]] = ()
    """A file in which none of these literal byte strings occurs cannot violate the rule."""
    live: ClassVar[bool] = False
    """The runtime half reports it."""
    static: ClassVar[bool] = True
    """The static half reports it."""

    def __init_subclass__(
        cls,
        *,
        code: str,
        name: str,
        severity: Severity,
        since: str = "0.1",
        default: bool = True,
    ) -> None:
        super().__init_subclass__()
        cls.code, cls.name, cls.severity = code, name, severity
        cls.since, cls.default = since, default

    def check(self, event: E) -> Iterator[Finding]:
        """Yield what is wrong with this event."""
        raise NotImplementedError

    def finding(self, site: Site, **values: object) -> Finding:
        """A finding whose message is the rule's template filled with `values`."""
        text = self.message.format(**values)
        return Finding(type(self), site, text, self.severity)  # type: ignore[arg-type]

    @classmethod
    def page(cls) -> str:
        """The rule's documentation, as Markdown."""
        return inspect.cleandoc(cls.__doc__ or "")

    @classmethod
    def summary(cls) -> str:
        """The first line of the page."""
        return (cls.__doc__ or "").strip().partition("\n")[0]
