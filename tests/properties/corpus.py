"""The programs, their mutants, and what is found in them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.checking import check_paths
from tests.properties import (  # noqa: F401
    rewritten_flow,
    rewritten_names,
    rewritten_shape,
    wrong_objects,
    wrong_places,
    wrong_ways,
)
from tests.properties.edits import Files
from tests.properties.mutators import MUTATORS, Mutator

ROOT = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Mutant:
    """A program with one defect."""

    program: str
    mutator: Mutator
    number: int
    files: Files

    @property
    def name(self) -> str:
        """`program-mutator-n`."""
        return f"{self.program}-{self.mutator.name}-{self.number}"


def programs() -> dict[str, Files]:
    """The healthy programs by name: files by their names."""
    found = {p.stem: {p.name: p.read_text("utf-8")} for p in sorted(ROOT.glob("*.py"))}
    for folder in sorted(p for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"):
        found[folder.name] = {p.name: p.read_text("utf-8") for p in sorted(folder.glob("*.py"))}
    return found


def mutants(files: Files, program: str, only: str = "") -> Iterator[Mutant]:
    """All that go wrong; those that are harmless in this program are left out."""
    for mutator in MUTATORS:
        if only and only != mutator.name:
            continue
        number = 0
        for name, text in files.items():
            for mutated in mutator.make(text):
                here = {program, f"{program}:{number}"}
                if not here & mutator.harmless_in:
                    yield Mutant(program, mutator, number, {**files, name: mutated})
                number += 1


def found_in(files: Files, folder: Path | None = None) -> frozenset[str]:
    """The names of the rules that find something."""
    if folder is None:
        with tempfile.TemporaryDirectory() as made:
            return found_in(files, Path(made))
    paths = []
    for name, text in files.items():
        path = folder / name
        path.write_text(text, "utf-8")
        paths.append(path)
    return frozenset(d.name for d in check_paths(paths))
