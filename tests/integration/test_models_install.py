"""Installing models: downloads from a real server that drops, changes and misleads; digests; removal; the commands."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from orthanc_plugin.catalog import install, records
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.download import MOST_FAILURES, download
from orthanc_plugin.catalog.install import RECORDS, install_record, remove_model
from orthanc_plugin.catalog.reader import read_card
from orthanc_plugin.catalog.records import APACHE, SEGTHOR, Record, RemoteFile, known_records, record_of
from orthanc_plugin.catalog.shelf import find_model, list_models
from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli import weights as weights_cli
from orthanc_plugin.conversion import convert
from orthanc_plugin.errors import ConfigError, ModelError, TransientError
from tests.support.servers.file_server import FileServer, serving

CONTENT = bytes(range(256)) * 8192 + b"PK\5\6" + bytes(18)  # 2 MiB: two chunks; ends as a zip does
CHEST = "chest_structures"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer(CONTENT)) as server:
        yield server


def fetch(server: FileServer, directory: Path, url: str = "", **stated: object) -> Path:
    """Download the server's file; waits take no time."""
    file = replace(RemoteFile("weights.zip", url or server.url), **stated)  # type: ignore[arg-type]
    return download(file, directory, lambda *_: None, pause=lambda _: None)


# The download.


def test_a_file_comes_whole_and_progress_reaches_its_end(server: FileServer, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    path = download(RemoteFile("weights.zip", server.url), tmp_path, lambda *step: told.append(step))
    assert path.read_bytes() == CONTENT
    assert told[0] == ("weights.zip", 0, len(CONTENT))
    assert told[-1] == ("weights.zip", len(CONTENT), len(CONTENT))
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.zip"]


def test_a_dropped_connection_is_resumed_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    server.drops = [2**20 + 5, 100]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert [asked.get("Range") for asked in server.asked] == [None, f"bytes={2**20 + 5}-", f"bytes={2**20 + 105}-"]
    assert server.asked[1]["If-Range"] == '"first"'


def test_what_came_is_kept_for_the_next_call(server: FileServer, tmp_path: Path) -> None:
    server.drops = [1000] + [0] * MOST_FAILURES
    with pytest.raises(
        TransientError, match=r"weights\.zip: interrupted after 1000 bytes.*run the command again to resume"
    ):
        fetch(server, tmp_path)
    assert (tmp_path / "weights.zip.part").read_bytes() == CONTENT[:1000]
    assert not (tmp_path / "weights.zip").exists()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1]["Range"] == "bytes=1000-"


def test_another_version_is_read_from_the_start(server: FileServer, tmp_path: Path) -> None:
    server.drops = [1000] + [0] * MOST_FAILURES
    with pytest.raises(TransientError):
        fetch(server, tmp_path)
    server.content, server.headers = CONTENT[::-1], {"ETag": '"second"'}
    assert fetch(server, tmp_path).read_bytes() == CONTENT[::-1]


def test_a_server_that_resumes_another_version_is_not_believed(server: FileServer, tmp_path: Path) -> None:
    server.drops = [1000]
    server.part = lambda asked: 1000 if "Range" in asked else None  # type: ignore[method-assign]
    first = RemoteFile("weights.zip", server.url)

    def change(_: float) -> None:
        server.content, server.headers = CONTENT[::-1], {"ETag": '"second"'}

    assert download(first, tmp_path, lambda *_: None, pause=change).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_strong_validator_nothing_is_resumed(
    server: FileServer, tmp_path: Path, headers: dict[str, str]
) -> None:
    server.headers, server.drops = headers, [1000]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert all("Range" not in asked for asked in server.asked)


def test_a_date_is_a_validator_too(server: FileServer, tmp_path: Path) -> None:
    server.headers, server.drops = {"Last-Modified": "Mon, 23 Nov 2020 10:00:00 GMT"}, [1000]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[1]["If-Range"] == "Mon, 23 Nov 2020 10:00:00 GMT"


def test_parts_that_come_without_a_validator_are_resumed_by_the_first_one(server: FileServer, tmp_path: Path) -> None:
    server.drops = [1000, 1000]
    server.part = lambda asked: int(asked["Range"][6:-1]) if "Range" in asked else None  # type: ignore[method-assign]

    def forget(_: float) -> None:
        server.headers = {}

    file = RemoteFile("weights.zip", server.url)
    assert download(file, tmp_path, lambda *_: None, pause=forget).read_bytes() == CONTENT
    assert [asked.get("If-Range") for asked in server.asked] == [None, '"first"', '"first"']


