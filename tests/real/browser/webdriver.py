"""Firefox and WebKit, by the commands of WebDriver. Playwright drives neither as Debian has it.

Debian has no geckodriver, which only translates WebDriver's HTTP into Firefox's own protocol,
Marionette. So Firefox is spoken to by Marionette. Its commands and their parameters are WebDriver's.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import requests
from playwright.sync_api import Page

from tests.settings import free_port

ENTER = "\ue007"  # as WebDriver writes this key
START = 30  # seconds
T = TypeVar("T")


class Tab:
    """The only tab of a browser."""

    def __init__(self, command: Callable[..., Any]) -> None:
        self.command = command

    def goto(self, url: str) -> None:
        self.command("Navigate", url=url)

    def evaluate(self, function: str, *args: object) -> Any:
        """What a JavaScript function returns, run by the page itself: a sandbox cannot import."""
        script = "return window.eval(arguments[0])(...arguments[1])"
        return self.command("ExecuteScript", script=script, args=[f"({function})", args])["value"]

    def type(self, selector: str, text: str) -> None:
        self.command("ElementSendKeys", id=self._find(selector), text=text)

    def choose(self, selector: str, *files: Path) -> None:
        self.type(selector, "\n".join(map(str, files)))

    def text(self, selector: str) -> str:
        """As a person sees it."""
        text: str = self.command("GetElementText", id=self._find(selector))["value"]
        return text

    def forget(self) -> None:
        """Who is signed in."""
        self.command("DeleteAllCookies")

    def _find(self, selector: str) -> str:
        found = self.command("FindElement", using="css selector", value=selector)["value"]
        [element] = found.values()
        return str(element)


class PlaywrightTab(Tab):
    """The same in a browser that Playwright drives."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def goto(self, url: str) -> None:
        self.page.goto(url)

    def evaluate(self, function: str, *args: object) -> Any:
        return self.page.evaluate(f"(args) => ({function})(...args)", args)

    def type(self, selector: str, text: str) -> None:
        field = self.page.locator(selector).first
        if text == ENTER:
            field.press("Enter")
        else:
            field.press_sequentially(text)

    def choose(self, selector: str, *files: Path) -> None:
        self.page.locator(selector).set_input_files(files)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def forget(self) -> None:
        self.page.context.clear_cookies()


@contextmanager
def firefox(folder: Path) -> Iterator[Tab]:
    (folder / "user.js").write_text('user_pref("marionette.port", 0);')
    command = [os.environ["FIREFOX"], "--headless", "--marionette", "--profile", str(folder)]
    with running(command, folder / "log") as process:
        port = int(wait_for(process, (folder / "MarionetteActivePort").read_text))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as wire,
            wire.makefile("rb") as answers,
        ):

            def received() -> Any:
                """Each message begins with its length: 12:[1,1,null,{}]"""
                length = b""
                while not length.endswith(b":"):
                    length += answers.read(1)
                return json.loads(answers.read(int(length[:-1])))

            def command(name: str, **parameters: Any) -> Any:
                message = json.dumps([0, 1, f"WebDriver:{name}", parameters])
                wire.sendall(f"{len(message)}:{message}".encode())
                _, _, error, value = received()
                assert error is None, error
                return value

            assert received()["marionetteProtocol"] == 3
            command("NewSession")
            yield Tab(command)


# WebDriver's names of the commands, as geckodriver gives them, and where it has them.
PATHS = {
    "Navigate": ("POST", "url"),
    "ExecuteScript": ("POST", "execute/sync"),
    "FindElement": ("POST", "element"),
    "ElementSendKeys": ("POST", "element/{id}/value"),
    "GetElementText": ("GET", "element/{id}/text"),
    "DeleteAllCookies": ("DELETE", "cookie"),
}


@contextmanager
def webkit(folder: Path) -> Iterator[Tab]:
    """WebKitGTK's MiniBrowser, on a display of its own."""
    port = free_port()
    display = folder / "display"
    screen = ["Xvfb", "-displayfd", "1", "-nolisten", "tcp"]
    with running(screen, display) as xvfb:
        number = wait_for(xvfb, lambda: int(display.read_text().splitlines()[-1]))
        env = {"DISPLAY": f":{number}", "XDG_DATA_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
        command = [os.environ["WEBKIT_DRIVER"], f"--port={port}"]
        with running(command, folder / "log", **env) as process:
            sessions = f"http://127.0.0.1:{port}/session"
            body = {"capabilities": {"alwaysMatch": {}}}
            begun = wait_for(process, lambda: requests.post(sessions, json=body, timeout=START))
            session = f"{sessions}/{begun.json()['value']['sessionId']}"

            def ask(name: str, **parameters: Any) -> Any:
                method, path = PATHS[name]
                url = f"{session}/{path.format(**parameters)}"
                answer = requests.request(method, url, json=parameters, timeout=60)
                assert answer.ok, answer.text
                return answer.json()

            yield Tab(ask)
            requests.delete(session, timeout=60)


@contextmanager
def running(command: list[str], log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, env={**os.environ, **env}, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def wait_for(process: subprocess.Popen[bytes], found: Callable[[], T]) -> T:
    deadline = time.monotonic() + START
    while True:
        try:
            return found()
        except (OSError, ValueError, IndexError):
            assert process.poll() is None, process.args
            assert time.monotonic() < deadline, process.args
            time.sleep(0.05)
