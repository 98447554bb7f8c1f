"""Several tasks at a time within a limit of memory, results in the order of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """Something to compute and what it takes meanwhile."""

    memory_mib: float
    run: Callable[[], T]


def run_within(tasks: Sequence[Task[T]], workers: int, memory_mib: float) -> list[T]:
    """Results of the tasks, the largest begun first, never more at once than the limit.

    Parameters
    ----------
    tasks : sequence of Task
    workers : int
        Tasks at a time.
    memory_mib : float
        Sum of what the tasks at work take; a task that takes more alone has the limit to itself.

    Raises
    ------
    Whatever a task raises; tasks that were not begun stay undone.
    """
    if workers == 1:
        return [task.run() for task in tasks]
    waiting = sorted(range(len(tasks)), key=lambda number: -tasks[number].memory_mib)
    results: dict[int, T] = {}
    running: dict[Future[T], int] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="radiomics") as pool:
        while waiting or running:
            for number in list(waiting):
                taken = sum(tasks[other].memory_mib for other in running.values())
                fits = taken + tasks[number].memory_mib <= memory_mib
                if len(running) < workers and (fits or not running):
                    running[pool.submit(tasks[number].run)] = number
                    waiting.remove(number)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                results[running.pop(future)] = future.result()
    return [results[number] for number in range(len(tasks))]
