"""Webhooks: who is told of what, how a notice is signed, and what becomes of one that is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.webhooks import Event, WebhookSettings
from orthanc_plugin.domain.job import JobState, StageOutcome, StageView
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.errors import ConfigError, EnrichError, TransientError
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import Summary
from orthanc_plugin.jobs.steps import Steps
from orthanc_plugin.jobs.webhooks import Notice, Webhooks, send, signed, try_out
from tests.support.servers.asgi_server import serving
from tests.support.servers.front_door import enqueue, skipped

SECRET = "a secret of many characters"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTICE = Notice("done", "j", "local", "1.2", "1.2.3", "default", "", "", ("2.25.8",))


@dataclass
class Receiver:
    """The other side: keeps what it gets and answers as told."""

    url: str = ""
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        return RedirectResponse("/elsewhere") if self.status == 307 else Response(status_code=self.status)


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    receiver = Receiver()
    with serving(Starlette(routes=[Route("/{path:path}", receiver.take, methods=["POST"])])) as url:
        receiver.url = url
        yield receiver


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    server.got, server.status = [], 204
    return server


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    with closing(JobQueue(f"sqlite:///{tmp_path / 'jobs.db'}")) as queue:
        yield queue


def hooks(url: str = "http://127.0.0.1:1", *events: Event, secret: str = SECRET) -> dict[str, WebhookSettings]:
    wanted = {"Events": list(events)} if events else {}
    return parse_section({"Webhooks": {"far": {"Url": url, "Secret": secret} | wanted}}, {}).webhooks


class TestSending:
    def test_a_receiver_can_check_who_sent_what_and_when(self, receiver: Receiver) -> None:
        assert send(hooks(f"{receiver.url}/hook"), "@far", "id-1", NOTICE, NOW) == "answered 204"
        ((headers, body),) = receiver.got
        signed_text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        mac = base64.b64encode(hmac.new(SECRET.encode(), signed_text, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{mac}"
        assert (headers["webhook-id"], int(headers["webhook-timestamp"])) == ("id-1", int(NOW.timestamp()))
        told = json.loads(body)
        assert (told["type"], told["timestamp"]) == ("series.done", NOW.isoformat())
        assert (told["data"]["series_instance_uid"], told["data"]["results"]) == ("1.2.3", ["2.25.8"])
        assert SECRET not in body.decode()

    def test_the_example_of_the_specification_is_met(self) -> None:
        """Symmetric example of the Standard Webhooks specification, as its libraries test it."""
        secret, message_id = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
        when, body = datetime.fromtimestamp(1614265330, UTC), b'{"test": 2432232314}'
        expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        assert signed(secret, message_id, when, body)["webhook-signature"] == expected

    @pytest.mark.parametrize(
        ("status", "error"),
        [(500, TransientError), (429, TransientError), (400, EnrichError), (410, EnrichError), (307, EnrichError)],
    )
    def test_only_what_may_pass_is_tried_again_and_no_redirect_is_followed(
        self, receiver: Receiver, status: int, error: type[EnrichError]
    ) -> None:
        receiver.status = status
        with pytest.raises(error, match=f"answered {status}") as raised:
            send(hooks(receiver.url), "@far", "id", NOTICE, NOW)
        assert isinstance(raised.value, TransientError) == (error is TransientError)
        assert len(receiver.got) == 1

    @pytest.mark.parametrize(
        ("status", "remedy"), [(302, "set its Url"), (401, "compare its secret"), (404, "its Url")]
    )
    def test_a_refusal_says_what_to_do(self, receiver: Receiver, status: int, remedy: str) -> None:
        receiver.status = status
        with pytest.raises(EnrichError, match=f"webhook far answered {status}: .*{remedy}"):
            send(hooks(receiver.url), "@far", "id", NOTICE, NOW)

    def test_who_does_not_answer_is_asked_again(self) -> None:
        with pytest.raises(TransientError, match="webhook far: nothing listens at its address"):
            send(hooks(), "@far", "id", NOTICE, NOW)

    def test_an_address_that_the_configuration_no_longer_names_is_not_called(self) -> None:
        with pytest.raises(ConfigError, match="no webhook far"):
            send({}, "@far", "id", NOTICE, NOW)

    def test_a_test_says_that_it_is_one(self, receiver: Receiver) -> None:
        assert try_out(hooks(receiver.url), "far", "id", NOW) == "answered 204"
        assert json.loads(receiver.got[0][1])["type"] == "series.test"


class TestSettings:
    @pytest.mark.parametrize(
        ("webhook", "said"),
        [
            ({"Url": "https://a.example"}, "Secret"),
            ({"Url": "https://a.example", "Secret": "short"}, "at least 24 characters"),
            ({"Url": "http://a.example/hook", "Secret": SECRET}, "needs https"),
            ({"Url": "ftp://a.example", "Secret": SECRET}, "Url"),
            ({"Url": "https://a.example", "Secret": SECRET, "Events": ["all"]}, "Events"),
        ],
    )
    def test_what_is_not_safe_is_refused(self, webhook: dict[str, object], said: str) -> None:
        with pytest.raises(ConfigError, match=said) as raised:
            parse_section({"Webhooks": {"far": webhook}}, {})
        assert SECRET not in str(raised.value)

    def test_the_secret_is_in_no_text_of_the_settings(self) -> None:
        assert SECRET not in repr(hooks())


class TestTelling:
    def test_each_end_of_a_job_is_told_once(self, queue: JobQueue) -> None:
        told = Steps(queue, webhooks=Webhooks(hooks()))
        job_id = enqueue(queue, "1.2.100")
        queue.ledger.start(job_id)
        stored = StoredObject(Output.SEG, "1", "1.2", "2.25.7", "2.25.8", False)
        outcome = StageOutcome(StageView("segment a", 1.0, 1.0), stored)
        for _ in range(2):  # the engine runs the step again after a crash
            told.close(queue.job(job_id), job_id, [outcome])
        (notice,) = queue.deliveries.of_job(job_id)
        assert (notice.kind, notice.destination, notice.state) == ("notify", "@far", JobState.QUEUED)
        (workflow,) = queue._client.list_workflows(workflow_ids=[notice.workflow_id])
        content = Notice.from_json(workflow.input["args"][0])
        assert (content.event, content.job, content.results) == ("done", job_id, ("2.25.8",))
        assert [view.kind for view in queue.deliveries.list(JobState.QUEUED)] == ["notify"]

    def test_only_the_events_that_are_asked_for_are_told(self, queue: JobQueue) -> None:
        webhooks = Webhooks(hooks("http://127.0.0.1:1", Event.FAILED))
        row = skipped("1.2.100")
        webhooks.tell(queue.deliveries, row)
        assert queue.deliveries.list() == ()
        webhooks.tell(queue.deliveries, replace(row, state=JobState.FAILED, job_id="j"))
        webhooks.tell(queue.deliveries, replace(row, state=JobState.CANCELLED, job_id="j2"))
        assert [view.job_id for view in queue.deliveries.list()] == ["j"]

    def test_a_skip_without_a_job_and_a_failed_delivery_are_told(self, queue: JobQueue) -> None:
        webhooks = Webhooks(hooks())
        webhooks.tell(queue.deliveries, skipped("1.2.100"))
        job_id = enqueue(queue, "1.2.101")
        row = queue.ledger.of_job(job_id)
        assert row is not None
        webhooks.delivery_failed(queue.deliveries, replace(row, summary=Summary()), "far-archive", "refused")
        contents = [
            Notice.from_json(workflow.input["args"][0]) for workflow in queue._client.list_workflows(name=["notify"])
        ]
        assert {(notice.event, notice.destination) for notice in contents} == {
            ("skipped", ""), ("delivery-failed", "far-archive"),
        }  # fmt: skip

    def test_a_notice_is_cancelled_and_retried_like_a_copy(self, queue: JobQueue) -> None:
        job_id = enqueue(queue, "1.2.101")
        row = queue.ledger.of_job(job_id)
        assert row is not None
        Webhooks(hooks()).tell(queue.deliveries, replace(row, state=JobState.DONE))
        queue.deliveries.cancel(job_id, "@far")
        assert queue.deliveries.of_job(job_id)[0].state is JobState.CANCELLED
        queue.deliveries.retry(job_id, "@far")
        (again,) = queue.deliveries.of_job(job_id)
        assert again.state is JobState.QUEUED
        (workflow,) = queue._client.list_workflows(workflow_ids=[again.workflow_id], load_input=False)
        assert (workflow.queue_name, workflow.queue_partition_key) == ("notify", "@far")
