"""What is negotiated with DICOM nodes: every syntax of a CT that is read, within the room of an association."""

from __future__ import annotations

import pytest
from pydicom.uid import CTImageStorage

from orthanc_plugin.archive.syntaxes import RESULT_CLASSES, SERIES_CLASSES, any_syntax, as_stored
from orthanc_plugin.series.decoders import DECODER_DEPENDENCIES

MOST_CONTEXTS = 128
"""PS3.8 9.3.2.2; one of them is the retrieval's own."""


@pytest.mark.parametrize("classes", [SERIES_CLASSES, RESULT_CLASSES])
def test_an_association_has_room_for_all_contexts(classes: list[str]) -> None:
    assert len(as_stored(classes)) < MOST_CONTEXTS


def test_a_node_may_send_a_ct_in_every_syntax_that_is_read() -> None:
    for contexts in (as_stored(SERIES_CLASSES), any_syntax(SERIES_CLASSES)):
        offered = {s for c in contexts if c.abstract_syntax == CTImageStorage for s in c.transfer_syntax}
        assert set(DECODER_DEPENDENCIES) <= offered
