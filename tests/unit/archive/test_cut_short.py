"""Answers of QIDO-RS that leave something out are told apart from whole ones."""

from __future__ import annotations

import json

import pytest
import requests
from requests.adapters import BaseAdapter

from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.archive.protocol import CutShort

MORE = "299 archive: There are 4711 additional results that can be requested"


class Answers(BaseAdapter):
    """Lists one study with one CT series, with a Warning header."""

    def __init__(self, warning: str) -> None:
        super().__init__()
        self.warning = warning

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 200, request, str(request.url)
        answer.headers.update(
            {"Content-Type": "application/dicom+json", **({"Warning": self.warning} if self.warning else {})}
        )
        found = {"0020000D": {"vr": "UI", "Value": ["1.2"]}, "0020000E": {"vr": "UI", "Value": ["1.2.3"]}}
        answer._content = json.dumps([found]).encode()
        return answer

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    ("warning", "cut"), [(MORE, True), ("", False), ("299 archive: fuzzymatching is not supported", False)]
)
def test_a_warning_says_that_there_is_more(warning: str, cut: bool) -> None:
    session = requests.Session()
    session.mount("http://", Answers(warning))
    archive = DicomWebArchive("local", "http://archive/dicom-web", session=session)
    for found, uid in ((archive.studies({"ModalitiesInStudy": "CT"}, 0), "1.2"), (archive.ct_series("1.2"), "1.2.3")):
        assert (found, isinstance(found, CutShort)) == ((uid,), cut)
