"""Debian's Chromium without a screen, and what a page said while it was open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Response, sync_playwright

# WebGL comes from SwiftShader: there is no GPU. The browser itself asks nothing of the network.
_ARGUMENTS = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--mute-audio",
)


def chromium_binary() -> str:
    """Path of Debian's Chromium; empty if it is not installed."""
    return shutil.which("chromium") or ""


@contextmanager
def open_browser(profile: Path, width: int = 1400, height: int = 900) -> Iterator[BrowserContext]:
    """A browser with a fresh profile."""
    as_root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium_binary(),
            headless=True,
            args=[*_ARGUMENTS, *as_root],
            viewport={"width": width, "height": height},
        )
        context.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        try:
            yield context
        finally:
            context.close()


class Watch:
    """What a page said: errors in its console, exceptions, answers from 400 on, and toasts or dialogs of errors."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.failures: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.failures.append(f"{response.status} {response.url}")

    def alarms(self) -> list[str]:
        """Texts of toasts and dialogs that are on the page now."""
        return self.page.locator("[data-sonner-toast], [role=dialog]").all_inner_texts()
