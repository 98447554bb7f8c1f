"""The section "Enrichment": defaults, files, variables, overrides, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.config.read import load_configuration, parse_section
from orthanc_plugin.config.rule import DEFAULT_RULE
from orthanc_plugin.config.sections import section_json
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.inference.providers import Provider

LOCAL = {"Url": "http://127.0.0.1:8042/dicom-web"}


def problems(section: dict[str, Any], environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_section(section, environ or {})
    return str(caught.value).splitlines()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


class TestDefaults:
    def test_empty_section_listens_on_loopback_and_serves_the_local_orthanc(self) -> None:
        configuration = parse_section({}, {})
        assert configuration.service.host == "127.0.0.1"
        assert configuration.database == "sqlite:////var/lib/orthanc-enrichment/jobs.db"
        assert configuration.archives["local"].url == "http://127.0.0.1:8042/dicom-web"
        assert configuration.archives["local"].orthanc_url == "http://127.0.0.1:8042"
        assert configuration.report_title.code == REPORT_TITLE
        assert configuration.rules == (DEFAULT_RULE,)

    def test_database_follows_the_state_directory(self) -> None:
        assert parse_section({"StateDirectory": "/srv/x"}, {}).database == "sqlite:////srv/x/jobs.db"

    @pytest.mark.parametrize("archives", [{}, None])
    def test_no_archives_means_local(self, archives: object) -> None:
        assert list(parse_section({"Archives": archives}, {}).archives) == ["local"]

    @pytest.mark.parametrize("provider", list(Provider))
    def test_every_provider_can_be_chosen(self, provider: Provider) -> None:
        assert parse_section({"Provider": provider.value}, {}).provider == provider

    def test_configuration_cannot_be_changed(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            parse_section({}, {}).workers = 3

    def test_trailing_slash_of_an_address_does_not_matter(self) -> None:
        section = {"Archives": {"a": {"Url": "http://pacs/dicom-web/"}}}
        assert parse_section(section, {}).archives["a"].url == "http://pacs/dicom-web"


class TestErrors:
    @pytest.mark.parametrize(
        ("section", "line"),
        [
            (
                {"Service": {"Port": 99999}},
                "Enrichment.Service.Port: 99999 is not allowed; allowed: a port from 1 to 65535, or 0 for any free one",
            ),
            (
                {"Provider": "gpu"},
                'Enrichment.Provider: "gpu" is not allowed; allowed: "auto", "cpu", "cuda", "tensorrt" or "openvino"',
            ),
            (
                {"StateDirectory": "state"},
                'Enrichment.StateDirectory: "state" is not allowed (not an absolute path);'
                " allowed: absolute path of a folder of its own, on a local disk",
            ),
            ({"Workers": None}, "Enrichment.Workers: null is not allowed; allowed: 0 (only remote workers) to 64"),
            (
                {"Rules": {}},
                "Enrichment.Rules: an object is not allowed; allowed: a list of rules, tried in this order",
            ),
            (
                {"Rules": [{}]},
                "Enrichment.Rules[0].Name: is missing; allowed: 1 to 64 letters, digits, spaces or ._-",
            ),
            (
                {"Rules": [{"Name": "a", "Match": {"SeriesDescription": "("}}]},
                'Enrichment.Rules[0].Match.SeriesDescription: "(" is not allowed (not a valid regular expression:'
                " missing ), unterminated subpattern at position 0); allowed: a regular expression",
            ),
            (
                {"Rules": [{"Name": "a", "Match": {"Slices": {"Min": 5, "Max": 3}}}]},
                "Enrichment.Rules[0].Match.Slices: Min must not be above Max",
            ),
            (
                {"Rules": [{"Name": "a", "Match": {"ExcludeKinds": ["mpr"]}}]},
                'Enrichment.Rules[0].Match.ExcludeKinds[0]: "mpr" is not allowed; allowed: a list of "localizer",'
                ' "reformat", "projection", "monoenergetic", "material", "screen-save", "perfusion", "dynamic"',
            ),
            (
                {"Rules": [{"Name": "a", "Outputs": ["landmarks"]}]},
                'Enrichment.Rules[0]: Outputs needs "seg": reports are made from the stored segmentation',
            ),
            (
                {"Archives": {"a b": LOCAL}},
                'Enrichment.Archives.a b: "a b" is not allowed; allowed: an object, its names of 1 to 32 letters,'
                " digits, - or _",
            ),
        ],
    )
    def test_line_names_key_value_and_what_is_allowed(self, section: dict[str, Any], line: str) -> None:
        assert problems(section) == [line]

    def test_each_problem_has_its_line(self) -> None:
        lines = problems({"Workers": -1, "StableAge": "soon", "Service": {"Port": -1, "Host": 5}})
        assert sorted(line.split(":")[0] for line in lines) == [
            "Enrichment.Service.Host",
            "Enrichment.Service.Port",
            "Enrichment.StableAge",
            "Enrichment.Workers",
        ]

    @pytest.mark.parametrize(
        ("section", "key", "hint"),
        [
            ({"StabelAge": 3}, "Enrichment.StabelAge", "StableAge"),
            ({"stable_age_s": 3}, "Enrichment.stable_age_s", "StableAge"),
            ({"Service": {"port": 3}}, "Enrichment.Service.port", "Port"),
            ({"Archives": {"a": {**LOCAL, "Pasword": "x"}}}, "Enrichment.Archives.a.Pasword", "Password"),
            ({"Rules": [{"Name": "a", "Match": {"SliceThicknes": 1}}]}, "Enrichment.Rules[0].Match.SliceThicknes",
             "SliceThickness"),
        ],
    )  # fmt: skip
    def test_unknown_key_is_an_error_with_a_hint(self, section: dict[str, Any], key: str, hint: str) -> None:
        (line,) = problems(section)
        assert line.startswith(f'{key}: unknown key, did you mean "{hint}"?; allowed: ')

    @pytest.mark.parametrize("section", [None, [], "x"])
    def test_section_is_an_object(self, section: Any) -> None:
        assert "allowed: an object" in problems(section)[0]

    def test_two_rules_of_one_name_are_refused(self) -> None:
        (line,) = problems({"Rules": [{"Name": "a"}, {"Name": "a"}]})
        assert line.startswith('Enrichment.Rules[1].Name: "a" is not allowed')

    @pytest.mark.parametrize(
        ("rule", "key"),
        [({"HomeArchive": "x"}, "HomeArchive"), ({"Destinations": ["x"]}, "Destinations"),
         ({"Match": {"Archive": ["x"]}}, "Match.Archive")],
    )  # fmt: skip
    def test_rule_names_only_known_archives(self, rule: dict[str, Any], key: str) -> None:
        (line,) = problems({"Rules": [{"Name": "a", **rule}]})
        assert line == f'Enrichment.Rules[0].{key}: "x" is not allowed; allowed: local'


class TestOrthancOnlyKeys:
    RULE = {"Name": "a", "Match": {"RemoteAET": ["CT1"]}}

    def test_remote_aet_needs_orthanc_in_every_archive_of_the_rule(self) -> None:
        archives = {"local": {**LOCAL, "OrthancUrl": "http://127.0.0.1:8042"}, "pacs": {"Url": "http://pacs/rs"}}
        (line,) = problems({"Archives": archives, "Rules": [self.RULE]})
        assert line.startswith('Enrichment.Rules[0].Match.RemoteAET: is not allowed for the archive "pacs"')

    def test_rule_may_be_restricted_to_the_archives_that_can_tell(self) -> None:
        archives = {"local": {**LOCAL, "OrthancUrl": "http://127.0.0.1:8042"}, "pacs": {"Url": "http://pacs/rs"}}
        rule = {"Name": "a", "Match": {"RemoteAET": ["CT1"], "Archive": ["local"]}}
        assert parse_section({"Archives": archives, "Rules": [rule]}, {}).rules[0].match.remote_aet == ("CT1",)


class TestExposure:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "pacs.hospital"])
    def test_other_computers_only_by_choice(self, host: str) -> None:
        (line,) = problems({"Service": {"Host": host}})
        assert "AllowRemote" in line
        assert host in line
        assert parse_section({"Service": {"Host": host, "AllowRemote": True}}, {}).service.host == host

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
    def test_loopback_needs_no_choice(self, host: str) -> None:
        assert parse_section({"Service": {"Host": host}}, {}).service.host == host

    def test_service_elsewhere_needs_its_address(self) -> None:
        assert problems({"Service": {"Start": False}}) == [
            "Enrichment.Service: Start is false: set Url to where the service runs"
        ]


class TestSecrets:
    ARCHIVE = {**LOCAL, "User": "worker", "Password": "geheim"}

    def test_password_is_in_no_repr_and_in_no_plain_dump(self) -> None:
        section = {"Archives": {"a": self.ARCHIVE}, "Database": "postgresql://me:geheim@db/x"}
        configuration = parse_section({**section, "Service": {"Secret": "geheim"}}, {})
        assert "geheim" not in repr(configuration)
        assert "geheim" not in configuration.model_dump_json(include={"archives", "service"})
        assert configuration.archives["a"].password.get_secret_value() == "geheim"

    @pytest.mark.parametrize(
        "section",
        [
            {"Archives": {"a": {**ARCHIVE, "Url": "http://worker:geheim@pacs/"}}},
            {"Archives": {"a": {**ARCHIVE, "Url": "http://pacs/?token=geheim"}}},
            {"Archives": {"a": {**ARCHIVE, "Password": ["geheim"]}}},
            {"Archives": {"a": {**ARCHIVE, "Pasword": "geheim"}}},
            {"Archives": {"a": {**ARCHIVE, "User": "worker:geheim"}}},
            {"Archives": ["geheim"]},
            {"Database": "mysql://me:geheim@db/x"},
            {"Service": {"Secret": {"x": "geheim"}}},
        ],
    )
    def test_no_error_shows_a_password(self, section: dict[str, Any]) -> None:
        assert "geheim" not in "\n".join(problems(section))

    def test_no_error_carries_the_values_along(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_section({"Archives": {"a": {**self.ARCHIVE, "Url": 5}}}, {})
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    def test_syntax_error_shows_a_place_and_no_text(self, tmp_path: Path) -> None:
        path = write(tmp_path / "orthanc.json", '{\n "Enrichment": {"Password": geheim}\n}')
        with pytest.raises(ConfigError, match="is not valid JSON at line 2") as caught:
            load_configuration(path, {})
        assert "geheim" not in str(caught.value)

    def test_user_without_password_is_refused(self) -> None:
        assert problems({"Archives": {"a": {**LOCAL, "User": "worker"}}}) == [
            "Enrichment.Archives.a: User is set but Password is empty"
        ]

    def test_section_for_a_child_process_is_the_same_configuration(self) -> None:
        configuration = parse_section({"Archives": {"a": self.ARCHIVE}, "Service": {"Secret": "s"}, "Workers": 2}, {})
        text = section_json(configuration)
        assert "\n" not in text
        assert parse_section(json.loads(text), {}) == configuration


class TestEnvironment:
    def test_override_reaches_the_default_archive(self) -> None:
        environ = {"ENRICHMENT__ARCHIVES__LOCAL__USER": "me", "ENRICHMENT__ARCHIVES__LOCAL__PASSWORD": "[geheim"}
        archive = parse_section({}, environ).archives["local"]
        assert (archive.url, archive.user) == ("http://127.0.0.1:8042/dicom-web", "me")
        assert archive.password.get_secret_value() == "[geheim"

    @pytest.mark.parametrize("name", ["ENRICHMENT__STABLEAGE", "ENRICHMENT__STABLE_AGE", "enrichment__Stable_Age"])
    def test_case_and_underscores_do_not_matter(self, name: str) -> None:
        assert parse_section({"StableAge": 60}, {name: "3"}).stable_age_s == 3

    def test_override_wins_over_the_file_and_keeps_its_neighbours(self) -> None:
        section = {"Archives": {"My-PACS": {"Url": "http://a/rs", "User": "u", "Password": "old"}}}
        archive = parse_section(section, {"ENRICHMENT__ARCHIVES__MY_PACS__PASSWORD": "new"}).archives["My-PACS"]
        assert (archive.user, archive.password.get_secret_value()) == ("u", "new")
        assert section["Archives"]["My-PACS"]["Password"] == "old"

    def test_lists_objects_and_null_are_json(self) -> None:
        environ = {
            "ENRICHMENT__RULES": '[{"Name": "all", "Match": {"Slices": null}}]',
            "ENRICHMENT__MODELSDIRECTORY": "null",
            "ENRICHMENT__SERVICE__START": "true",
        }
        configuration = parse_section({"ModelsDirectory": "/m"}, environ)
        assert configuration.rules[0].match.slices is None
        assert configuration.models_directory is None

    @pytest.mark.parametrize(
        "name", ["ENRICHMENT__STABEL_AGE", "ENRICHMENT__SERVICE__PORT__X", "ENRICHMENT__RULES__0__NAME", "ENRICHMENT__"]
    )
    def test_variable_that_fits_no_key_is_an_error(self, name: str) -> None:
        assert problems({}, {name: "1"}) == [f"environment variable {name}: no key in Enrichment has this name"]

    def test_error_names_the_variable_that_gave_the_value(self) -> None:
        (line,) = problems({}, {"ENRICHMENT__WORKERS": "many"})
        assert line.startswith('Enrichment.Workers: "many" is not allowed')
        assert line.endswith("(from environment variable ENRICHMENT__WORKERS)")

    def test_other_variables_are_no_overrides(self) -> None:
        assert parse_section({}, {"ENRICHMENT_CONFIG": "x", "PATH": "y"}) == parse_section({}, {})


class TestFiles:
    def test_comments_and_variables_as_in_orthanc(self, tmp_path: Path) -> None:
        text = """{ // comment ${UNSET}
          /* "Enrichment": {} */
          "Enrichment": {"Workers": ${N}, "StateDirectory": "${DIR:-/srv/state}", "ModelsDirectory": "/${A}${B:-'}'}"}
        }"""
        configuration = load_configuration(write(tmp_path / "orthanc.json", text), {"N": "2", "A": "a"})
        assert configuration.workers == 2
        assert str(configuration.state_directory) == "/srv/state"
        assert str(configuration.models_directory) == "/a}"

    def test_unset_variable_is_named_where_its_empty_text_is_not_allowed(self, tmp_path: Path) -> None:
        text = '{"Enrichment": {"StateDirectory": "${STATE}", "Archives": {"a": {"Url": "${PACS}"}}}}'
        with pytest.raises(ConfigError) as caught:
            load_configuration(write(tmp_path / "orthanc.json", text), {})
        lines = str(caught.value).splitlines()
        assert [line.rpartition("(")[2] for line in lines] == [
            "environment variable STATE is not set)",
            "environment variable PACS is not set)",
        ]

    def test_unset_variable_is_empty_where_that_is_allowed(self, tmp_path: Path) -> None:
        path = write(tmp_path / "orthanc.json", '{"Enrichment": {"Service": {"Url": "${URL}"}}}')
        assert load_configuration(path, {}).service.url == ""

    def test_unset_variable_outside_a_text_is_named(self, tmp_path: Path) -> None:
        path = write(tmp_path / "orthanc.json", '{"Enrichment": {"Workers": ${N}}}')
        with pytest.raises(ConfigError, match="environment variables that are not set: N"):
            load_configuration(path, {})

    def test_folder_is_merged_and_subfolders_are_not_read(self, tmp_path: Path) -> None:
        write(tmp_path / "orthanc.json", '{"HttpPort": 9000, "SslEnabled": true}')
        write(tmp_path / "dicomweb.JSON", '{"DicomWeb": {"Root": "/rs/"}}')
        write(tmp_path / "enrichment.json", '{"Enrichment": {}}')
        write(tmp_path / "notes.txt", "not JSON")
        (tmp_path / "old.json").mkdir()
        write(tmp_path / "old.json" / "enrichment.json", '{"Enrichment": 5}')
        archive = load_configuration(tmp_path, {}).archives["local"]
        assert (archive.url, archive.orthanc_url) == ("https://127.0.0.1:9000/rs", "https://127.0.0.1:9000")

    def test_key_in_two_files_is_refused_as_orthanc_does(self, tmp_path: Path) -> None:
        write(tmp_path / "a.json", '{"Enrichment": {}}')
        write(tmp_path / "b.json", '{"Enrichment": {}}')
        with pytest.raises(ConfigError, match='the key "Enrichment" is in more than one file'):
            load_configuration(tmp_path, {})

    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ('{"Enrichment": {"StableAge": 5, "StableAge": 6}}', "Enrichment.StableAge"),
            ('{"Enrichment": {"Service": {"Port": 1, "Host": "a", "Port": 2}}}', "Enrichment.Service.Port"),
            ('{"Enrichment": {"Rules": [{"Name": "a", "Name": "b"}]}}', r"Enrichment.Rules\[0\].Name"),
            ('{"Enrichment": {}, "Enrichment": {"StableAge": 6}}', "Enrichment"),
        ],
    )
    def test_a_key_that_is_written_twice_in_the_section_is_refused(self, tmp_path: Path, text: str, key: str) -> None:
        with pytest.raises(ConfigError, match=f"^{key}: is written twice"):
            load_configuration(write(tmp_path / "orthanc.json", text), {})

    def test_a_key_that_is_written_twice_elsewhere_stays_orthancs_matter(self, tmp_path: Path) -> None:
        path = write(tmp_path / "orthanc.json", '{"HttpPort": 1, "HttpPort": 9000, "Enrichment": {}}')
        assert load_configuration(path, {}).archives["local"].orthanc_url.endswith(":9000")

    @pytest.mark.parametrize(("text", "message"), [("{}", 'no section "Enrichment"'), ("[]", "is not a JSON object")])
    def test_file_without_the_section_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            load_configuration(write(tmp_path / "orthanc.json", text), {})

    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"absent.json: cannot be read \(No such file"):
            load_configuration(tmp_path / "absent.json", {})
