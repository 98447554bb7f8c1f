"""Options of the conformance matrix, and the table of what its run said."""

from __future__ import annotations

import pytest

from tests.conformance.table import CELL, Table


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="conformance: every series by every reader, minutes more")
    parser.addoption("--matrix-page", action="store_true", help="conformance: write the table to docs/conformance.md")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the run itself, not a process of xdist
        config.pluginmanager.register(_Matrix(config), "conformance-matrix")


class _Matrix:
    """Collects the cells that tests report by `record_property`, from whatever process they ran in."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.table = Table()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, value in report.user_properties:
                if name == CELL:
                    self.table.add(report.location[0], *str(value).split("|"), failed=report.failed)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.config.getoption("--matrix", False) and self.table:
            terminalreporter.write_line("\n" + self.table.text())

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """A run that failed writes nothing."""
        if self.config.getoption("--matrix-page", False) and self.table and exitstatus == pytest.ExitCode.OK:
            self.table.write_page()


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the whole matrix was asked for."""
    return bool(request.config.getoption("--matrix", False))
