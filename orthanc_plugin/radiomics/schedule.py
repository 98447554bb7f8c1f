"""Several tasks at a time within a memory limit, with results in the order of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from orthanc_plugin.correlation import CarryingPool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """A computation and the memory that it needs."""

    memory_mib: float
    run: Callable[[], T]


def run_within(tasks: Sequence[Task[T]], workers: int, memory_mib: float) -> list[T]:
    """Run the tasks, the largest first, within the memory limit.

    Parameters
    ----------
    tasks : sequence of Task
    workers : int
        Tasks at a time.
    memory_mib : float
        Limit for the sum over the running tasks. A task that needs more runs alone.

    Returns
    -------
    list
        Results in the order of the tasks.

    Raises
    ------
    Exception
        The error of a task. Tasks that have not started are then skipped.
    """
    if workers == 1:
        return [task.run() for task in tasks]
    waiting = sorted(range(len(tasks)), key=lambda number: -tasks[number].memory_mib)
    results: dict[int, T] = {}
    running: dict[Future[T], int] = {}
    with CarryingPool(workers, thread_name_prefix="radiomics") as pool:
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
