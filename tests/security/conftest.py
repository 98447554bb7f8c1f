"""Option of the security tier: write the table of docs/security-tests.md from what was seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.table import NOTE, Table


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--security-page", action="store_true", help="write the table to docs/security-tests.md")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the run itself, not a process of xdist
        config.pluginmanager.register(_Page(config), "security-page")


class _Page:
    """Collects outcomes from whatever process a test ran in."""

    def __init__(self, config: pytest.Config) -> None:
        self.config, self.table = config, Table()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or (report.when == "setup" and report.failed):
            file, _, rest = report.nodeid.partition("::")
            name = rest.partition("[")[0].rpartition("::")[2]
            note = next((str(value) for key, value in report.user_properties if key == NOTE), "")
            self.table.add(Path(file).stem, name, report.failed, note)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """A run that failed writes nothing."""
        if self.config.getoption("--security-page", False) and exitstatus == pytest.ExitCode.OK:
            assert self.table.missing() == []
            self.table.write_page()
