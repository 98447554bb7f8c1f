"""Webhooks of a real service and worker: what happens to series is told, signed, and told again after an error."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.cases.enriched import EnrichedOrthanc, small_chest
from tests.support.servers.asgi_server import serving
from tests.support.servers.orthanc_server import wait_until

pytestmark = pytest.mark.timeout(600)
SECRET = "a secret of many characters"
LIGHT = {"Models": ["chest_structures"], "Locate": "", "Outputs": ["seg"], "Radiomics": False}
RULES = [
    {"Name": "deaf-home", "Match": {"SeriesDescription": "^fails$"}, "HomeArchive": "deaf", **LIGHT},
    {"Name": "deaf-copy", "Match": {"SeriesDescription": "^copied$"}, "Destinations": ["deaf"], **LIGHT},
]


@dataclass(frozen=True)
class Told:
    """One request of a webhook, and whether its signature is right."""

    place: str
    id: str
    signed: bool
    type: str
    data: dict[str, Any]


@dataclass
class Receiver:
    """The other side: answers 500 to the first try of each notice at `/slow`, and 410 at `/gone` while it is gone."""

    told: list[Told] = field(default_factory=list)
    gone: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def take(self, request: Request) -> Response:
        body, headers = await request.body(), request.headers
        text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        mac = base64.b64encode(hmac.new(SECRET.encode(), text, hashlib.sha256).digest()).decode()
        content = json.loads(body)
        place = request.path_params["place"]
        told = Told(place, headers["webhook-id"], headers["webhook-signature"] == f"v1,{mac}", content["type"],
                    content["data"])  # fmt: skip
        with self.lock:
            first = told.id not in {one.id for one in self.told}
            self.told.append(told)
        if place == "gone" and self.gone:
            return Response(status_code=410)
        return Response(status_code=500 if place == "slow" and first else 204)

    def at(self, place: str, series: str) -> list[Told]:
        with self.lock:
            return [one for one in self.told if (one.place, one.data["series_instance_uid"]) == (place, series)]

    def tests(self) -> list[Told]:
        with self.lock:
            return [one for one in self.told if one.type == "series.test"]


def deaf_archive() -> Starlette:
    """An archive that holds nothing and supports no object."""

    def nothing(request: Request) -> Response:
        if request.method == "POST":
            return Response(status_code=415)
        searched = request.url.path.rpartition("/")[2] in ("studies", "series", "instances")
        return JSONResponse([]) if searched else Response(status_code=404)

    return Starlette(routes=[Route("/{path:path}", nothing, methods=["GET", "POST"])])


@pytest.fixture(scope="module")
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture(scope="module")
def site(orthanc_installed: None, receiver: Receiver) -> Iterator[EnrichedOrthanc]:
    other_side = Starlette(routes=[Route("/{place}", receiver.take, methods=["POST"])])
    with serving(other_side) as url, serving(deaf_archive()) as deaf:
        hooks = {
            "all": {"Url": f"{url}/all", "Secret": SECRET},
            "slow": {"Url": f"{url}/slow", "Secret": SECRET, "Events": ["done"]},
            "gone": {"Url": f"{url}/gone", "Secret": SECRET, "Events": ["skipped"]},
        }
        orthanc = EnrichedOrthanc(section={"Rules": RULES, "Webhooks": hooks})
        assert orthanc.enrichment is not None
        orthanc.enrichment["Archives"] |= {"deaf": {"Url": f"{deaf}/dicom-web"}}
        with orthanc:
            orthanc.await_service()
            yield orthanc


@pytest.fixture(scope="module")
def sent(site: EnrichedOrthanc, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The SeriesInstanceUIDs, by what becomes of them; all are sent before the first is waited for."""
    found = {}
    for name in ("copied", "fails", "skipped"):
        thin = make_phantom(shape=(5, 64, 64), spacing_mm=(5.0, 3.2, 3.2))
        files = write_phantom(
            tmp_path_factory.mktemp(name), thin if name == "skipped" else small_chest(), uid_seed=f"webhook {name}"
        )
        for file in files:
            ds = dcmread(file)
            ds.SeriesDescription = name
            ds.save_as(file)
        site.stow(files)
        found[name] = str(ds.SeriesInstanceUID)
    return found


