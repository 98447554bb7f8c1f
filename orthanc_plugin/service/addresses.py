"""What an address may hold, so that nobody behind us reads another one in it.

Orthanc decodes a path once and ends it at a NUL character. A check of the text as it came could be passed by another
spelling; so paths have one spelling: percent escapes of one level, valid UTF-8, no control character and no backslash.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_CONTROL_IN_QUERY = re.compile(rb"%(?:[01][0-9A-Fa-f]|7[Ff])|[\x00-\x1f\x7f]")
_PORTS = {"http": 80, "https": 443}


def plain_path(raw_path: bytes) -> str:
    """Decode a path as Orthanc does.

    Raises
    ------
    ValueError
        If it could be read in more than one way: escapes of escapes or broken ones, control characters, backslashes,
        or bytes that are not UTF-8 (overlong forms among them).
    """
    decoded = unquote_to_bytes(raw_path)
    if b"%" in _ESCAPE.sub(b"", raw_path) or b"%" in decoded:
        raise ValueError("an escape is broken or escaped itself")
    text = decoded.decode("utf-8")
    if "\\" in text or any(unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") for letter in text):
        raise ValueError("a character is not allowed")
    return text


def is_plain_query(query: bytes) -> bool:
    """Tell whether a query holds no control character; the values of DICOMweb never do."""
    return not _CONTROL_IN_QUERY.search(query)


def is_same_origin(origin: str, scheme: str, host: str) -> bool:
    """Compare scheme, name and port of an Origin with those under which the caller reached us."""
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"{scheme}://{host}")
        return _triple(theirs) == _triple(ours) and bool(theirs.hostname)
    except ValueError:
        return False


def _triple(address: SplitResult) -> tuple[str, str, int | None]:
    return address.scheme, address.hostname or "", address.port or _PORTS.get(address.scheme)
