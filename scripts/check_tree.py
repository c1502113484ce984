"""Check trees of code file by file in one process, and keep what each file cost in a log.

    python scripts/check_tree.py LOG PATH... [--ungated] [--summary]

The log has one line of JSON a file: seconds of CPU, the exception or the reason that the analysis
ended early, the diagnostics. A file that the log already has is not checked again, so that a run
can be stopped at any time; a file at which the process itself died is found in LOG.now by the next
run, and written down as such. `--ungated` parses and interprets every file, whatever is in it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainlint.check import Plan
from trainlint.config import Finder, Settings
from trainlint.files import Discovery, Neighbourhood
from trainlint.runner import Options, Run
from trainlint.workers import Task, check_all

STUCK = 120
"""Seconds after which the stack of a file's check is printed."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--ungated", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if options.summary:
        summarise(read_log(options.log))
    else:
        check(options.log, tuple(options.paths), options.ungated)


def read_log(log: Path) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text().splitlines()]


def check(log: Path, paths: tuple[str, ...], ungated: bool) -> None:
    how = Discovery(Finder(Settings("")), respect_gitignore=False, cwd=os.getcwd())
    run = Run(Options(paths, os.getcwd(), Finder(Settings("")), discovery=how, jobs=1))
    targets, _, _ = run.targets()
    plan = run.plan_for(Settings(""))
    if ungated:
        plan = Plan(plan.codes, (b"",))
    now = log.with_name(log.name + ".now")
    if now.exists():
        append(log, {"path": now.read_text(), "died": True, "cpu": 0.0})
        now.unlink()
    done = {row["path"] for row in read_log(log)}
    todo = [target.path for target in targets if target.path not in done]
    print(f"{len(todo)} files of {len(targets)}", flush=True)
    tasks = iter([Task(path, plan, 0) for path in todo])
    before = [0.0]

    def begin() -> Iterator[Task]:  # `check_all` takes the next task when it begins with it
        for task in tasks:
            now.write_text(task.path)
            faulthandler.dump_traceback_later(STUCK, file=sys.stderr)
            before[0] = time.process_time()
            yield task

    for answer in check_all(begin(), lambda: Neighbourhood(how), 1):  # type: ignore[arg-type]
        spent = time.process_time() - before[0]
        faulthandler.cancel_dump_traceback_later()
        row: dict[str, Any] = {"path": answer.path, "cpu": round(spent, 3)}
        row["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        if answer.result is None:
            row["error"] = answer.error
        else:
            row["notes"] = answer.result.notes
            row["found"] = [
                [d.filename, d.cell, d.span.start.row, d.code, d.severity.value, d.message]
                for d in answer.result.diagnostics
            ]
        append(log, row)
    now.unlink(missing_ok=True)


def append(log: Path, row: dict[str, Any]) -> None:
    with log.open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def summarise(rows: list[dict[str, Any]]) -> None:
    print(len(rows), "files", round(sum(row["cpu"] for row in rows)), "s of CPU")
    print("most memory", max((row.get("rss", 0) for row in rows), default=0), "MB")
    for row in rows:
        if row.get("died") or "error" in row:
            print("CRASH", row["path"], row.get("error", "died").strip().splitlines()[-1])
    for row in sorted(rows, key=lambda row: -row["cpu"])[:20]:
        print(f"{row['cpu']:8.2f} s  {row['path']}")
    for note in sorted({note for row in rows for note in row.get("notes", ())}):
        print("NOTE", note)
    found = {tuple(one) for row in rows for one in row.get("found", ())}
    print(Counter((code, severity) for _, _, _, code, severity, _ in found).most_common())
    for path, cell, line, code, severity, message in sorted(found, key=str):
        if severity != "info":
            where = f"{path}:{line}" if cell is None else f"{path}:cell {cell}:{line}"
            print(f"{where}: {code} {severity}: {message}")


if __name__ == "__main__":
    main()
