"""A pool of processes that check files; one that dies takes only its own file with it."""

from __future__ import annotations

import gc
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from trainlint.check import Checker, FileResult, Plan, World, is_parsed

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

FEW_FILES = 8
"""Up to so many files a pool costs more than it gains."""

SMALL_BATCH = 60_000
"""Bytes of source that are sent to a worker at once, so that tiny files cost no round trip each."""

MEGABYTES_OF_STACK = 64
_COLLECT_EVERY = 6_000_000
"""Characters parsed after which cyclic garbage is collected; never while parsing.

What a check reads of other files counts: an analysis leaves as much behind for them.
"""


class Task(NamedTuple):
    """A file to check."""

    path: str
    plan: Plan
    size: int


class Answer(NamedTuple):
    """What became of a task: a result, or the text of an internal error."""

    path: str
    result: FileResult | None
    error: str = ""


def check_all(
    tasks: Sequence[Task],
    world: Callable[[], World],
    jobs: int,
    given: dict[str, bytes] | None = None,
) -> Iterator[Answer]:
    """Check all files, in any order."""
    if jobs > 1 and len(tasks) > FEW_FILES and not given:
        yield from _Pool(world, jobs).run(tasks)
    else:
        yield from _here(tasks, world, given)


def _here(
    tasks: Sequence[Task], world: Callable[[], World], given: dict[str, bytes] | None
) -> Iterator[Answer]:
    """In this process, garbage collection tamed, on a stack that is deep enough."""
    checker = Checker(world(), given)
    stack = _DeepStack()
    collects = gc.isenabled()
    gc.disable()
    try:
        for task in tasks:
            yield stack.answer(lambda task=task: _answer(checker, task))  # type: ignore[misc]
            _collect_sometimes(checker)
    finally:
        stack.end()
        if collects:
            gc.enable()


def _collect_sometimes(checker: Checker) -> None:
    """Only what is new: few cycles are left behind, and trees, which live on, have none."""
    if checker.parsed > _COLLECT_EVERY:
        gc.collect(0)
        checker.parsed = 0


def _answer(checker: Checker, task: Task) -> Answer:
    try:
        return Answer(task.path, checker.check(task.path, task.plan))
    except Exception:
        return Answer(task.path, None, traceback.format_exc())


class _DeepStack:
    """A thread whose stack does not depend on the system's limits.

    libcst's parser is recursive native code; what `guard` lets through fits into 8 MB, which is
    not what every system gives a main thread. It is one thread for all files: each new one may
    get memory of its own from the allocator, which is not given back.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], Answer] | None] = SimpleQueue()
        self._done: SimpleQueue[Answer | BaseException] = SimpleQueue()
        before = threading.stack_size(MEGABYTES_OF_STACK << 20)
        try:
            threading.Thread(target=self._run, daemon=True).start()
            self._has_room = True
        except (RuntimeError, MemoryError):  # no room for the stack: the limits hold without it
            self._has_room = False
        finally:
            threading.stack_size(before)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                self._done.put(work())
            except BaseException as error:  # for the thread that waits
                self._done.put(error)

    def answer(self, work: Callable[[], Answer]) -> Answer:
        """What the work gives."""
        if not self._has_room:
            return work()
        self._work.put(work)
        done = self._done.get()
        if isinstance(done, BaseException):
            raise done
        return done

    def end(self) -> None:
        """Let the thread end."""
        self._work.put(None)


# --- the pool ------------------------------------------------------------------------------

Batch = tuple[Task, ...]


def _batches(tasks: Sequence[Task]) -> list[Batch]:
    """Largest first, so that no worker is left with a large file at the end."""
    batches: list[Batch] = []
    current: list[Task] = []
    size = 0
    for task in sorted(tasks, key=lambda task: (-task.size, task.path)):
        if current and size + task.size > SMALL_BATCH:
            batches.append(tuple(current))
            current, size = [], 0
        current.append(task)
        size += task.size
    if current:
        batches.append(tuple(current))
    return batches


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection


class _Pool:
    """Hands batches to processes and starts a new process for each that dies."""

    def __init__(self, world: Callable[[], World], jobs: int) -> None:
        self._world = world
        self._jobs = jobs
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, Batch]] = {}

    def run(self, tasks: Sequence[Task]) -> Iterator[Answer]:
        from multiprocessing.connection import wait

        context = _context()
        waiting = _batches(tasks)[::-1]
        largest = waiting[-1][0]
        if context.get_start_method() == "fork" and is_parsed(largest.path, largest.plan):
            _import_all()
        gc.collect()
        gc.freeze()  # so that workers do not copy the pages of what already is
        try:
            while waiting or self._busy:
                self._hand_out(waiting, context)
                for pipe in wait(list(self._busy)):
                    yield from self._collect(pipe, waiting)  # type: ignore[arg-type]
        finally:
            gc.unfreeze()
            self._stop()

    def _hand_out(self, waiting: list[Batch], context: BaseContext) -> None:
        while waiting and len(self._busy) < self._jobs:
            batch = waiting.pop()
            worker = self._idle.pop() if self._idle else self._start(context)
            self._busy[worker.pipe] = (worker, batch)
            try:
                worker.pipe.send(batch)
            except OSError:  # it died between two tasks: `_collect` will see its end
                continue

    def _start(self, context: BaseContext) -> _Worker:
        ours, theirs = context.Pipe()
        # A forked child has copies of the parent's ends; while it keeps them it never sees the
        # end of its own pipe, should the parent die.
        forked = context.get_start_method() == "fork"
        inherited = (ours, *self._busy, *(worker.pipe for worker in self._idle)) if forked else ()
        process = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(theirs, self._world, inherited), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _collect(self, pipe: Connection, waiting: list[Batch]) -> Iterator[Answer]:
        worker, batch = self._busy.pop(pipe)
        try:
            answers: list[Answer] = pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            pipe.close()
            yield from self._after_death(worker, batch, waiting)
            return
        self._idle.append(worker)
        yield from answers

    def _after_death(self, worker: _Worker, batch: Batch, waiting: list[Batch]) -> Iterator[Answer]:
        if len(batch) > 1:  # one of them did it: each gets a process of its own
            waiting.extend((task,) for task in batch)
            return
        code = worker.process.exitcode
        yield Answer(batch[0].path, None, f"the process that checked it died (exit code {code})\n")

    def _stop(self) -> None:
        workers = [*self._idle, *(worker for worker, _ in self._busy.values())]
        for worker in workers:
            worker.pipe.close()
            worker.process.terminate()  # what it would still do is of no use to anybody
        for worker in workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()


def _import_all() -> None:
    """What checks of parsed files need: imported before the fork, it is not by each worker."""
    import trainlint.flow
    import trainlint.rules
    import trainlint.syntax.parse

    trainlint.rules.all_rules()


def _context() -> BaseContext:
    from multiprocessing import get_context

    return get_context("fork" if sys.platform == "linux" else "spawn")


def _serve(pipe: Connection, world: Callable[[], World], inherited: Sequence[Connection]) -> None:
    """A worker's life: batches in, answers out, until the pipe is closed."""
    import signal

    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the workers
    gc.disable()
    checker = Checker(world())
    stack = _DeepStack()
    while True:
        try:
            batch: Batch = pipe.recv()
        except (EOFError, OSError):
            break
        answers = []
        for task in batch:
            answers.append(stack.answer(lambda task=task: _answer(checker, task)))  # type: ignore[misc]
            _collect_sometimes(checker)
        try:
            pipe.send(answers)
        except OSError:
            break
    os._exit(0)  # nothing to flush, and the interpreter's own end takes time


def available_jobs() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
