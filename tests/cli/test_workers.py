"""How files are checked in one process."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from trainlint.check import Checker, FileResult, Plan
from trainlint.files import Neighbourhood
from trainlint.workers import Task, check_all

TASKS = [Task(str(Path(__file__)), Plan(frozenset(), ()), 0)] * 3


def test_all_files_are_checked_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new one might get memory of its own, which is not given back."""
    threads: list[threading.Thread] = []

    def check(*_: object) -> FileResult:
        threads.append(threading.current_thread())
        return FileResult()

    monkeypatch.setattr(Checker, "check", check)
    assert len(list(check_all(TASKS, Neighbourhood, 1))) == 3
    assert len(set(threads)) == 1
    assert threads[0] is not threading.main_thread()
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_what_ends_the_process_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_: object) -> FileResult:
        raise SystemExit(3)

    monkeypatch.setattr(Checker, "check", check)
    with pytest.raises(SystemExit):
        list(check_all(TASKS, Neighbourhood, 1))


def test_without_room_for_a_stack_files_are_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert all(answer.result for answer in check_all(TASKS, Neighbourhood, 1))
