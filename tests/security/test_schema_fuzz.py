"""The API against its own OpenAPI document: schemathesis asks each operation what the schema allows and forbids."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks

from orthanc_plugin.service.openapi import document
from tests.support.servers.front_door import PASSWORD, USER, FrontDoor, enqueue, finish, front_door

EXAMPLES = 12


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    with front_door(tmp_path_factory.mktemp("state")) as door:
        finish(door.queue, enqueue(door.queue, "1.2.100"))
        yield door


api = schemathesis.openapi.from_dict(document()).exclude(path_regex="/(events|hints)$")
"""The stream of events has no end, and hints are for the plugin alone."""


@api.parametrize()
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_no_request_breaks_the_api(door: FrontDoor, case: schemathesis.Case) -> None:
    answer = case.call(base_url=door.url, auth=(USER, PASSWORD), timeout=30)
    assert answer.status_code < 500 or answer.status_code in (501, 503)
    case.validate_response(answer, checks=[checks.not_a_server_error] if answer.status_code < 500 else [])
