"""The command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from trainlint import __version__
from trainlint.config import OUTPUT_FORMATS, ConfigError, Finder, Settings, load

if TYPE_CHECKING:
    from trainlint.core.catalogue import Layer
    from trainlint.core.diagnostic import Diagnostic
    from trainlint.core.rule import Rule
    from trainlint.runner import Options, Report

FOUND, WRONG = 1, 2
_PROGRESS_AFTER = 2.0
"""Seconds after which a run on a terminal shows how far it is."""


class _Commands(click.Group):
    """Says what was meant where a path stands in a command's place."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if self.get_command(ctx, name) is None and (os.path.exists(name) or name == "-"):
            ctx.fail(f"No such command '{name}'. Did you mean `trainlint check {name}`?")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="trainlint %(version)s")
def main() -> None:
    """The linter for training code."""


def _codes(_: click.Context, __: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """Comma-separated and repeatable."""
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


_CODES: dict[str, Any] = {"multiple": True, "metavar": "CODES", "callback": _codes}
_GLOBS: dict[str, Any] = {"multiple": True, "metavar": "GLOBS", "callback": _codes}


@main.command()
@click.argument("paths", nargs=-1)
@click.option("--select", **_CODES, help="Rules to report: codes, prefixes, names or ALL.")
@click.option("--ignore", **_CODES, help="Rules to leave out.")
@click.option("--extend-select", **_CODES, help="Rules to report as well.")
@click.option(
    "--output-format",
    type=click.Choice(OUTPUT_FORMATS),
    envvar="TRAINLINT_OUTPUT_FORMAT",
    help="How findings are printed.  [default: full]",
)
@click.option("-o", "--output-file", metavar="PATH", help="Write there and not to standard output.")
@click.option("--statistics", is_flag=True, help="Count findings by rule.")
@click.option("-e", "--exit-zero", is_flag=True, help="Exit with 0 even if something is found.")
@click.option("-q", "--quiet", is_flag=True, help="Print findings and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="Print what was done, and how long it took.")
@click.option("--config", metavar="PATH", help="Take this configuration for all files.")
@click.option("--isolated", is_flag=True, help="Take no configuration at all.")
@click.option("--exclude", **_GLOBS, help="Files and folders to leave out; replaces the setting.")
@click.option("--extend-exclude", **_GLOBS, help="Files and folders to leave out as well.")
@click.option(
    "--force-exclude/--no-force-exclude", help="Exclude also what is named on the command line."
)
@click.option(
    "--respect-gitignore/--no-respect-gitignore",
    default=True,
    help="Leave out what git ignores.  [default: yes]",
)
@click.option("--stdin-filename", metavar="NAME", help="The name of what is read with `-`.")
@click.option("-n", "--no-cache", is_flag=True, envvar="TRAINLINT_NO_CACHE", help="Use no cache.")
@click.option(
    "--cache-dir",
    metavar="DIR",
    envvar="TRAINLINT_CACHE_DIR",
    help="Where the cache is.  [default: .trainlint_cache beside the configuration]",
)
@click.option("-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="Processes to use.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "info"]),
    default="warning",
    show_default=True,
    help="The least severity that makes the exit status 1.",
)
@click.option("--show-files", is_flag=True, help="List the files that would be checked, and stop.")
@click.option("--show-settings", is_flag=True, help="Show the settings that hold, and stop.")
def check(paths: tuple[str, ...], **flags: Any) -> None:
    """Check files, folders or standard input (-)."""
    try:
        sys.exit(_check(paths, flags))
    except ConfigError as error:
        _complain(str(error))
        sys.exit(WRONG)


def _check(paths: tuple[str, ...], flags: dict[str, Any]) -> int:
    begun = time.perf_counter()
    from trainlint.core.catalogue import UnknownSelector
    from trainlint.runner import Run

    if flags["config"] and flags["isolated"]:
        raise click.UsageError("`--config` and `--isolated` exclude each other")
    options = _options(paths, flags)
    run = Run(options)
    for flag in ("select", "extend_select", "ignore"):
        for code in flags[flag]:
            try:
                run.catalogue.matches(code)
            except UnknownSelector as error:
                raise click.UsageError(f"--{flag.replace('_', '-')}: {error}") from None
    if flags["show_settings"]:
        return _show_settings(options, run.plan_for(_own_settings(options)).codes)
    if flags["show_files"]:
        return _show_files(run.targets())
    report = run.report()
    shown = flags["output_format"] or _own_settings(options).output_format
    _write(_rendered(report, shown, options, flags, run), flags["output_file"], options.cwd)
    _tell(report, flags, time.perf_counter() - begun)
    return _status(report, flags)