def test_a_server_without_ranges_sends_it_all_again(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.drops = False, [1000]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_complete_part_is_not_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "weights.zip.part").write_bytes(CONTENT)
    state = {"url": server.url, "validator": '"first"', "total": len(CONTENT)}
    (tmp_path / "weights.zip.part.json").write_text(json.dumps(state))
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_missing_file_is_not_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(ModelError, match=r"127\.0\.0\.1 answered 404 for weights\.zip; .*--file"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1


def test_another_size_than_stated_is_refused_before_a_byte_is_written(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights\.zip has 2097174 bytes, its publisher states 7"):
        fetch(server, tmp_path, size=7)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_it_is_full(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(ConfigError, match=r"weights\.zip needs 0\.0 GB more.*make room"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_compressed_transfer_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(ModelError, match="compressed"):
        fetch(server, tmp_path)


def test_redirects_are_followed(server: FileServer, tmp_path: Path) -> None:
    server.location = "/weights.zip"
    assert fetch(server, tmp_path, server.url.replace("weights", "old")).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("/round/and/round", "redirects more than 5 times"),
        ("http://example.org/weights.zip", "without https"),
        ("ftp://example.org/weights.zip", "without https"),
    ],
)
def test_unsafe_redirects_are_refused(server: FileServer, tmp_path: Path, location: str, told: str) -> None:
    server.location = location
    with pytest.raises((ConfigError, ModelError), match=told):
        fetch(server, tmp_path, server.url.replace("weights", "old"))
    assert server.asked == []


def test_an_address_without_https_is_refused(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"example\.org leads to an address without https"):
        fetch(server, tmp_path, "http://example.org/weights.zip")


# The records.


def test_what_is_known_is_all_over_https_and_under_a_licence() -> None:
    for name in known_records():
        record = record_of(name)
        assert all(file.url.startswith("https://") and file.name.endswith(".zip") for file in record.files)
        assert bool(record.licence.condition) == (name in ("segthor", "bpr"))
    assert len(record_of("totalsegmentator:total").files) == 5


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("totalsegmentator:heartchambers_highres", "licence key"),
        ("totalsegmentator:lung_vessels", "crop around the lung lobes"),
        ("totalsegmentator:total_mr", "MR"),
        ("liver", "the known ones are: segthor, bpr, totalsegmentator:total,"),
    ],
)
def test_what_cannot_be_installed_is_refused_with_the_reason(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        record_of(name)


# The installation.


class Converter:
    """Makes the built-in model of whatever it gets, under another name; keeps what it got."""

    def __init__(self, models: Path, name: str = "small") -> None:
        self.target = models / name
        self.got: list[bytes] = []

    def __call__(self, files: Sequence[Path]) -> ModelCard:
        self.got = [file.read_bytes() for file in files]
        shutil.copytree(find_model(CHEST, None).directory, self.target, dirs_exist_ok=True)
        card = json.loads((self.target / "card.json").read_text()) | {"name": self.target.name}
        (self.target / "card.json").write_text(json.dumps(card))
        return read_card(self.target)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def record(server: FileServer) -> Record:
    return replace(SEGTHOR, files=(RemoteFile("weights.zip", server.url),))


def put(record: Record, models: Path, *, accepted: bool = True, **more: object) -> Converter:
    converter = Converter(models)
    install_record(record, models, "small", converter, accepted=accepted, progress=lambda *_: None, **more)  # type: ignore[arg-type]
    return converter


def test_installing_downloads_converts_and_records_the_digest(record: Record, models: Path) -> None:
    assert put(record, models).got == [CONTENT]
    assert find_model("small", models).directory == models / "small"
    seen = json.loads((models / RECORDS).read_text())
    today = date.today().isoformat()
    assert seen == {"weights.zip": {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT), "date": today}}
    assert list((models / install.DOWNLOADS).iterdir()) == []
    assert {card.name for card in list_models(models)} - {card.name for card in list_models(None)} == {"small"}


