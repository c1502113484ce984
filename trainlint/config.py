"""Settings: what a configuration file says, where it is looked for, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from typing import Any, NamedTuple

from trainlint.core.catalogue import DEFAULT_SELECT, Catalogue, Layer, UnknownSelector
from trainlint.core.late import dataclass

OUTPUT_FORMATS = (
    "full",
    "concise",
    "json",
    "json-lines",
    "sarif",
    "github",
    "gitlab",
    "junit",
    "rdjson",
)

DEFAULT_EXCLUDE = (
    ".bzr",
    ".direnv",
    ".eggs",
    ".git",
    ".git-rewrite",
    ".hg",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".nox",
    ".pants.d",
    ".pyenv",
    ".pytest_cache",
    ".pytype",
    ".ruff_cache",
    ".svn",
    ".tox",
    ".trainlint_cache",
    ".venv",
    ".vscode",
    "__pycache__",
    "__pypackages__",
    "_build",
    "buck-out",
    "build",
    "dist",
    "node_modules",
    "site-packages",
    "venv",
)

SECTION = "tool.trainlint"
FILE_NAME = "trainlint.toml"


class ConfigError(Exception):
    """A configuration that cannot be used; the message names the file, the key and what was due."""


@dataclass(frozen=True, slots=True)
class Semantics:
    """Names of the user's own helpers, dotted."""

    train_mode_functions: tuple[str, ...] = ()
    eval_mode_functions: tuple[str, ...] = ()
    no_grad_functions: tuple[str, ...] = ()
    backward_functions: tuple[str, ...] = ()
    model_factories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What one configuration file says; patterns are relative to `root`."""

    root: str
    source: str | None = None
    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    extend_exclude: tuple[str, ...] = ()
    output_format: str = "full"
    semantics: Semantics = field(default_factory=Semantics)

    @property
    def layer(self) -> Layer:
        """What this file selects."""
        return Layer(self.select, self.extend_select, self.ignore)

    def verify(self, catalogue: Catalogue) -> None:
        """Raise `ConfigError` for a selector that means no rule."""
        named = {"select": self.select or (), "extend-select": self.extend_select}
        named["ignore"] = self.ignore
        named |= {f'per-file-ignores."{glob}"': codes for glob, codes in self.per_file_ignores}
        for key, selectors in named.items():
            for selector in selectors:
                try:
                    catalogue.matches(selector)
                except UnknownSelector as error:
                    raise ConfigError(f"{self.source}: `{key}`: {error}") from None


class Option(NamedTuple):
    """One key of the configuration."""

    key: str
    kind: str
    default: str
    """As TOML."""
    text: str


_STRINGS = "a list of strings"
_TABLE = "a table of glob = [codes]"
_FORMAT = "one of " + ", ".join(f'"{name}"' for name in OUTPUT_FORMATS)


def _toml(items: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"


OPTIONS = (
    Option("select", _STRINGS, _toml(DEFAULT_SELECT), "Codes, prefixes or names to report."),
    Option("ignore", _STRINGS, "[]", "Codes, prefixes or names to leave out."),
    Option("extend-select", _STRINGS, "[]", "Added to what is selected."),
    Option("per-file-ignores", _TABLE, "{}", "What to leave out in the files that a glob matches."),
    Option("exclude", _STRINGS, _toml(DEFAULT_EXCLUDE), "Files and folders to leave out."),
    Option("extend-exclude", _STRINGS, "[]", "Added to `exclude`."),
    Option("output-format", _FORMAT, '"full"', "How findings are printed."),
)

SEMANTICS_OPTIONS = (
    Option("train-mode-functions", _STRINGS, "[]", "Put their first argument in train mode."),
    Option("eval-mode-functions", _STRINGS, "[]", "Put their first argument in eval mode."),
    Option(
        "no-grad-functions",
        _STRINGS,
        "[]",
        "Decorators or context managers that turn gradients off.",
    ),
    Option("backward-functions", _STRINGS, "[]", "Run backward on their first argument."),
    Option("model-factories", _STRINGS, "[]", "Return a freshly built model."),
)


def explain(key: str | None, output_format: str) -> str:
    """All settings, or one, for `trainlint config`."""
    options = [*OPTIONS, *(o._replace(key=f"semantics.{o.key}") for o in SEMANTICS_OPTIONS)]
    if key is not None:
        chosen = [option for option in options if option.key == key]
        if not chosen:
            from difflib import get_close_matches

            close = get_close_matches(key, [option.key for option in options], n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise KeyError(f"unknown setting `{key}`{hint}")
        options = chosen
    if output_format == "json":
        import json

        rows = {o.key: {"type": o.kind, "default": o.default, "doc": o.text} for o in options}
        return json.dumps(rows, indent=2) + "\n"
    return "\n".join(map(_setting, options))


def _setting(option: Option) -> str:
    return f"{option.key}\n    {option.text}\n    {option.kind}\n    default: {option.default}\n"


def load(path: str) -> Settings:
    """The settings of a configuration file that the user named."""
    return parse(read(path), path) or Settings(os.path.dirname(path), path)


def read(path: str) -> bytes:
    """The bytes of a configuration file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def parse(data: bytes, path: str) -> Settings | None:
    """The settings in a file's bytes; None for a pyproject.toml that says nothing of trainlint."""
    own_file = os.path.basename(path) != "pyproject.toml"
    if not own_file and b"trainlint" not in data:
        return None
    document = _parse_toml(data, path)
    table: Any = document
    if not own_file:
        tool = document.get("tool")
        table = tool.get("trainlint") if isinstance(tool, dict) else None
        if table is None:
            return None
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: `{SECTION}` must be a table, not {_kind(table)}")
    return _settings(table, path)


