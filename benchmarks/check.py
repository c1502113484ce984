"""What `trainlint check` costs, next to the floor and to other linters, in one run and as ratios.

    python benchmarks/check.py [--tree FOLDER] [--rounds N] [--others] [--files N]

Processor time and wall time of whole processes, medians over alternating rounds:

- cold, warm and one-file-changed on a tree (default: the installed transformers package, of
  which `--files` takes every n-th file so that a loaded machine can do it),
- the same on a synthetic tree of 1, 2, 4 times the files, and on one file of growing length,
- cold on neighbouring folders of the tree in place, what they import included (`--part`),
- five files as pre-commit hands them over,
- the floor: `libcst.parse_module` of the files that pass the gate, `ast.parse` of all,
- with `--others`: Fixit, TorchFix, pylint and ruff, as far as they are installed,
- peak memory, and the time of importing the command line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNIT = (ROOT / "fixtures/train-in-eval-mode/bad_flat_script.py").read_text()


class Cost:
    """Processor seconds, wall seconds and peak megabytes of the runs of one command."""

    def __init__(self) -> None:
        self.runs: list[tuple[float, float, float]] = []

    def add(self, command: list[str], cwd: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, _, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = 0
        self.runs.append((usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024))

    @property
    def cpu(self) -> float:
        return statistics.median(run[0] for run in self.runs)

    @property
    def wall(self) -> float:
        return statistics.median(run[1] for run in self.runs)

    @property
    def peak(self) -> float:
        return max(run[2] for run in self.runs)


def trainlint(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trainlint", "check", "-q", *arguments]


FLOOR = """
import gc, glob, libcst, sys
from trainlint.check import Gate
from trainlint.rules import all_rules
gc.disable()
gate = Gate({t for r in all_rules() if r.on and r.static and r.default for t in r.triggers})
for path in [p for f in sys.argv[1:] or ["."] for p in glob.glob(f"{f}/**/*.py", recursive=True)]:
    data = open(path, "rb").read()
    if gate.passes(data, path):
        libcst.parse_module(data.decode())
"""
PARSED = """
import sys
from trainlint.syntax import parse
whole, parsed = parse.parse, []
def recorded(source):
    parsed.append(source.path)
    return whole(source)
parse.parse = recorded
from trainlint.cli import main
try:
    main(["check", "-q", "--no-cache", "--jobs", "1", *sys.argv[2:]], standalone_mode=False)
finally:
    open(sys.argv[1], "w").write("\\n".join(parsed))
"""
"""Writes down which files a run parses, if only in part, with those that the checked ones import."""
FLOOR_OF_PARSED = """
import gc, libcst, sys
gc.disable()
for path in open(sys.argv[1]).read().splitlines():
    libcst.parse_module(open(path, "rb").read())
"""
AST = """
import ast, gc, glob
gc.disable()
for path in glob.glob("**/*.py", recursive=True):
    ast.parse(open(path, "rb").read())
