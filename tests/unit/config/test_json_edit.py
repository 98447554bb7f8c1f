"""Single values of a settings file are changed, and nothing else in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthanc_plugin.config.json_edit import get_value, remove_value, set_value
from orthanc_plugin.config.orthanc_json import parse_json

DEBIAN_DICOMWEB = """{
    /**
     * The "Host" : "of comments", stays.
     **/
    "DicomWeb" : {
\t"Enable" : true,         // Whether DICOMweb support is enabled
\t"Host" : "localhost",    // Hard-codes the name of the host
\t"Ssl" : false            // "Host" : 5
    }
}
"""


def test_a_value_is_replaced_and_comments_stay() -> None:
    text = set_value(DEBIAN_DICOMWEB, ["DicomWeb", "Enable"], False)
    assert text == DEBIAN_DICOMWEB.replace(": true,", ": false,")


def test_a_member_is_removed_with_its_comma() -> None:
    text = remove_value(DEBIAN_DICOMWEB, ["DicomWeb", "Host"])
    assert text == DEBIAN_DICOMWEB.replace('"Host" : "localhost", ', " ")
    assert parse_json(text) == {"DicomWeb": {"Enable": True, "Ssl": False}}


def test_the_last_member_is_removed_with_the_comma_before_it() -> None:
    assert parse_json(remove_value(DEBIAN_DICOMWEB, ["DicomWeb", "Ssl"]))["DicomWeb"].keys() == {"Enable", "Host"}


@pytest.mark.parametrize(
    ("text", "path", "left"),
    [
        ('{"a": 1}', ["a"], {}),
        ('{"a": 1,}', ["a"], {}),
        ('{"a": 1 /* , */ , // end\n}', ["a"], {}),
        ('{"a": 1, "b": [1, 2,],}', ["b"], {"a": 1}),
        ('{"a": {"x": "}"}, "b": 2}', ["a"], {"b": 2}),
        ('{"a": {"x": "}"}, "b": 2}', ["a", "x"], {"a": {}, "b": 2}),
        ('{"a": 1}', ["b"], {"a": 1}),
        ('{"a": 1}', ["a", "b"], {"a": 1}),
        ('// "a": {\n{"a": "// no comment", "a2": 1}', ["a2"], {"a": "// no comment"}),
        ('{"a": "line\nbreak", "b": 1}', ["b"], {"a": "line\nbreak"}),
    ],
)
def test_removing(text: str, path: list[str], left: dict[str, Any]) -> None:
    assert parse_json(remove_value(text, path)) == left


def test_an_account_is_added_in_front_of_the_comment_that_shows_how() -> None:
    text = '{\n  // Accounts\n  "RegisteredUsers" : {\n    // "alice" : "alicePassword"\n  }\n}\n'
    added = set_value(text, ["RegisteredUsers", "bob"], 'p"w')
    assert parse_json(added) == {"RegisteredUsers": {"bob": 'p"w'}}
    assert '// "alice" : "alicePassword"' in added
    assert remove_value(added, ["RegisteredUsers", "bob"]).split() == text.split()


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "[]x", '{"a": }'])
def test_what_is_not_json_is_not_changed(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        set_value(text, ["a"], 1)


def test_a_value_on_the_way_that_is_no_object() -> None:
    with pytest.raises(ValueError, match="a is not an object"):
        set_value('{"a": 5}', ["a", "b"], 1)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(
    document=st.dictionaries(st.text(max_size=4), _VALUES, max_size=4),
    path=st.lists(st.text(max_size=4), min_size=1, max_size=3),
    value=_VALUES,
    indent=st.sampled_from([None, 1, 4]),
)
def test_any_document_holds_the_new_value_and_all_others(
    document: dict[str, Any], path: list[str], value: object, indent: int | None
) -> None:
    text = json.dumps(document, indent=indent)
    before = parse_json(text)
    try:
        changed = set_value(text, path, value)
    except ValueError:
        return
    assert get_value(changed, path) == value
    removed = parse_json(remove_value(changed, path))
    assert get_value(json.dumps(removed), path, "absent") == "absent"
    assert {k: v for k, v in parse_json(changed).items() if k != path[0]} == {
        k: v for k, v in before.items() if k != path[0]
    }
