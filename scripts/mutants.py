"""Tables of what is found: mutators by found and missed, and rewrites that change findings.

python scripts/mutants.py [--program NAME] [--mutator NAME] [--rewrites [NAME]] [--show]
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.properties.corpus import Mutant, found_in, mutants, programs
from tests.properties.edits import Files
from tests.properties.rewriters import REWRITERS


def main() -> None:
    """Check what the arguments select and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="")
    parser.add_argument("--mutator", default="")
    parser.add_argument("--rewrites", nargs="?", const="all", default="")
    parser.add_argument("--show", action="store_true", help="print the text of what is missed")
    args = parser.parse_args()
    chosen = {n: f for n, f in programs().items() if args.program in ("", n)}
    noisy = {name: found for name, files in chosen.items() if (found := found_in(files))}
    for name, found in noisy.items():
        print(f"healthy program {name}: {sorted(found)}")
    defects = [m for n, f in chosen.items() for m in mutants(f, n, args.mutator)]
    before = print_mutators(defects, args.show)
    if args.rewrites:
        healthy = [(name, files, noisy.get(name, frozenset())) for name, files in chosen.items()]
        mutated = [(m.name, m.files, found) for m, found in zip(defects, before, strict=True)]
        print_rewrites(healthy + mutated, args.rewrites, args.show)


def print_mutators(defects: list[Mutant], show: bool) -> list[frozenset[str]]:
    """The table of mutators; returns what was found in each mutant."""
    hits: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    found = [found_in(m.files) for m in defects]
    for mutant, names in zip(defects, found, strict=True):
        kind = mutant.mutator.name
        totals[kind] += 1
        if names & mutant.mutator.expected:
            hits[kind] += 1
            continue
        print(f"MISSED {mutant.name}: {sorted(names)}")
        if show:
            print("\n".join(mutant.files.values()))
    for kind, total in totals.items():
        print(f"{kind:34} {hits[kind]:3} of {total:3}")
    print(f"{'all':34} {sum(hits.values()):3} of {len(defects):3}")
    return found


def print_rewrites(cases: list[tuple[str, Files, frozenset[str]]], only: str, show: bool) -> None:
    """The table of rewriters, with every change of findings."""
    for name, rewrite in REWRITERS.items():
        if only not in ("all", name):
            continue
        changed = total = 0
        for case, files, before in cases:
            new = rewrite(files)
            if new is None:
                continue
            total += 1
            after = found_in(new)
            if after != before:
                changed += 1
                print(f"CHANGED {case} by {name}: {sorted(before)} -> {sorted(after)}")
                if show:
                    print("\n".join(new.values()))
        print(f"{name:34} {changed:3} of {total:3} changed")


if __name__ == "__main__":
    main()