def test_without_accepted_terms_nothing_happens(record: Record, models: Path, server: FileServer) -> None:
    with pytest.raises(ConfigError, match=r"segthor are under CC-BY-NC-4\.0, for non-commercial.*--accept-licence"):
        put(record, models, accepted=False)
    assert (server.asked, models.exists()) == ([], False)
    put(replace(record, licence=APACHE), models, accepted=False)


def test_another_file_under_the_same_name_is_refused(record: Record, models: Path, server: FileServer) -> None:
    put(record, models)
    server.content = b"other" + CONTENT
    before = (models / "small" / "card.json").read_bytes()
    with pytest.raises(ModelError, match=r"weights\.zip has SHA-256 \w+, on .* it had \w+; .*\.records\.json"):
        put(record, models, replace=True)
    assert (models / "small" / "card.json").read_bytes() == before
    assert list((models / install.DOWNLOADS).iterdir()) == []


def test_what_is_no_zip_is_not_kept(record: Record, models: Path, server: FileServer) -> None:
    server.content = b"<html>come back later</html>"
    with pytest.raises(ModelError, match=r"127\.0\.0\.1 sent something other than weights\.zip"):
        put(record, models)
    server.content = CONTENT
    assert put(record, models).got == [CONTENT]


def test_a_pinned_digest_is_held_to(record: Record, models: Path) -> None:
    pinned = replace(record, files=(replace(record.files[0], sha256="0" * 64),))
    with pytest.raises(ModelError, match="its publisher states 0000"):
        put(pinned, models)
    right = replace(record.files[0], sha256=hashlib.sha256(CONTENT).hexdigest())
    put(replace(record, files=(right,)), models)


def test_a_file_at_hand_needs_no_network_and_stays(
    record: Record, models: Path, server: FileServer, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.zip"
    mine.write_bytes(CONTENT)
    assert put(record, models, files=[mine]).got == [CONTENT]
    assert (server.asked, mine.read_bytes()) == ([], CONTENT)
    assert "weights.zip" in json.loads((models / RECORDS).read_text())


def test_files_at_hand_have_to_be_those_of_the_record(record: Record, models: Path, tmp_path: Path) -> None:
    two = replace(record, files=(RemoteFile("a.zip", ""), RemoteFile("b.zip", "")))
    with pytest.raises(ConfigError, match=r"--file for each of: a\.zip, b\.zip"):
        put(two, models, files=[tmp_path / "a.zip"])
    with pytest.raises(ConfigError, match=r"mine\.zip is not a file"):
        put(record, models, files=[tmp_path / "mine.zip"])
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_text(name)
    assert put(two, models, files=[tmp_path / "b.zip", tmp_path / "a.zip"]).got == [b"a.zip", b"b.zip"]


def test_a_failed_conversion_keeps_the_download_and_records_nothing(record: Record, models: Path) -> None:
    def fail(files: Sequence[Path]) -> ModelCard:
        raise ModelError(f"{files[0].name} holds no model")

    with pytest.raises(ModelError, match="holds no model"):
        install_record(record, models, "small", fail, accepted=True, progress=lambda *_: None)
    assert sorted(entry.name for entry in models.iterdir()) == [install.DOWNLOADS, install.LOCK]
    assert (models / install.DOWNLOADS / "weights.zip").read_bytes() == CONTENT


def test_errors_of_several_zips_name_no_folder_that_is_gone(tmp_path: Path) -> None:
    zips = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for path in zips:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{path.stem}/plans.json", "{}")

    def fail() -> None:
        with weights_cli._one_source(zips) as folder:
            assert (folder / "a" / "plans.json").is_file()
            raise ModelError(f"{folder}/b/plans.json is broken")

    with pytest.raises(ModelError, match=r"^b/plans\.json is broken$"):
        fail()


@pytest.mark.parametrize("name", ["Small", "../small", "", ".small"])
def test_names_that_cannot_be_are_refused_before_a_download(
    record: Record, models: Path, server: FileServer, name: str
) -> None:
    with pytest.raises(ConfigError, match="is not a valid model name"):
        install_record(record, models, name, Converter(models), accepted=True, progress=lambda *_: None)
    assert server.asked == []


def test_a_taken_name_is_refused_unless_it_is_to_be_replaced(record: Record, models: Path) -> None:
    put(record, models)
    with pytest.raises(ConfigError, match="already exists; add --replace"):
        put(record, models)
    put(record, models, replace=True)


def test_two_installations_do_not_run_at_once(record: Record, models: Path) -> None:
    def again(files: Sequence[Path]) -> ModelCard:
        put(record, models)
        raise AssertionError("the second installation ran")

    with pytest.raises(ConfigError, match=r"another installation into .* is running"):
        install_record(record, models, "small", again, accepted=True, progress=lambda *_: None)


def test_a_damaged_list_of_digests_is_named(record: Record, models: Path) -> None:
    models.mkdir()
    (models / RECORDS).write_text('{"weights.zip": 1}')
    with pytest.raises(ModelError, match=r"\.records\.json cannot be read"):
        put(record, models)


# Removing.


def test_removing_takes_the_folder_and_nothing_else(record: Record, models: Path) -> None:
    put(record, models)
    remove_model("small", models)
    assert list_models(models) == list_models(None)
    assert not (models / "small").exists()
    assert (models / RECORDS).is_file()


@pytest.mark.parametrize("name", [CHEST, "../models", "", ".downloads"])
def test_only_installed_models_can_be_removed(models: Path, name: str) -> None:
    models.mkdir()
    with pytest.raises(ModelError, match="only models that were installed there can be removed"):
        remove_model(name, models)


def test_a_link_to_a_model_is_not_followed(record: Record, models: Path, tmp_path: Path) -> None:
    put(record, models)
    other = tmp_path / "other"
    other.mkdir()
    (other / "small").symlink_to(models / "small")
    with pytest.raises(ModelError, match="is a link"):
        remove_model("small", other)


# The commands.


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object], str]:
    """Exit code, JSON answer and messages of a command."""
    code = cli.main(["models", *words, "--json"])
    output = capsys.readouterr()
    return code, json.loads(output.out), output.err