"""


FLOOR_NAME = "floor: libcst.parse_module"
"""Of every file that had to be parsed."""
LENGTHS = (2_500, 5_000, 10_000, 25_000, 50_000)
"""Lines of a generated file."""


def others(tree: Path) -> dict[str, list[str]]:
    """Commands of other linters that are installed."""
    found = {
        "ruff": ["ruff", "check", "--no-cache", "--isolated", "."],
        "fixit": ["fixit", "--quiet", "lint", "."],
        "torchfix": ["torchfix", "--select", "ALL", "."],
        "torch-preflight": ["torch-preflight", "check", "."],
        "pylint": ["pylint", "--disable=all", "--enable=E,W", "--recursive=y", "."],
    }
    return {name: command for name, command in found.items() if shutil.which(command[0])}


def alternate(rounds: int, steps: dict[str, Callable[[Cost], None]]) -> dict[str, Cost]:
    """Run every step in every round, so that a busy moment hits all alike."""
    costs = {name: Cost() for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            step(costs[name])
    return costs


def on_tree(tree: Path, rounds: int, with_others: bool) -> dict[str, Cost]:
    changed = sorted(tree.rglob("*.py"))[0]
    original = changed.read_text()

    def cold(jobs: str) -> Callable[[Cost], None]:
        return lambda cost: cost.add(trainlint("--no-cache", "--jobs", jobs), tree)

    def warm(cost: Cost) -> None:
        cost.add(trainlint(), tree)

    def one_changed(cost: Cost) -> None:
        changed.write_text(f"{original}\n# changed {time.time_ns()}\n")
        cost.add(trainlint(), tree)

    Cost().add(trainlint(), tree)
    time.sleep(2.5)  # so that the cache may trust the files' times
    Cost().add(trainlint(), tree)
    steps: dict[str, Callable[[Cost], None]] = {
        "cold, 1 process": cold("1"),
        "cold, 2 processes": cold("2"),
        "one file changed": one_changed,
        "warm": warm,
        FLOOR_NAME: lambda cost: cost.add([sys.executable, "-c", FLOOR], tree),
        "ast.parse": lambda cost: cost.add([sys.executable, "-c", AST], tree),
    }
    if with_others:
        for name, command in others(tree).items():
            steps[name] = lambda cost, command=command: cost.add(command, tree)  # type: ignore[misc]
    return alternate(rounds, steps)


def in_place(tree: Path, part: str, rounds: int) -> dict[str, Cost]:
    """Neighbouring folders of a package where they are, so that they find what they import."""
    folders = sorted(str(path.relative_to(tree)) for path in tree.glob(part))
    own = [sys.executable, "-c", FLOOR, *folders]
    with tempfile.TemporaryDirectory() as name:
        parsed = f"{name}/parsed"
        Cost().add([sys.executable, "-c", PARSED, parsed, *folders], tree)
        every = [sys.executable, "-c", FLOOR_OF_PARSED, parsed]
        return alternate(
            rounds,
            {
                "cold, 1 process": lambda cost: cost.add(
                    trainlint("--no-cache", "--jobs", "1", *folders), tree
                ),
                "cold, 2 processes": lambda cost: cost.add(
                    trainlint("--no-cache", "--jobs", "2", *folders), tree
                ),
                FLOOR_NAME: lambda cost: cost.add(every, tree),
                "the same of the named files alone": lambda cost: cost.add(own, tree),
            },
        )


def synthetic(folder: Path, files: int) -> Path:
    folder.mkdir()
    for number in range(files):
        (folder / f"train_{number}.py").write_text(UNIT)
    return folder


def long_file(folder: Path, lines: int) -> Path:
    folder.mkdir()
    body = "\n".join(f"    {line}" for line in UNIT.splitlines())
    count = max(lines // (body.count("\n") + 2), 1)
    text = "\n".join(f"def f{number}():\n{body}\n" for number in range(count))
    (folder / "long.py").write_text(text)
    return folder


def table(title: str, costs: dict[str, Cost], base: str | None = None) -> None:
    print(
        f"\n### {title}\n\n| run | CPU s | wall s | peak MB | ratio |\n| --- | --- | --- | --- | --- |"
    )
    for name, cost in costs.items():
        ratio = f"{cost.cpu / costs[base].cpu:.2f}" if base else ""
        print(f"| {name} | {cost.cpu:.2f} | {cost.wall:.2f} | {cost.peak:.0f} | {ratio} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tree", type=Path, help="default: the installed transformers package")
    parser.add_argument("--files", type=int, default=20, help="take every n-th file of the tree")
    parser.add_argument("--part", default="models/b*", help="folders of the tree, as a pattern")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--others", action="store_true")
    options = parser.parse_args()
    tree = options.tree
    if tree is None:
        from importlib.util import find_spec

        spec = find_spec("transformers")
        if spec is None or spec.origin is None:
            sys.exit("transformers is not installed: name a --tree")
        tree = Path(spec.origin).parent
    print(
        f"{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, {os.cpu_count()} processors, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        sample = base / "sample"
        for path in sorted(tree.rglob("*.py"))[:: options.files]:
            target = sample / path.relative_to(tree)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        costs = on_tree(sample, options.rounds, options.others)
        count = sum(1 for _ in sample.rglob("*.py"))
        table(f"{tree.name}, {count} files", costs, FLOOR_NAME)
        if any(tree.glob(options.part)):
            placed = in_place(tree, options.part, options.rounds)
            table(f"{tree.name}/{options.part}, in place", placed, FLOOR_NAME)
        growth = {
            f"{n} files": (
                lambda cost, n=n: cost.add(trainlint("--no-cache", "--jobs", "1"), base / f"s{n}")
            )
            for n in (25, 50, 100)
        }
        for n in (25, 50, 100):
            synthetic(base / f"s{n}", n)
        table("a synthetic tree", alternate(options.rounds, growth), "25 files")
        lengths = {
            f"{n} lines": (lambda cost, n=n: cost.add(trainlint("--no-cache"), base / f"l{n}"))
            for n in LENGTHS
        }
        for n in LENGTHS:
            long_file(base / f"l{n}", n)
        table("one file", alternate(options.rounds, lengths), f"{LENGTHS[0]} lines")
        names = sorted(str(p) for p in (base / "s25").glob("*.py"))[:5]
        five = {
            "five files, cold": lambda cost: cost.add(
                trainlint("--no-cache", "--force-exclude", *names), base
            ),
            "import of the command line": lambda cost: cost.add(
                [sys.executable, "-c", "import trainlint.cli"], base
            ),
            "bare interpreter": lambda cost: cost.add([sys.executable, "-c", ""], base),
        }
        costs = alternate(options.rounds, five)
        table("as pre-commit calls it", costs)
        print(json.dumps({name: [cost.cpu, cost.wall] for name, cost in costs.items()}))


if __name__ == "__main__":
    main()
