"""All tables as one: what is known of a dotted path."""

from __future__ import annotations

import re
from functools import cache

from trainlint.libraries.spec import (
    Activation,
    Context,
    Copy,
    Creates,
    Cuts,
    DropoutFunction,
    Harmless,
    Inject,
    Layer,
    Reshape,
    Same,
    Settings,
    Spec,
    Table,
)

_COMPUTES = (
    Activation,
    Context,
    Copy,
    Creates,
    Cuts,
    DropoutFunction,
    Harmless,
    Layer,
    Reshape,
    Same,
    Settings,
)
"""What makes or computes something, and begins no step of training by that."""


class Catalogue:
    """Looks dotted paths up in the tables."""

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self._calls: dict[str, Spec] = {}
        self._not_models: list[str] = []
        self._methods: list[tuple[str, str, Spec]] = []
        self._constructors: list[tuple[str, str, Spec]] = []
        self._prefixes: list[tuple[str, Spec]] = []
        self._aliases: list[tuple[str, str]] = []
        self._module_bases: set[str] = set()
        self._lightning: set[str] = set()
        self._plain: set[str] = set()
        self._harmless: set[str] = set()
        self._numbers: set[str] = set()
        self._adapter_methods: dict[str, str] = {}
        self._native_prefixes: list[str] = []
        self._native_methods: dict[str, str] = {}
        for table in tables:
            self._calls.update(table.calls)
            self._methods += table.methods
            self._constructors += table.constructors
            self._not_models += table.not_models
            self._prefixes += table.prefixes
            self._aliases += table.aliases
            self._module_bases |= set(table.module_bases)
            self._lightning |= set(table.lightning_bases)
            self._plain |= set(table.plain_bases)
            self._harmless |= set(table.harmless_packages)
            self._numbers |= set(table.number_packages)
            self._adapter_methods.update(table.adapter_methods)
            self._native_prefixes += table.native_prefixes
            self._native_methods.update(table.native_methods)
        known = (*self._calls, *self._module_bases, *(prefix for prefix, _, _ in self._methods))
        self.packages = frozenset(path.split(".", 1)[0] for path in known)
        """The packages that the tables speak of."""

    @cache  # noqa: B019 - one catalogue lives as long as the process
    def canonical(self, path: str) -> str:
        """The one name of something that can be imported under several."""
        for prefix, replacement in self._aliases:
            if path == prefix or path.startswith(prefix + "."):
                return self.canonical(replacement + path[len(prefix) :])
        return path

    @cache  # noqa: B019
    def call(self, path: str) -> Spec | None:
        """What calling the path does."""
        found = self._calls.get(path)
        if found is not None:
            return found
        owner, _, name = path.rpartition(".")
        for prefix, method, spec in self._methods:
            if name == method and owner.startswith(prefix):
                return Harmless() if owner.endswith(tuple(self._not_models)) else spec
        for prefix, named, spec in self._constructors:
            if owner.startswith(prefix) and re.fullmatch(named, name):
                return spec
        for prefix, spec in self._prefixes:
            if path.startswith(prefix):
                return spec
        return None

    def knows(self, path: str) -> bool:
        """Whether any table mentions the path."""
        return self.call(self.canonical(path)) is not None

    def matters(self, path: str) -> bool:
        """Whether calling the path makes or changes something: so does what mentions it."""
        spec = self.call(self.canonical(path))
        return spec is not None and not isinstance(spec, Activation | Reshape)

    def trains(self, path: str) -> bool:
        """Whether calling the path can take part in training, beyond computing something."""
        spec = self.call(self.canonical(path))
        return spec is not None and not isinstance(spec, _COMPUTES)

    def is_module_base(self, path: str) -> bool:
        """Whether a class of that path is a torch.nn.Module."""
        if path in self._module_bases or path in self._lightning:
            return True
        return path.startswith("torch.nn.") and path.count(".") >= 2 and "functional" not in path

    def is_lightning_base(self, path: str) -> bool:
        """Whether a class of that path is a LightningModule."""
        return path in self._lightning

    def is_adapter_model(self, path: str) -> bool:
        """Whether instances of that class hold adapters."""
        return path in self._module_bases and isinstance(self.call(path), Inject)

    def is_container(self, path: str) -> bool:
        """Whether a module of that class has no parameters beside those of its parts."""
        spec = self.call(path)
        return isinstance(spec, Layer) and spec.container

    def is_plain_base(self, path: str) -> bool:
        """Whether a base adds nothing that matters here."""
        return path in self._plain or path.split(".", 1)[0] in self._harmless

    def is_harmless(self, path: str) -> bool:
        """Whether a call into that package leaves models and optimizers alone."""
        return path.split(".", 1)[0] in self._harmless

    def gives_numbers(self, path: str) -> bool:
        """Whether what a call into that package returns is no tensor of torch's."""
        return path.split(".", 1)[0] in self._numbers

    def adapter_method(self, name: str) -> str | None:
        """What a PeftModel's method of that name does."""
        return self._adapter_methods.get(name)

    def native_method(self, library: str, name: str) -> str | None:
        """What an adapter method does that a library's models have themselves."""
        if not library.startswith(tuple(self._native_prefixes)):
            return None
        return self._native_methods.get(name)