def test_install_shows_the_licence_and_asks_for_acceptance(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, messages = answer(capsys, "install", "segthor", "--models", str(models))
    assert code == cli.EXIT_CONFIG
    assert "--accept-licence" in str(told["error"])
    assert "Attribution-NonCommercial 4.0" in messages
    assert not models.exists()


def test_commands_without_a_models_directory_tell_how_to_name_one(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["remove", "small"], ["convert", "x.zip", "--name", "small"]):
        code, told, _ = answer(capsys, *words)
        assert code == cli.EXIT_CONFIG
        assert "ModelsDirectory" in str(told["error"])


def test_a_model_that_rules_name_is_not_removed(
    record: Record, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(find_model(CHEST, None).directory, models / CHEST)
    code, told, _ = answer(capsys, "remove", CHEST, "--models", str(models))
    assert code == cli.EXIT_CONFIG
    assert "named by the rules default" in str(told["error"])


def test_a_model_is_installed_listed_shown_verified_and_removed(
    record: Record, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands as the user gives them; the record is this server's, the conversion a copy of the built-in model."""
    asked: dict[str, object] = {}

    def convert_model(source: Path, name: str, out: Path, **options: object) -> ModelCard:
        asked.update(options, source=source.name)
        return Converter(out, name)([source])

    monkeypatch.setattr(records, "SEGTHOR", record)
    monkeypatch.setattr(convert, "convert_model", convert_model)
    monkeypatch.setattr(weights_cli, "_require_torch", lambda: None)
    monkeypatch.setenv("ENRICHMENT__MODELS_DIRECTORY", str(models))

    code, made, messages = answer(capsys, "install", "segthor", "--accept-licence", "--name", "mine", "--folds", "all")
    assert (code, made["installed"]) == (cli.EXIT_DONE, "mine")
    assert "weights.zip" in messages
    assert (asked["source"], asked["configurations"], asked["folds"]) == ("weights.zip", ("3d_fullres",), None)
    assert cli.main(["models", "list"]) == cli.EXIT_DONE
    assert "mine" in capsys.readouterr().out
    code, shown, _ = answer(capsys, "show", "mine")
    assert (code, shown["digest"]) == (cli.EXIT_DONE, made["digest"])
    assert answer(capsys, "verify", "mine")[1] == {"verified": {"mine": made["digest"]}}
    assert answer(capsys, "remove", "mine")[1] == {"removed": "mine"}
    assert not (models / "mine").exists()
