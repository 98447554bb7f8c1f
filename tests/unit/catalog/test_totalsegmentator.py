"""Tasks of TotalSegmentator: class maps, data sets, and what is refused."""

from __future__ import annotations

from orthanc_plugin.catalog.anatomy import codes_of
from orthanc_plugin.catalog.totalsegmentator import REFUSED, TASKS, task_of

TOTAL = TASKS["total"]


def test_total_is_the_sum_of_its_five_parts() -> None:
    assert [len(dataset.classes) for dataset in TOTAL.datasets] == [24, 26, 18, 23, 26]
    assert len(TOTAL.classes) == 117
    assert TASKS["total_fast"].classes == TASKS["total_fastest"].classes == TOTAL.classes


def test_heads_of_a_part_get_the_numbers_of_the_task() -> None:
    organs, vertebrae, *_, ribs = TOTAL.datasets
    assert TOTAL.numbers(organs) == tuple(range(25))
    assert TOTAL.numbers(vertebrae) == (0, *range(25, 51))
    assert TOTAL.numbers(ribs)[-1] == 117


def test_only_total_and_its_variants_use_the_wide_step() -> None:
    assert {name for name, task in TASKS.items() if task.tile_step == 0.8} == {"total", "total_fast", "total_fastest"}


def test_every_offered_class_has_a_code() -> None:
    for task in TASKS.values():
        assert len(codes_of(task.classes, {})) == len(task.classes)


def test_offered_and_refused_differ_and_every_refusal_tells_why() -> None:
    assert TASKS.keys().isdisjoint(REFUSED)
    assert all(REFUSED.values())
    assert "licence key" in REFUSED["heartchambers_highres"]


def test_a_task_is_known_by_the_folders_of_its_data_sets() -> None:
    folders = [dataset.folder for dataset in TOTAL.datasets]
    assert task_of(folders) == (TOTAL, TOTAL.datasets)
    assert task_of(folders[1:2]) == (TOTAL, TOTAL.datasets[1:2])
    assert task_of(["Dataset001_Mine"]) is None
