"""Work shared out to processes, one a core: results in no order, and noticing when one is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from fdlab.errors import Failure, UserError

Maker = tuple[Callable[..., Any], *tuple[str, ...]]
"""What makes a thing, and its arguments: to a worker they travel better than the thing."""
Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int = 0
) -> Iterator[Result]:
    """Yield `function(job)` for every job, as they are done: in `workers` processes (0: one a core), or here
    where one is enough.

    Raises: Failure where a process dies, as when the kernel ends it for want of memory; what the function
    raises.
    """
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers < 2:
        yield from map(function, jobs)
        return
    # A forked worker would inherit locks of torch's threads; a spawned one imports what it needs.
    context = multiprocessing.get_context("spawn")
    todo = iter(jobs)
    started: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, function), daemon=True)
            process.start()
            theirs.close()
            started[ours] = process
        busy = set(started)
        for connection in started:
            _tell(connection, next(todo), started[connection])
        while busy:
            for ready in wait(busy):
                connection = next(one for one in busy if one is ready)
                yield _answer(connection, started[connection])
                if (job := next(todo, None)) is None:
                    busy.remove(connection)
                    connection.close()
                else:
                    _tell(connection, job, started[connection])
    finally:
        for connection, worker in started.items():
            worker.terminate()
            worker.join()
            connection.close()


def worth_starting(workers: int, num: int, each: int) -> int:
    """How many processes to start for `num` small pieces of work, `each` of which take as long as a start:
    those asked for, else (0) one a core at most."""
    return workers or max(1, min(os.cpu_count() or 1, num // each))


def share_of(shard: str | None) -> tuple[int, int]:
    """Which part of how many a shard "I/N" is; the whole for None. Raises: UserError."""
    if shard is None:
        return 0, 1
    index, slash, count = shard.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UserError(f"shard={shard}: allowed are 0/N to (N-1)/N, such as 0/4.")
    return int(index), int(count)


@lru_cache(maxsize=4)
def made(maker: Maker) -> Any:
    """The thing that a maker makes, once a process."""
    function, *arguments = maker
    return function(*arguments)


def _tell(connection: Connection, job: object, process: BaseProcess) -> None:
    try:
        connection.send(job)
    except OSError:
        raise _ended(process) from None


def _answer(connection: Connection, process: BaseProcess) -> Any:
    try:
        result, error = connection.recv()
    except (EOFError, OSError):
        raise _ended(process) from None
    if error is not None:
        raise error
    return result


def _ended(process: BaseProcess) -> Failure:
    process.join()
    return Failure(
        f"worker process {process.pid} ended {_why(process.exitcode or 0)}; what was finished is kept, and "
        "the same command goes on. Where memory is short, fewer processes need less."
    )


def _why(exitcode: int) -> str:
    if exitcode == -signal.SIGKILL:
        return "by SIGKILL, as the kernel ends one when memory is short"
    return f"by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"with status {exitcode}"


def _work(connection: Connection, function: Callable[[Any], object]) -> None:
    """In a worker: answer each job by what came of it and the error, if any. Ctrl-C is left to the process
    that waits, which then ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            # All is done, or the process that waited is gone.
            return
        try:
            answer: tuple[object, Exception | None] = function(job), None
        except Exception as error:
            error.add_note("in a worker process:\n" + traceback.format_exc())
            answer = None, error
        connection.send(answer)
