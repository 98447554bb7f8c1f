"""UIDs as DICOM PS3.5 9.1 allows them."""

from __future__ import annotations

import pytest

from orthanc_plugin.domain.uids import check_uids, is_uid, loggable_uid
from orthanc_plugin.errors import InputError, Refusal


@pytest.mark.parametrize("uid", ["1.2", "0.0", "1.2.840.10008.5.1.4.1.1.2", "2.25." + "9" * 59, "1.0.3"])
def test_what_dicom_allows_is_a_uid(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize(
    "uid",
    ["", "1", "1.", ".1", "1..2", "1.02", "1.2\n", "1.2\n3", "x?_method=DELETE", "1.2/../3", "1.٣", "1." + "2" * 63],
)
def test_anything_else_is_not_and_the_message_does_not_repeat_it(uid: str) -> None:
    assert not is_uid(uid)
    with pytest.raises(InputError) as refused:
        check_uids("1.2", uid)
    assert refused.value.reason is Refusal.BAD_UID
    assert not uid.strip("1.") or uid not in str(refused.value)


@pytest.mark.parametrize("uid", ["Planted^Name", "1.2\n2026 ERROR forged", "1.2." + "9" * 61, "4711"])
def test_a_log_holds_uids_and_no_other_text_in_their_place(uid: str) -> None:
    assert loggable_uid(uid) == "(not a valid UID)"
    assert [loggable_uid(text) for text in ("1.2.3", "")] == ["1.2.3", ""]
