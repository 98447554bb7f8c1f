"""Published holes of Orthanc by version, so that health can name those of an archive.

Debian may close a hole without raising the version; what stands here is the release of Orthanc's authors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RECOMMENDED = "1.13.0"
"""The release that has none of the holes below."""


@dataclass(frozen=True, slots=True)
class Hole:
    """One hole. fixed_in: the first release without it; source: where that is said."""

    name: str
    fixed_in: tuple[int, int, int]
    what: str
    source: str


_CERT = "CERT/CC VU#536588, 2026-04"
HOLES = (
    Hole(
        "CVE-2023-33466", (1, 12, 0), "users may write files anywhere", "NVD; closed in Debian's 1.10.1+dfsg-2+deb12u1"
    ),
    Hole("CVE-2026-5437", (1, 12, 11), "read out of bounds in a file's header", _CERT),
    Hole("CVE-2026-5438", (1, 12, 11), "a compressed request takes all memory", _CERT),
    Hole("CVE-2026-5439", (1, 12, 11), "a forged ZIP archive takes all memory", _CERT),
    Hole("CVE-2026-5440", (1, 12, 11), "a large Content-Length takes all memory, without a login", _CERT),
    Hole("CVE-2026-5441", (1, 12, 11), "read out of bounds in Philips' compression", _CERT),
    Hole("CVE-2026-5442", (1, 12, 11), "heap overflow by the size of an image", _CERT),
    Hole("CVE-2026-5443", (1, 12, 11), "heap overflow by a palette", _CERT),
    Hole("CVE-2026-5444", (1, 12, 11), "heap overflow by a PAM image", _CERT),
    Hole("CVE-2026-5445", (1, 12, 11), "read out of bounds by a lookup table", _CERT),
    Hole("CVE-2026-10528", (1, 13, 0), "deeply nested sequences", "release notes of Orthanc 1.13.0"),
)


def holes_of(version: str) -> tuple[Hole, ...]:
    """Return the holes of a version such as `1.12.7`; none for what is not a release, such as `mainline`."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        return ()
    return tuple(hole for hole in HOLES if tuple(map(int, found.groups())) < hole.fixed_in)


def warning_of(version: str) -> str:
    """Return what to say of a version; empty if no hole is known."""
    names = [hole.name for hole in holes_of(version)]
    if not names:
        return ""
    shown = f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
    return (
        f"Orthanc {version} has published holes ({shown}): install {RECOMMENDED} or newer, or check that your"
        " distribution has closed them (docs/install.md, supported versions)"
    )
