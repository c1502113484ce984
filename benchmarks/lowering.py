"""How long it takes to get at a file's program, next to libcst's parse of the same files.

    python benchmarks/lowering.py [FOLDER ...]

`plain parse` is `libcst.parse_module`; `whole` parses and lowers a file at once. In portions, as a
check does it, only the `outline` of a file is parsed at once; `bodies` is what comes on top if all
its functions are asked for, and `locate` the place of one node of each. The ratios are of CPU time
within one run, so that they can be compared across machines.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import TypeVar

import libcst

from trainlint.flow import ir
from trainlint.flow.walk import walk
from trainlint.syntax.cut import cuts_of
from trainlint.syntax.lower import lower
from trainlint.syntax.portions import Portions

T = TypeVar("T")


class Clock:
    """CPU seconds by step."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def time(self, step: str, work: Callable[[], T]) -> T:
        """What `work` gives."""
        start = process_time()
        result = work()
        self.seconds[step] += process_time() - start
        return result


def measure(texts: list[str]) -> Counter[str]:
    """CPU seconds of each step over all texts."""
    clock = Clock()
    for text in texts:
        clock.time("plain parse", lambda text=text: libcst.parse_module(text))
        clock.time("whole", lambda text=text: lower(text, "benchmark.py"))
        cuts = clock.time("cut", lambda text=text: cuts_of(text))
        portions = Portions(text, cuts)
        module = clock.time("outline", lambda file=portions: file.lower("benchmark.py"))
        nodes = clock.time("bodies", lambda module=module: _nodes(module))
        clock.time("locate", lambda file=portions, nodes=nodes: file.locate(nodes[-1:]))
    return clock.seconds


def _nodes(module: ir.Module) -> list[int]:
    return [node.node for node in walk(module.body) if node.node >= 0]


def main(folders: list[str]) -> None:
    """Print the speed of each step and its ratio to the parse."""
    roots = folders or [str(Path(asyncio.__file__).parent)]
    paths = [path for root in roots for path in sorted(Path(root).rglob("*.py"))]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    lines = sum(text.count("\n") for text in texts)
    gc.disable()  # as in a check
    measure(texts[:3])  # warm up
    seconds = measure(texts)
    print(f"{len(paths)} files, {lines} lines")
    for step, taken in seconds.items():
        print(
            f"{step:12} {lines / taken / 1e3:8.1f} k lines/s {taken / seconds['plain parse']:8.3f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