def _parse_toml(data: bytes, path: str) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef,unused-ignore,import-not-found]
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: invalid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: invalid TOML: nested too deeply") from None


def _settings(table: dict[str, Any], path: str) -> Settings:
    _known_keys(table, [o.key for o in OPTIONS] + ["semantics"], "", path)
    values: dict[str, Any] = {}
    for option in OPTIONS:
        if option.key in table:
            check = _CHECKS[option.kind]
            values[option.key.replace("-", "_")] = check(table[option.key], option.key, path)
    semantics = table.get("semantics", {})
    if not isinstance(semantics, dict):
        raise ConfigError(f"{path}: `semantics` must be a table, not {_kind(semantics)}")
    _known_keys(semantics, [o.key for o in SEMANTICS_OPTIONS], "semantics.", path)
    names = {
        key.replace("-", "_"): _dotted_names(value, f"semantics.{key}", path)
        for key, value in semantics.items()
    }
    root = os.path.dirname(os.path.abspath(path))
    return Settings(root, path, **values, semantics=Semantics(**names))


def _known_keys(table: Mapping[str, Any], known: list[str], prefix: str, path: str) -> None:
    for key in table:
        if key in known:
            continue
        from difflib import get_close_matches

        close = get_close_matches(key.replace("_", "-"), known, n=1)
        hint = f"did you mean `{prefix}{close[0]}`?" if close else f"expected one of {known}"
        raise ConfigError(f"{path}: unknown key `{prefix}{key}`; {hint}")


def _strings(value: Any, key: str, path: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{path}: `{key}` must be {_STRINGS}, not {_kind(value)}")
    for item in value:
        if not isinstance(item, str):
            raise ConfigError(f"{path}: `{key}` must be {_STRINGS}, but holds {_kind(item)}")
    return tuple(value)


def _dotted_names(value: Any, key: str, path: str) -> tuple[str, ...]:
    names = _strings(value, key, path)
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f'{path}: `{key}` must hold dotted names, and "{name}" is none')
    return names


def _ignores(value: Any, key: str, path: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: `{key}` must be {_TABLE}, not {_kind(value)}")
    return tuple((glob, _strings(codes, f'{key}."{glob}"', path)) for glob, codes in value.items())


def _format(value: Any, key: str, path: str) -> str:
    if value not in OUTPUT_FORMATS:
        shown = f'"{value}"' if isinstance(value, str) else _kind(value)
        raise ConfigError(f"{path}: `{key}` must be {_FORMAT}, not {shown}")
    return str(value)


_CHECKS = {_STRINGS: _strings, _TABLE: _ignores, _FORMAT: _format}

_KINDS = {bool: "a boolean", int: "an integer", float: "a float", str: "a string"}


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else _KINDS.get(type(value), "a date or time")


def in_folder(folder: str) -> Settings | None:
    """The configuration that lies in this very folder; `trainlint.toml` wins."""
    for name in (FILE_NAME, "pyproject.toml"):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            settings = parse(read(path), path)
            if settings is not None:
                return settings
    return None


class Finder:
    """The settings for a folder: those of the nearest configuration upwards, remembered."""

    def __init__(self, fixed: Settings | None = None, fallback_root: str = "") -> None:
        """`fixed` (from `--config` or `--isolated`) stands for every folder."""
        self._fixed = fixed
        self._fallback = Settings(fallback_root)
        self._known: dict[str, Settings] = {}

    def settings_for(self, folder: str) -> Settings:
        """The settings that hold for files in `folder`, an absolute path."""
        if self._fixed is not None:
            return self._fixed
        chain: list[str] = []
        while folder not in self._known:
            own = in_folder(folder)
            if own is not None:
                self._known[folder] = own
                break
            chain.append(folder)
            parent = os.path.dirname(folder)
            if parent == folder:
                self._known[folder] = self._fallback
                break
            folder = parent
        found = self._known[folder]
        self._known.update(dict.fromkeys(chain, found))
        return found