def _options(paths: tuple[str, ...], flags: dict[str, Any]) -> Options:
    from trainlint.files import Discovery
    from trainlint.runner import STDIN, Options

    cwd = os.getcwd()
    fixed = None
    if flags["isolated"]:
        fixed = Settings(cwd)
    elif flags["config"]:
        fixed = _relative_to(load(os.path.join(cwd, flags["config"])), cwd)
    finder = Finder(fixed, cwd)
    if STDIN in paths and len(paths) > 1:
        raise click.UsageError("`-` cannot be combined with other paths")
    if flags["stdin_filename"] and paths != (STDIN,):
        raise click.UsageError("`--stdin-filename` needs `-` as the only path")
    discovery = Discovery(
        finder,
        flags["exclude"] or None,
        flags["extend_exclude"],
        flags["force_exclude"],
        flags["respect_gitignore"],
        cwd,
    )
    own = finder.settings_for(cwd)
    root = own.root if own.source and not flags["config"] else cwd
    stdin = sys.stdin.buffer.read() if paths == (STDIN,) else None
    folder = os.path.join(cwd, flags["cache_dir"] or os.path.join(root, ".trainlint_cache"))
    return Options(
        paths or (".",),
        cwd,
        finder,
        _layer(flags),
        discovery,
        None if flags["no_cache"] or stdin is not None else folder,
        root,
        flags["jobs"],
        stdin,
        flags["stdin_filename"],
        _progress() if sys.stderr.isatty() and not flags["quiet"] else None,
    )


def _relative_to(settings: Settings, cwd: str) -> Settings:
    """A named configuration's patterns are relative to the working directory, as in ruff."""
    from dataclasses import replace

    return replace(settings, root=cwd)


def _layer(flags: dict[str, Any]) -> Layer:
    from trainlint.core.catalogue import Layer

    return Layer(flags["select"] or None, flags["extend_select"], flags["ignore"])


def _own_settings(options: Options) -> Settings:
    return options.finder.settings_for(options.cwd)


def _progress() -> Any:
    begun = time.monotonic()

    def show(done: int, total: int) -> None:
        if time.monotonic() - begun > _PROGRESS_AFTER:
            end = "\r\x1b[K" if done == total else ""
            sys.stderr.write(f"\r\x1b[Kchecked {done:,} of {total:,} files{end}")
            sys.stderr.flush()

    return show


def _rendered(report: Report, shown: str, options: Options, flags: dict[str, Any], run: Any) -> str:
    colour = not flags["output_file"] and _has_colour()
    if flags["statistics"]:
        if shown.startswith("json"):
            from trainlint.output.formats import statistics as as_json

            return as_json(report.diagnostics)
        from trainlint.output.text import statistics

        return statistics(report.diagnostics, colour)
    if shown == "full":
        from trainlint.output.text import Frames, full

        return full(report.diagnostics, options.cwd, Frames(report.sources), colour)
    from trainlint.output import render

    return render(
        shown,
        report.diagnostics,
        options.cwd,
        colour=colour,
        catalogue=lambda: run.catalogue,
    )


