"""How long lowering and locating take, next to libcst's parse of the same files.

    python benchmarks/lowering.py [FOLDER ...]

The ratios are of CPU time within one run, so that they can be compared across machines; the
budget is that lowering and interpreting together take at most half of the parse.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from time import process_time
from unittest.mock import patch

import libcst

from trainlint.syntax.lower import lower
from trainlint.syntax.spans import Tree, locate


def measure(texts: list[str]) -> dict[str, float]:
    """CPU seconds of each step over all texts."""
    seconds = {"parse": 0.0, "lower": 0.0, "locate one node": 0.0}
    parse = libcst.parse_module

    def timed_parse(text: str) -> libcst.Module:
        start = process_time()
        module = parse(text)
        seconds["parse"] += process_time() - start
        return module

    with patch("libcst.parse_module", timed_parse):  # apart from the lowering that calls it
        for text in texts:
            start = process_time()
            tree = lower(text, "benchmark.py").tree
            lowered = process_time()
            assert isinstance(tree, Tree)
            locate(tree, [len(tree.nodes) - 1])
            seconds["locate one node"] += process_time() - lowered
            seconds["lower"] += lowered - start
    seconds["lower"] -= seconds["parse"]
    return seconds


def main(folders: list[str]) -> None:
    """Print the speed of each step and its ratio to the parse."""
    roots = folders or [str(Path(asyncio.__file__).parent)]
    paths = [path for root in roots for path in sorted(Path(root).rglob("*.py"))]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    lines = sum(text.count("\n") for text in texts)
    measure(texts[:3])  # warm up
    seconds = measure(texts)
    print(f"{len(paths)} files, {lines} lines")
    for step, taken in seconds.items():
        print(f"{step:16} {lines / taken / 1e3:8.1f} k lines/s {taken / seconds['parse']:8.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
