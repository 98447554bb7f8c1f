"""Several tasks at a time within a memory limit."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from orthanc_plugin.radiomics.schedule import Task, run_within


class Workplace:
    """Counts the running tasks. A task stays until no other can start beside it."""

    def __init__(self, together: int) -> None:
        self.meet = threading.Barrier(together)
        self.lock = threading.Lock()
        self.used = self.most_used = 0.0
        self.begun: list[float] = []

    def task(self, memory_mib: float) -> Callable[[], float]:
        def run() -> float:
            with self.lock:
                self.begun.append(memory_mib)
                self.used += memory_mib
                self.most_used = max(self.most_used, self.used)
            self.meet.wait(timeout=10)
            with self.lock:
                self.used -= memory_mib
            return memory_mib

        return run


def run(sizes: list[float], workers: int, memory_mib: float, together: int) -> Workplace:
    place = Workplace(together)
    tasks = [Task(size, place.task(size)) for size in sizes]
    assert run_within(tasks, workers, memory_mib) == sizes
    return place


@pytest.mark.parametrize("workers", [1, 2])
def test_results_have_the_order_of_the_tasks(workers: int) -> None:
    tasks = [Task(float(number % 3), lambda n=number: n) for number in range(20)]
    assert run_within(tasks, workers, 2.0) == list(range(20))


def test_two_tasks_that_fit_run_together() -> None:
    assert run([60, 40], workers=2, memory_mib=100, together=2).most_used == 100


def test_tasks_that_do_not_fit_together_run_one_after_the_other() -> None:
    assert run([60, 41, 70], workers=3, memory_mib=100, together=1).most_used == 70


def test_a_task_larger_than_the_limit_runs_alone() -> None:
    assert run([10, 500, 20], workers=3, memory_mib=100, together=1).most_used == 500


def test_the_largest_begins_first() -> None:
    assert run([10, 90, 50], workers=1 + 1, memory_mib=90, together=1).begun[0] == 90


def test_no_task_no_result() -> None:
    assert run_within([], 2, 100.0) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_is_raised_and_what_was_not_begun_stays_undone(workers: int) -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("of the task")

    tasks = [Task(100.0, fail), Task(90.0, lambda: done.append(1))]
    with pytest.raises(ValueError, match="of the task"):
        run_within(tasks, workers, 100.0)
    assert done == []