def _has_colour() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _write(text: str, path: str | None, cwd: str) -> None:
    """To standard output or, in one step, to a file."""
    if path:
        from trainlint.cache import write_atomically

        try:
            write_atomically(os.path.join(cwd, path), _encoded(text, "utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {(error.strerror or '').lower()}") from None
        return
    if text:
        sys.stdout.buffer.write(_encoded(text, sys.stdout.encoding or "utf-8"))
        sys.stdout.buffer.flush()


def _encoded(text: str, encoding: str) -> bytes:
    """File names that are not text go out as the bytes that they are."""
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace")


def _complain(text: str) -> None:
    data = f"{click.style('error', fg='red', bold=True)}: {text}\n"
    click.echo(_encoded(data, "utf-8").decode("utf-8", "replace"), err=True, nl=False)


def _tell(report: Report, flags: dict[str, Any], seconds: float) -> None:
    """Everything that is not a finding goes to standard error."""
    from trainlint.output.text import printable, summary

    for name in report.missing:
        _complain(f"{printable(name)}: no such file or folder")
    for error in report.internal:
        _complain(f"{printable(error.path)}: an internal error; please report it")
        last = error.trace.rstrip().rsplit("\n", 1)[-1]
        click.echo(error.trace if flags["verbose"] else f"  {last}", err=True)
    if report.cache_trouble and not flags["quiet"]:
        click.echo(f"warning: the cache cannot be written: {report.cache_trouble}", err=True)
    if flags["verbose"]:
        for note in report.notes:
            click.echo(printable(note), err=True)
        click.echo(f"checked {report.files:,} files in {seconds:.2f} s", err=True)
    if not flags["quiet"]:
        if not report.files and not report.missing:
            click.echo("warning: no Python files found under the given paths", err=True)
        click.echo(summary(report.diagnostics, report.files), err=True)


def _status(report: Report, flags: dict[str, Any]) -> int:
    from trainlint.core.diagnostic import Severity

    if report.missing or report.internal:
        return WRONG
    if flags["exit_zero"]:
        return 0
    least = Severity(flags["fail_on"]).rank
    return FOUND if any(found.severity.rank <= least for found in report.diagnostics) else 0


def _show_files(found: tuple[list[Any], list[Diagnostic], list[str]]) -> int:
    targets, problems, missing = found
    _write("".join(f"{target.path}\n" for target in targets), None, "")
    for problem in problems:
        _complain(f"{problem.filename}: {problem.message}")
    for name in missing:
        _complain(f"{name}: no such file or folder")
    return WRONG if missing else 0


def _show_settings(options: Options, codes: frozenset[str]) -> int:
    import json

    settings = _own_settings(options)
    lines = [
        f"# {settings.source or 'no configuration file'}",
        f"root = {json.dumps(settings.root)}",
    ]
    lines.append(f"rules = {json.dumps(sorted(codes))}")
    lines.append(f"exclude = {json.dumps(settings.exclude)}")
    lines.append(f"extend-exclude = {json.dumps(settings.extend_exclude)}")
    table = ", ".join(
        f"{json.dumps(glob)} = {json.dumps(ignored)}" for glob, ignored in settings.per_file_ignores
    )
    lines.append(f"per-file-ignores = {{{table}}}")
    lines.append(f"output-format = {json.dumps(settings.output_format)}")
    lines.append(f"cache-dir = {json.dumps(options.cache_folder)}")
    lines.append("\n[semantics]")
    for key in type(settings.semantics).__slots__:
        names = getattr(settings.semantics, key)
        lines.append(f"{key.replace('_', '-')} = {json.dumps(names)}")
    _write("\n".join(lines) + "\n", None, "")
    return 0


@main.command()
@click.argument("rule", required=False)
@click.option("--all", "everything", is_flag=True, help="All rules.")
@click.option(
    "--output-format",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
)
def rule(rule: str | None, everything: bool, output_format: str) -> None:
    """Explain a rule: what it finds, why it matters, how to mend it."""
    from trainlint.output import pages
    from trainlint.rules import all_rules, catalogue

    if bool(rule) == everything:
        raise click.UsageError("name one rule by its code or name, or give `--all`")
    rules: Sequence[type[Rule[Any]]] = all_rules()
    if rule:
        rules = [each for each in rules if rule in (each.code, each.name)]
        if not rules:
            nearest = catalogue().nearest(rule)
            hint = f"; did you mean `{nearest}`?" if nearest else ""
            raise click.UsageError(f"unknown rule `{rule}`{hint}")
    text = pages.render(rules, output_format, single=not everything)
    _write(text, None, "")


@main.command(name="config")
@click.argument("key", required=False)
@click.option("--output-format", type=click.Choice(["text", "json"]), default="text")
def show_config(key: str | None, output_format: str) -> None:
    """List every setting with its default."""
    from trainlint.config import explain

    try:
        _write(explain(key, output_format), None, "")
    except KeyError as error:
        raise click.UsageError(error.args[0]) from None


@main.command()
@click.option("--cache-dir", metavar="DIR", envvar="TRAINLINT_CACHE_DIR", help="Where it is.")
def clean(cache_dir: str | None) -> None:
    """Remove the cache."""
    from trainlint.cache import FOLDER
    from trainlint.cache import clean as remove

    cwd = os.getcwd()
    try:
        root = Finder(None, cwd).settings_for(cwd).root
        folder = os.path.join(cwd, cache_dir or os.path.join(root, FOLDER))
        if remove(folder):
            click.echo(f"Removed {folder}", err=True)
    except (OSError, ConfigError) as error:
        _complain(str(error))
        sys.exit(WRONG)
