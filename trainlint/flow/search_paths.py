"""Folders that a file adds to `sys.path` before it imports from them."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.flow import ir
from trainlint.flow.walk import calls_in

_WORDS = frozenset({"sys", "path"})
_ADDERS = frozenset({"append", "insert"})


def added_paths(module: ir.Module) -> tuple[str, ...]:
    """The folders as packages relative to the file: `sys.path.append("core")` is `.core`."""
    if not module.words >= _WORDS or not module.words & _ADDERS:
        return ()
    return tuple(dict.fromkeys(_added(module)))


def _added(module: ir.Module) -> Iterator[str]:
    for statement in module.body:
        if isinstance(statement, ir.Function | ir.Class):
            continue
        for call in calls_in(statement):
            match call:
                case ir.Call(
                    func=ir.Attribute(
                        attr="append" | "insert",
                        value=ir.Attribute(attr="path", value=ir.Name(id="sys")),
                    ),
                    args=(*_, ir.Argument(value=folder)),
                ):
                    parts = _parts(folder)
                    if parts is not None:
                        yield _package(parts)
                case _:
                    pass


def _parts(folder: ir.Expr) -> list[str] | None:
    """The path's parts below the file's own folder; None if it is not known to lie there."""
    match folder:
        case ir.Literal(value=str(text)):
            return None if text.startswith(("/", "~")) else text.split("/")
        case ir.Call(func=ir.Attribute(attr="join"), args=(_, *below)):
            # What is joined to is the file's own folder, by whatever name.
            joined: list[str] = []
            for argument in below:
                match argument.value:
                    case ir.Literal(value=str(text)) if not text.startswith("/"):
                        joined += text.split("/")
                    case _:
                        return None
            return joined
        case _:
            return None


def _package(parts: list[str]) -> str:
    up = sum(1 for part in parts if part == "..")
    down = [part for part in parts if part not in ("", ".", "..")]
    return "." * (up + 1) + ".".join(down)
