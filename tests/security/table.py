"""The table of docs/security-tests.md: what is tried, what must happen, and what was seen. Each test has its row."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from importlib import metadata

from tests.support.cases.realct import ROOT

PAGE = ROOT / "docs" / "security-tests.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
NOTE = "security"
"""Name of the property by which a test reports what it measured."""

AREAS = {
    "test_patient_data": "Patient data outside the archive",
    "test_before_login": "Before the login",
    "test_addresses": "Odd addresses",
    "test_service_routes": "Every route, every identity, other sites",
    "test_proxy_login": "Single sign-on by a proxy",
    "test_access": "Roles, proxies, tokens, sessions, lockout",
    "test_audit": "Audit log",
    "test_trail": "Audit log: tampering",
    "test_outgoing": "Outgoing requests",
    "test_schema_fuzz": "The API against its own description",
    "test_injection": "Injection and bombs",
    "test_honest_health": "Health and orphans",
}

# test: (what is tried, what must happen)
ROWS = {
    "test_patient_data": {
        "test_the_tokens_came_through_the_whole_pipeline": (
            "tokens in 34 VRs, valid and not, by STOW, C-STORE and DIMSE archive",
            "jobs are done, results carry the name",
        ),
        "test_no_file_of_the_service_holds_a_token": ("search of logs, stderr and job database", "0 hits"),
        "test_the_plugin_writes_no_token_into_orthancs_log": (
            "search of Orthanc's log",
            "0 hits but in lines of Orthanc itself",
        ),
        "test_no_temporary_file_and_no_command_line_holds_a_token": (
            "search of temporary files, command lines, environments",
            "0 hits, no temporary file",
        ),
        "test_nothing_dumps_its_memory": ("limit of core dumps of every process", "0 bytes"),
        "test_no_answer_of_the_api_and_no_page_holds_a_token": ("search of every page, API answer and table", "0 hits"),
        "test_a_person_who_asks_is_told_and_the_log_says_who_asked": (
            "a person asks who a patient is",
            "name shown; log names the person only",
        ),
        "test_a_search_by_a_patients_number_leaves_no_trace": (
            "searches and bodies that hold tokens",
            "0 hits in logs",
        ),
    },
    "test_before_login": {
        "test_an_endless_head_is_refused": ("request line, header and headers without end", "closed, 431"),
        "test_a_head_in_one_piece_is_measured_too": ("a head over the limit in one piece", "431"),
        "test_a_head_that_is_not_completed_is_closed": ("half-open requests", "closed in time"),
        "test_a_slow_body_is_closed_and_a_steady_one_is_not": ("a body byte by byte; a steady one", "closed; 200"),
        "test_endless_trailers_and_tiny_chunks_are_closed": (
            "chunks of one byte with long extensions; endless trailers",
            "closed",
        ),
        "test_an_answer_that_nobody_takes_is_given_up": ("an answer that nobody reads", "given up"),
        "test_requests_do_not_pile_up_behind_one_another": (
            "200 requests in one connection behind a slow one",
            "refused",
        ),
        "test_one_address_takes_no_more_than_its_share": (
            "12 half-open connections of this computer, limit 5",
            "this computer is served",
        ),
        "test_the_oldest_half_open_connection_makes_room": (
            "60 half-open connections, limit 20",
            "new callers are served",
        ),
        "test_users_are_served_while_more_half_open_connections_stand_than_there_are_descriptors": (
            "1,100 half-open connections, 1,024 descriptors",
            "users are served, admission goes on, the database is written",
        ),
    },
    "test_addresses": {
        "test_an_odd_path_is_refused": (
            "control characters, double escapes, overlong UTF-8, backslashes",
            "400 (files of the viewer: 404)",
        ),
        "test_orthancs_own_client_is_closed": ("spellings of /dicom-web/servers", "400"),
        "test_control_characters_in_a_query_are_refused": ("control characters in a query", "400"),
        "test_ordinary_escapes_stay": ("spaces, commas and letters in escapes", "accepted"),
        "test_orthanc_reads_no_path_otherwise_than_we_do": (
            "every spelling that reaches Orthanc's client in a real Orthanc",
            "refused by us",
        ),
    },
    "test_service_routes": {
        "test_each_route_has_a_line_in_the_table_of_rights_and_each_line_a_route": (
            "routes without a right, rights without a route",
            "none",
        ),
        "test_only_orthancs_users_get_an_answer": ("each route: no login, wrong password, secret of the plugin", "401"),
        "test_hints_are_for_the_plugin_alone": ("the hints route with each identity", "403 without the secret"),
        "test_no_other_spelling_of_hints_takes_the_secret": (
            "other spellings of the hints route with the secret",
            "401",
        ),
        "test_no_other_site_changes_anything": ("each change from another site", "403"),
        "test_no_request_names_another_method": ("_method, X-HTTP-Method-Override", "400"),
        "test_no_answer_lets_other_sites_read": ("answers to another origin", "no CORS"),
    },
    "test_access": {
        "test_each_route_is_open_to_the_roles_of_the_table": (
            "each line of the table with each role",
            "200 or 403 as the table says",
        ),
        "test_nobody_else_says_who_calls": ("the proxy's header from other addresses", "ignored"),
        "test_a_proxy_that_lets_names_through_is_refused": ("two names, an empty name, a tab", "400"),
        "test_a_proxy_shows_its_secret": ("the proxy's header without or with a wrong secret", "400"),
        "test_wrong_passwords_close_the_door_for_a_while": ("wrong passwords, then the right one", "429"),
        "test_many_users_at_one_address_close_it_for_all": ("one password for many users", "429 at that address only"),
        "test_behind_a_proxy_the_callers_own_address_is_locked_out": (
            "forged X-Forwarded-For",
            "only the last hop counts",
        ),
        "test_a_token_has_its_own_rights_and_no_others": (
            "a token beyond its rights, changed, revoked",
            "403, 401, 401",
        ),
        "test_settings_that_trust_by_mistake_are_refused": ("unsafe combinations of settings", "the start is refused"),
        "test_the_form_leads_nowhere_else": ("redirects of the login form to other hosts", "to our own page"),
        "test_no_other_site_logs_anybody_in_or_out": ("login and logout from another site", "403"),
        "test_the_way_out_ends_the_session": ("the cookie after the logout", "401"),
    },
    "test_audit": {
        "test_acts_on_a_job_name_it_its_series_and_the_user": (
            "view, retry, cancel, withdraw, export",
            "who, what, series, job",
        ),
        "test_settings_and_failures_are_recorded": ("pause, a failed act, a wrong password", "recorded with outcome"),
        "test_nothing_that_a_caller_writes_gets_into_the_log": ("tokens in paths, queries and bodies", "0 hits"),
        "test_no_name_is_a_formula_in_a_spreadsheet": ("names such as =1+1 in the CSV export", "no cell is a formula"),
    },
    "test_trail": {
        "test_what_somebody_changes_shows": ("lines changed, removed, moved, added, cut off", "exit code 1"),
        "test_a_file_that_is_removed_shows": ("a month removed", "exit code 1"),
        "test_a_head_kept_elsewhere_shows_even_a_forged_one": (
            "a log cut off, with a forged head",
            "shown by a head kept elsewhere",
        ),
        "test_nobody_rewrites_a_keyed_log_without_the_key": ("lines written without the key", "shown"),
    },
    "test_proxy_login": {
        "test_groups_of_the_provider_decide": ("a real proxy that names user and groups", "200 or 403 by group"),
        "test_the_proxy_replaces_what_a_caller_claims": ("a caller's own headers through the proxy", "ignored"),
        "test_nobody_else_is_believed": ("the headers from other addresses, with the secret", "401"),
        "test_on_the_computer_of_the_proxy_the_secret_counts": ("the headers from the proxy's computer", "400"),
        "test_the_audit_log_names_the_person_and_where_it_sits": ("a change through the proxy", "person and address"),
    },
    "test_outgoing": {
        "test_a_redirect_is_not_followed": ("an archive that redirects (301 to 308)", "no request elsewhere"),
        "test_addresses_in_answers_are_not_followed": (
            "RetrieveURL and BulkDataURI of another host or a cloud's metadata",
            "no request elsewhere",
        ),
        "test_no_connection_leads_anywhere_else": ("other hosts, schemes and look-alikes", "refused"),
        "test_no_identifier_changes_the_address": ("UIDs such as 1.2/../../system", "refused before a request"),
        "test_tls_of_an_archive_is_verified": ("a certificate for another name, an unknown CA", "refused"),
        "test_a_webhook_is_signed_and_redirected_nowhere": ("a webhook that redirects", "no request elsewhere"),
        "test_addresses_that_are_unsafe_stop_the_start": (
            "addresses without TLS, with users, other schemes",
            "refused",
        ),
        "test_a_credential_is_a_name_in_its_folder": ("credentials such as ../etc/passwd", "refused"),
        "test_old_tls_is_refused": ("versions of TLS", "1.2 or newer, verified"),
    },
    "test_schema_fuzz": {
        "test_no_request_breaks_the_api": ("schemathesis, 12 requests for each operation", "no error of the server"),
    },
    "test_injection": {
        "test_a_filter_is_a_value_and_no_command": ("SQL in each filter", "no row found, none lost"),
        "test_a_path_and_a_body_are_values_too": ("SQL in reasons, texts and names", "nothing done"),
        "test_no_cell_of_a_table_is_a_formula": ("formulas in each column of radiomics", "no cell is a formula"),
        "test_a_body_that_nests_without_end_is_refused": ("JSON 100,000 levels deep", "400"),
        "test_a_body_that_is_too_long_is_refused": ("5 MiB where 1 MiB or less is allowed", "413"),
        "test_a_compressed_body_is_not_unpacked": ("a body that would inflate to 64 MiB", "400"),
        "test_a_file_that_inflates_is_not_read": ("a DICOM file that would inflate to 300 MiB", "unread, no memory"),
        "test_a_length_that_lies_takes_no_memory": ("lengths of 4 GiB", "400"),
        "test_numbers_out_of_range_are_refused": ("limits such as 1e9 or 10^40", "400"),
        "test_a_uid_in_a_body_is_a_uid": ("paths and scripts for UIDs", "400"),
    },
    "test_honest_health": {
        "test_a_wrong_password_of_an_archive_shows_on_orthancs_page_and_in_the_health": (
            "a wrong password of an archive",
            "on Orthanc's page, in health and system page",
        ),
        "test_a_step_that_is_tried_again_says_why": (
            "an archive that refuses the account",
            "job says try 2 of 8 and why",
        ),
        "test_nothing_outlives_an_orthanc_that_was_killed": (
            "SIGKILL of Orthanc",
            "service and workers gone within 10 s",
        ),
        "test_a_hung_service_is_ended_by_the_kernel": ("a service that does not stop", "ended by SIGALRM"),
    },
}


class Table:
    """Outcomes of the tests, in the order of ROWS."""

    def __init__(self) -> None:
        self._passed, self._failed = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        self._notes: dict[tuple[str, str], str] = {}

    def __bool__(self) -> bool:
        return bool(self._passed or self._failed)

    def add(self, module: str, test: str, failed: bool, note: str = "") -> None:
        """Add the outcome of one case."""
        (self._failed if failed else self._passed)[(module, test)] += 1
        if note:
            self._notes[(module, test)] = note

    def missing(self) -> list[str]:
        """Return rows without a test that ran."""
        rows = [(module, test) for module, tests in ROWS.items() for test in tests]
        return [f"{module}::{test}" for module, test in rows if not self._passed[(module, test)]]

    def text(self) -> str:
        """Format the table as Markdown."""
        parts = []
        for module, tests in ROWS.items():
            parts.append(f"\n## {AREAS[module]}\n\n| Case | Expected | Seen |\n|---|---|---|\n")
            for test, (case, expected) in tests.items():
                parts.append(f"| {case} | {expected} | {self._seen(module, test)} |\n")
        return "".join(parts)

    def _seen(self, module: str, test: str) -> str:
        passed, failed = self._passed[(module, test)], self._failed[(module, test)]
        if failed or not passed:
            return f"**FAILED** {failed} of {passed + failed}"
        seen = "as expected" if passed == 1 else f"as expected, {passed} of {passed}"
        return f"{seen}; {self._notes[(module, test)]}" if (module, test) in self._notes else seen

    def write_page(self) -> None:
        """Put the table between its markers."""
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("pydicom", "schemathesis", "uvicorn"))
        head = f"Run of {datetime.now(UTC).date().isoformat()}, {versions}.\n"
        old = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
        PAGE.write_text(old.sub(lambda _: f"{BEGIN}\n{head}{self.text()}\n{END}", PAGE.read_text()))
