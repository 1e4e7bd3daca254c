"""A real Chromium without a window, driven by chromedriver (W3C WebDriver), for as long as a context lasts."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["CHROMEDRIVER", "CHROMIUM", "Browser", "browsing"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")

TIMEOUT = 30.0  # seconds for one command; a start takes about two
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1200,1060"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]


class Browser:
    """One window."""

    def __init__(self, port: int, profile: str, options: list[str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self._session = ""
        chrome = {"binary": CHROMIUM, "args": [*OPTIONS, f"--user-data-dir={profile}", *options]}
        wanted = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = self._do("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def _do(self, method: str, command: str, arguments: dict[str, Any] | None = None) -> Any:
        path = f"/session/{self._session}{command}" if self._session else "/session"
        body = None if method == "GET" else json.dumps(arguments or {})
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        value = json.loads(self._connection.getresponse().read())["value"]
        assert not (isinstance(value, dict) and "error" in value), value
        return value

    def open(self, url: str) -> None:
        """Load a page."""
        self._do("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """Return what a script returns, which the page's policy does not concern."""
        return self._do("POST", "/execute/sync", {"script": script, "args": []})

    def wait_for(self, condition: str, timeout: float = TIMEOUT) -> None:
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + timeout
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < deadline, f"not within {timeout} s: {condition}\n{self.run(TEXT)}"
            time.sleep(0.05)

    def text(self) -> str:
        """Return what can be read."""
        return str(self.run(TEXT))

    def complaints(self) -> list[str]:
        """Return what the console says, such as what the policy has kept from running."""
        return [entry["message"] for entry in self._do("POST", "/se/log", {"type": "browser"})]

    def screenshot(self) -> bytes:
        """Return what can be seen, as PNG."""
        return base64.b64decode(self._do("GET", "/screenshot"))

    def close(self) -> None:
        try:
            self._do("DELETE", "")
        finally:
            self._connection.close()


TEXT = "return document.body.innerText"


@contextlib.contextmanager
def browsing(*options: str) -> Iterator[Browser]:
    """Start a browser with a fresh profile and these options; everything of it has gone in the end."""
    assert CHROMEDRIVER is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen(
            [CHROMEDRIVER, "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            env={**os.environ, "HOME": profile},
        )
        assert driver.stdout is not None
        try:
            told = next(
                (found for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line))), None
            )
            assert told is not None, "chromedriver has not started"
            browser = Browser(int(told[1]), profile, list(options))
            try:
                yield browser
            finally:
                browser.close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)
            driver.wait(TIMEOUT)
            driver.stdout.close()
