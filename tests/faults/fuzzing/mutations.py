"""The mutations: each takes the files of a series and gives them back with damage; all chance comes from one generator.

Byte mutations know nothing of DICOM. The others parse a file, change an element and write it again; where it cannot be
written any more the bytes of the file are damaged instead.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable

from pydicom import config, dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.faults.fuzzing.corpus import Files

config.settings.writing_validation_mode = config.IGNORE
config.settings.reading_validation_mode = config.IGNORE

Mutation = Callable[[Files, random.Random], Files]

_TEXTS = (
    "", " ", "nan", "inf", "-inf", "1e309", "-0", "0", "1e-300", "99999999999999999999", "abc", "\\",
    "1\\2\\3\\4\\5\\6\\7", "\u00e4\u00f6", "\x00", "\x1b$B", "1.2.3.0.01", "1." * 200, "A" * 70000, "None", "0x10",
    "1,5", "--1",
)  # fmt: skip
_NUMBERS = (0, 1, 2, 3, 7, 8, 12, 15, 16, 17, 31, 32, 63, 64, 65, 255, 512, 4096, 32767, 32768, 65535)
_GEOMETRY = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "GantryDetectorTilt",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ImageType", "FrameOfReferenceUID", "NumberOfFrames",
    "AcquisitionNumber", "TemporalPositionIndex", "PixelPaddingValue", "ConvolutionKernel",
)  # fmt: skip
_IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
_WORDS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
_HARMLESS = {
    "PatientName": "Muster^Muster", "StudyDescription": "a study", "PatientComments": "b" * 5000, "StationName": "CT1",
    "PatientAge": "061Y", "StudyDate": "20300102", "AccessionNumber": "4711", "OperatorsName": "Nobody",
    "ImageComments": "none", "KVP": "140", "WindowCenter": "40", "WindowWidth": "400", "InstitutionName": "Clinic",
}  # fmt: skip
_SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.5", "1.2.3", "", "not a uid",
)  # fmt: skip


def mutate(files: Files, chance: random.Random) -> tuple[str, Files]:
    """Give the name of a mutation and what it makes of the files; one time in five two mutations meet."""
    name = chance.choice(list(MUTATIONS))
    mutated = MUTATIONS[name](files, chance)
    second = chance.choice(list(MUTATIONS))
    if chance.random() < 0.2 and "deflated bomb" not in (name, second):  # an edit would inflate it
        return f"{name} and another", MUTATIONS[second](mutated, chance)
    return name, mutated


def _some(files: Files, chance: random.Random, change: Callable[[bytes], bytes]) -> Files:
    """Change one file, some or all."""
    count = chance.choice((1, 1, 1, max(1, len(files) // 3), len(files)))
    chosen = set(chance.sample(range(len(files)), min(count, len(files))))
    return tuple(change(file) if index in chosen else file for index, file in enumerate(files))


def _position(file: bytes, chance: random.Random) -> int:
    """Choose a place, three times in four before the pixels."""
    pixels = file.find(b"\xe0\x7f\x10\x00")
    end = pixels + 12 if pixels > 0 and chance.random() < 0.75 else len(file)
    return chance.randrange(max(1, min(end, len(file))))


def _flip(files: Files, chance: random.Random) -> Files:
    def change(file: bytes) -> bytes:
        changed = bytearray(file or b"\0")
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            changed[_position(file, chance)] ^= 1 << chance.randrange(8)
        return bytes(changed)

    return _some(files, chance, change)


def _overwrite(files: Files, chance: random.Random) -> Files:
    def change(file: bytes) -> bytes:
        at, length = _position(file, chance), chance.choice((1, 2, 4, 8, 64))
        new = chance.choice((b"\x00", b"\xff", b"\x7f", b"1", b"\\", chance.randbytes(1))) * length
        return file[:at] + new + file[at + length :]

    return _some(files, chance, change)


def _delete(files: Files, chance: random.Random) -> Files:
    def change(file: bytes) -> bytes:
        at = _position(file, chance)
        return file[:at] + file[at + chance.choice((1, 2, 3, 8, 100)) :]

    return _some(files, chance, change)


def _insert(files: Files, chance: random.Random) -> Files:
    def change(file: bytes) -> bytes:
        at = _position(file, chance)
        return file[:at] + chance.randbytes(chance.choice((1, 2, 8, 300))) + file[at:]

    return _some(files, chance, change)


def _cut(files: Files, chance: random.Random) -> Files:
    return _some(files, chance, lambda file: file[: _position(file, chance)])


def _length(files: Files, chance: random.Random) -> Files:
    """Let the length of an element lie."""

    def change(file: bytes) -> bytes:
        places = [at for at in range(132, min(len(file), 6000)) if file[at : at + 2] in _VRS]
        if not places:
            return file[:-1]
        at = chance.choice(places)
        if file[at : at + 2] in _LONG_VRS:
            lie = struct.pack(
                "<I", chance.choice((0, 1, 3, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, chance.randrange(1 << 20)))
            )
            return file[: at + 4] + lie + file[at + 8 :]
        lie = struct.pack("<H", chance.choice((0, 1, 3, 7, 0xFFFF, chance.randrange(1 << 10))))
        return file[: at + 2] + lie + file[at + 4 :]

    return _some(files, chance, change)


_LONG_VRS = {b"OB", b"OW", b"SQ", b"UN", b"UT"}
_VRS = _LONG_VRS | {
    b"CS",
    b"DS",
    b"IS",
    b"UI",
    b"US",
    b"LO",
    b"SH",
    b"PN",
    b"DA",
    b"TM",
    b"ST",
    b"LT",
    b"AS",
    b"UL",
    b"FD",
}


def _edited(edit: Callable[[FileDataset, random.Random], None]) -> Mutation:
    """Make a mutation of what changes a parsed file."""

    def mutation(files: Files, chance: random.Random) -> Files:
        seed = chance.random()

        def change(file: bytes) -> bytes:
            try:
                ds = dcmread(io.BytesIO(file), force=True)
                edit(ds, random.Random(seed))  # the same edit in all files that are changed
                out = io.BytesIO()
                ds.save_as(out)
                return out.getvalue()
            except Exception:
                return file[: len(file) // 2] + b"\xff" + file[len(file) // 2 :]

        return _some(files, chance, change)

    return mutation


def _text(keywords: tuple[str, ...]) -> Callable[[FileDataset, random.Random], None]:
    def edit(ds: FileDataset, chance: random.Random) -> None:
        keyword = chance.choice(keywords)
        if chance.random() < 0.25 and keyword in ds:
            del ds[keyword]
            return
        ds.add_new(keyword, chance.choice(("LO", "LO", "UT")), chance.choice(_TEXTS))

    return edit


def _word(ds: FileDataset, chance: random.Random) -> None:
    keyword = chance.choice(_WORDS)
    if chance.random() < 0.2 and keyword in ds:
        del ds[keyword]
    else:
        setattr(ds, keyword, chance.choice(_NUMBERS))


def _any_element(ds: FileDataset, chance: random.Random) -> None:
    element = ds[chance.choice([*ds.keys()])]
    if chance.random() < 0.5:
        del ds[element.tag]
    else:
        ds.add_new(element.tag, "UN", chance.randbytes(chance.choice((0, 1, 2, 7, 64))))


def _pixels(ds: FileDataset, chance: random.Random) -> None:
    data = ds.get("PixelData") or b""
    ds.PixelData = chance.choice(
        (b"", data[:-2], data + b"\0\0", data[: len(data) // 2], data * 2, b"\xff" * len(data))
    )


def _harmless(ds: FileDataset, chance: random.Random) -> None:
    keyword = chance.choice(list(_HARMLESS))
    setattr(ds, keyword, _HARMLESS[keyword])
    if chance.random() < 0.5:
        block = ds.private_block(0x2031, "FUZZ", create=True)
        block.add_new(chance.randrange(0x10, 0x20), "OB", chance.randbytes(2 * chance.randrange(50)))


def _nested(files: Files, chance: random.Random) -> Files:
    """Put sequences within sequences before the pixels, closed or left open."""
    depth = chance.choice((1, 2, 10, 100, 400, 5000))
    opening = b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    nest = opening * depth + closing * chance.choice((depth, depth, depth - 1))

    def change(file: bytes) -> bytes:
        at = max(0, file.find(b"\xe0\x7f\x10\x00"))
        return file[:at] + nest + file[at:]

    return _some(files, chance, change)


def _open_sequence(ds: FileDataset, chance: random.Random) -> None:
    raw = (
        b"\xfe\xff\x00\xe0"
        + chance.choice((b"\xff\xff\xff\xff", b"\x10\x00\x00\x00", b"\x00\x00\x00\x80"))
        + b"\x08\x00"
    )
    ds.add_new("ReferencedImageSequence", "UN", raw * chance.choice((1, 3, 50)))


def _syntax(ds: FileDataset, chance: random.Random) -> None:
    if chance.random() < 0.2:
        del ds.file_meta.TransferSyntaxUID
    else:
        ds.file_meta.TransferSyntaxUID = chance.choice(_SYNTAXES)


def _meta(ds: FileDataset, chance: random.Random) -> None:
    if chance.random() < 0.5:
        ds.preamble = None
    else:
        ds.file_meta.MediaStorageSOPInstanceUID = chance.choice(_TEXTS[:20])


def _with_syntax(files: Files, chance: random.Random) -> Files:
    """Let the file meta name another syntax, without a change of what follows."""

    def change(file: bytes) -> bytes:
        ds = dcmread(io.BytesIO(file), force=True)
        old = str(getattr(ds, "file_meta", Dataset()).get("TransferSyntaxUID") or "").encode()
        new = chance.choice(_SYNTAXES).encode()
        padded = len(old) + len(old) % 2
        return file.replace(old.ljust(padded, b"\0"), new[:padded].ljust(padded, b"\0"), 1) if old else file

    try:
        return _some(files, chance, change)
    except Exception:
        return _flip(files, chance)


_BOMB = zlib.compressobj(9, zlib.DEFLATED, -15)
_ZEROS = b"".join((*(_BOMB.compress(bytes(1 << 20)) for _ in range(256)), _BOMB.flush()))
"""256 MiB of zeros, deflated."""


def _bomb(files: Files, chance: random.Random) -> Files:
    """Put a stream that grows a thousandfold behind the file meta."""

    def change(file: bytes) -> bytes:
        ds = dcmread(io.BytesIO(file), force=True, stop_before_pixels=True)
        only = FileDataset("", {}, file_meta=ds.file_meta, preamble=b"\0" * 128)
        only.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        out = io.BytesIO()
        only.save_as(out)
        return out.getvalue() + _ZEROS

    try:
        return (change(files[0]), *files[1:])
    except Exception:
        return _cut(files, chance)


def _without(files: Files, chance: random.Random) -> Files:
    kept = chance.sample(files, chance.randrange(len(files) + 1))
    return tuple(kept)


def _twice(files: Files, chance: random.Random) -> Files:
    return (*files, *chance.sample(files, chance.randrange(1, len(files) + 1)))


def _shuffled(files: Files, chance: random.Random) -> Files:
    return tuple(chance.sample(files, len(files)))


def _junk(files: Files, chance: random.Random) -> Files:
    junk = (
        b"",
        b"\0" * 200,
        b"DICM",
        b"\0" * 128 + b"DICM",
        b"\0" * 128 + b"DICM" + chance.randbytes(300),
        b"%PDF-1.7 a text",
    )
    return (*files, *chance.sample(junk, chance.randrange(1, 4)))


MUTATIONS: dict[str, Mutation] = {
    "bits flipped": _flip,
    "bytes overwritten": _overwrite,
    "bytes deleted": _delete,
    "bytes inserted": _insert,
    "file cut": _cut,
    "length of an element": _length,
    "geometry or rescale": _edited(_text(_GEOMETRY)),
    "identity": _edited(_text(_IDENTITY)),
    "size or depth of pixels": _edited(_word),
    "any element": _edited(_any_element),
    "pixel data": _edited(_pixels),
    "harmless elements": _edited(_harmless),
    "nested sequences": _nested,
    "open sequences": _edited(_open_sequence),
    "transfer syntax, written": _edited(_syntax),
    "transfer syntax, named": _with_syntax,
    "preamble and file meta": _edited(_meta),
    "deflated bomb": _bomb,
    "files missing": _without,
    "files twice": _twice,
    "order of files": _shuffled,
    "strange files": _junk,
}
