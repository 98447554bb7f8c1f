"""docs/errors.md shows the error tree of errors.py and every reason, and nothing that is not there."""

from __future__ import annotations

import re
import textwrap

from orthanc_plugin import errors
from orthanc_plugin.errors import EnrichError, InputError, Refusal
from tests.support.cases.realct import ROOT

PAGE = (ROOT / "docs" / "errors.md").read_text()
SOURCES = {
    path: path.read_text() for path in (ROOT / "orthanc_plugin").rglob("*.py") if path.name != "errors.py"
}  # fmt: skip


def tree(kind: type[Exception], depth: int = 0) -> list[tuple[int, str]]:
    return [(depth, kind.__name__), *(leaf for sub in kind.__subclasses__() for leaf in tree(sub, depth + 1))]


def test_the_page_shows_the_tree_as_the_module_draws_it() -> None:
    drawn = re.findall(r"^    .*$", errors.__doc__ or "", re.MULTILINE)
    (shown,) = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    assert shown.splitlines() == textwrap.dedent("\n".join(drawn)).splitlines()


def test_the_tree_is_that_of_the_classes() -> None:
    drawn = re.findall(r"^    ( *)(\w+)", errors.__doc__ or "", re.MULTILINE)
    assert [(len(indent) // 2, name) for indent, name in drawn] == tree(EnrichError)


def test_the_docstring_of_a_class_is_its_default_message() -> None:
    for kind in EnrichError.__subclasses__():
        if kind is not InputError:
            assert str(kind()) == kind.__doc__


def test_each_reason_has_its_row_and_each_row_its_reason() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert rows == [reason.value for reason in Refusal]


def test_each_reason_is_given_somewhere() -> None:
    given = set(re.findall(r"Refusal\.([A-Z_]+)", "".join(SOURCES.values())))
    assert given == set(Refusal.__members__)


def test_who_gives_a_reason_is_who_the_page_says() -> None:
    places = {
        "rules": ("rules/",),
        "loader": ("series/",),
        "archive": ("archive/",),
        "decision": ("jobs/decision.py",),
        "worker": ("jobs/sessions.py", "pipeline/guards.py", "pipeline/scan.py", "domain/job.py"),
        "model": ("inference/",),
        "masks": ("results/foreign.py", "results/seg/foreign.py", "results/rt/foreign.py", "pipeline/foreign.py"),
    }
    for reason, told in re.findall(r"^\| `([a-z-]+)` \| ([a-z, ]+) \|", PAGE, re.MULTILINE):
        needle = f"Refusal.{Refusal(reason).name}"
        for who in told.split(", "):
            texts = [text for path, text in SOURCES.items() if any(part in path.as_posix() for part in places[who])]
            if who != "decision" or reason in ("two-patients", "unreadable"):  # else what series/ raises reaches it
                assert any(re.search(rf"{needle}\b", text) for text in texts), (reason, who)