def await_told(receiver: Receiver, place: str, series: str, kind: str, times: int = 1) -> list[Told]:
    """Wait until a webhook was told of an event so often; more often is wrong."""

    def told() -> list[Told]:
        found = [one for one in receiver.at(place, series) if one.type == f"series.{kind}"]
        return found if len(found) >= times else []

    return wait_until(told, 180, f"{times} notices of {kind} at {place}")


def test_the_end_of_each_series_is_told_once_and_signed(
    site: EnrichedOrthanc, sent: dict[str, str], receiver: Receiver
) -> None:
    for name, kind in (("copied", "done"), ("fails", "failed"), ("skipped", "skipped")):
        (told,) = await_told(receiver, "all", sent[name], kind)
        (row,) = site.rows(sent[name])
        assert told.signed
        assert (told.data["job"], told.data["rule"], told.data["archive"]) == (row["job_id"], row["rule"], "local")
        assert (told.data["reason"], row["state"]) == (row["reason"], kind)
        assert bool(row["reason"]) == (kind != "done")
        assert told.data["study_instance_uid"] == row["study_instance_uid"]
    stored = {str(ds.SOPInstanceUID) for ds in site.results(site.rows(sent["copied"])[0]["study_instance_uid"])}
    (done,) = await_told(receiver, "all", sent["copied"], "done")
    assert set(done.data["results"]) == stored != set()
    assert "Patient" not in json.dumps(done.data)


def test_a_delivery_that_fails_at_last_is_told_with_its_destination(
    site: EnrichedOrthanc, sent: dict[str, str], receiver: Receiver
) -> None:
    (told,) = await_told(receiver, "all", sent["copied"], "delivery-failed")
    assert (told.signed, told.data["destination"]) == (True, "deaf")
    assert "415" in told.data["detail"]


def test_a_receiver_in_trouble_is_told_again_by_the_same_id(
    site: EnrichedOrthanc, sent: dict[str, str], receiver: Receiver
) -> None:
    first, second = await_told(receiver, "slow", sent["copied"], "done", times=2)
    assert first.id == second.id
    assert [first.signed, second.signed] == [True, True]
    job = site.rows(sent["copied"])[0]["job_id"]

    def done() -> list[dict[str, Any]]:
        found = site.api(f"jobs/{job}")["deliveries"]
        return [one for one in found if (one["destination"], one["state"]) == ("@slow", "done")]

    (notice,) = wait_until(done, 60, "a notice that is done")
    assert notice["notes"] == ["done: answered 204"]
    assert receiver.at("slow", sent["fails"]) == receiver.at("slow", sent["skipped"]) == []


def test_a_notice_that_was_refused_fails_at_once_and_comes_by_hand(
    site: EnrichedOrthanc, sent: dict[str, str], receiver: Receiver
) -> None:
    (refused,) = await_told(receiver, "gone", sent["skipped"], "skipped")

    def notice() -> dict[str, Any]:
        (found,) = (one for one in site.api("deliveries")["deliveries"] if one["destination"] == "@gone")
        return dict(found)

    failed = wait_until(lambda: found if (found := notice())["state"] == "failed" else None, 60, "a failed notice")
    assert failed is not None
    assert failed["error"].endswith("webhook gone answered 410")
    receiver.gone = False
    posted(site, f"deliveries/{failed['job_id']}/@gone/retry")
    wait_until(lambda: notice()["state"] == "done", 60, "a notice that is done")
    assert [one.id for one in receiver.at("gone", sent["skipped"])] == [refused.id] * 2


def test_the_test_button_sends_a_signed_notice(site: EnrichedOrthanc, receiver: Receiver) -> None:
    assert posted(site, "webhooks/all/test") == {"answer": "answered 204"}
    (told,) = receiver.tests()
    assert (told.place, told.signed) == ("all", True)


def posted(site: EnrichedOrthanc, path: str) -> Any:
    answer = httpx.post(
        f"{site.service_url}/enrichment/api/v1/{path}",
        auth=(site.user, site.password), trust_env=False, timeout=30,
    )  # fmt: skip
    assert answer.is_success, answer.text
    return answer.json()
