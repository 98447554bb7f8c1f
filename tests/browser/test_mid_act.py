"""What a person sees who acts while something else happens: another window, no network, a name from right to left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.pages import PHONE, opened, too_wide, until
from tests.support.servers.front_door import FrontDoor, enqueue, front_door

NAME, ID, BORN = "כהן^משה", "4711", "19700131"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        yield door


@pytest.fixture
def page(door: FrontDoor, browser: BrowserContext) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def test_the_second_window_is_told_what_the_first_one_did(page: Page, door: FrontDoor) -> None:
    job_id = enqueue(door.queue, "1.2.1")
    opened(page, door, f"jobs/{job_id}")
    door.queue.cancel(job_id)
    page.get_by_role("button", name="Cancel").click()
    until(page, "document.getElementById('said').innerText.endsWith('only an open job can be cancelled.')")


def test_an_act_without_network_says_what_to_do(page: Page, door: FrontDoor) -> None:
    opened(page, door, f"jobs/{enqueue(door.queue, '1.2.2')}")
    page.route("**/cancel", lambda route: route.abort())
    page.get_by_role("button", name="Cancel").click()
    until(page, "document.getElementById('said').innerText.startsWith('The service does not answer: check')")


def test_a_name_from_right_to_left_leaves_the_numbers_beside_it_in_their_places(page: Page, door: FrontDoor) -> None:
    found = {"patient_name": NAME, "patient_id": ID, "birth_date": BORN, "sex": "M", "accession_number": ""}
    opened(page, door, f"jobs/{enqueue(door.queue, '1.2.3')}")
    page.route("**/patients", lambda route: route.fulfill(json=found))
    page.get_by_role("button", name="Show the patient").click()
    page.locator(".patient").wait_for()
    lefts = page.evaluate(
        "[...document.querySelectorAll('.patient bdi')].map((one) => one.getBoundingClientRect().left)"
    )
    assert page.locator(".patient").inner_text() == f"{NAME} · {ID} · {BORN} · M"
    assert (len(lefts), lefts) == (4, sorted(lefts))


def test_files_that_cannot_be_sent_or_are_too_many_are_told(page: Page, door: FrontDoor, tmp_path: Path) -> None:
    opened(page, door, "rules")
    (tmp_path / "a.txt").write_text("no DICOM")
    page.route("**/rules/files", lambda route: route.abort())
    page.locator("#files").set_input_files(tmp_path / "a.txt")
    until(page, "document.getElementById('dropped').innerText.startsWith('These files could not be sent: choose')")
    page.unroute("**/rules/files")
    page.locator("#files").set_input_files([{"name": f"{n}", "mimeType": "", "buffer": b"x"} for n in range(1001)])
    until(page, "document.getElementById('dropped').innerText.startsWith('Only the first 1000 of 1001 files')")
    assert "1000 files are not DICOM" in page.locator("#dropped").inner_text()


def test_the_longest_name_of_a_rule_fits_on_a_phone(page: Page, door: FrontDoor) -> None:
    page.set_viewport_size(PHONE)
    opened(page, door, f"jobs/{enqueue(door.queue, '1.2.4', rule='r' * 64)}")
    assert too_wide(page) == []
    assert "act by" in page.locator("noscript").inner_html()
