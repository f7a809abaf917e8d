"""Firefox and WebKit, by the commands of WebDriver. Playwright drives neither as Debian has it.

Debian has no geckodriver. It only translates WebDriver's HTTP into Firefox's own protocol,
Marionette. So these tests speak Marionette. Its commands and their parameters are WebDriver's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests

from tests.settings import free_port

ENTER = "\ue007"  # as WebDriver writes this key
START = 120  # seconds; all cores may be busy
WEBKIT_START = 60  # seconds, for one try
WEBKIT_TRIES = 3
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
        """Also where a page's policy forbids ``evaluate``."""
        script = "return document.querySelector(arguments[0])?.textContent ?? ''"
        text: str = self.command("ExecuteScript", script=script, args=[selector])["value"]
        return text

    def sign_in(self, username: str, password: str) -> None:
        """At Django's form, by keyboard."""
        self.type("#id_username", username)
        self.type("#id_password", password + ENTER)

    def forget(self) -> None:
        """Who is signed in."""
        self.command("DeleteAllCookies")

    def _find(self, selector: str) -> str:
        found = self.command("FindElement", using="css selector", value=selector)["value"]
        [element] = found.values()
        return str(element)


Open = Callable[[], AbstractContextManager[Tab]]


@contextmanager
def firefox(folder: Path) -> Iterator[Open]:
    (folder / "user.js").write_text('user_pref("marionette.port", 0);')
    program = [os.environ["FIREFOX"], "--headless", "--marionette", "--profile", str(folder)]
    with running(program, folder / "log") as process:
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
            yield lambda: nullcontext(Tab(command))


# WebDriver's names of the commands, as geckodriver gives them, and where it has them.
PATHS = {
    "Navigate": ("POST", "url"),
    "ExecuteScript": ("POST", "execute/sync"),
    "FindElement": ("POST", "element"),
    "ElementSendKeys": ("POST", "element/{id}/value"),
    "DeleteAllCookies": ("DELETE", "cookie"),
}


@contextmanager
def webkit(folder: Path) -> Iterator[Open]:
    """WebKitGTK's MiniBrowser, on a display of its own; another one for each test."""
    display = folder / "display"
    with running(["Xvfb", "-displayfd", "1", "-nolisten", "tcp"], display) as xvfb:
        number = wait_for(xvfb, lambda: int(display.read_text().splitlines()[-1]))
        env = {
            "DISPLAY": f":{number}",
            "WEBKIT_DISABLE_DMABUF_RENDERER": "1",  # it needs a graphics card
            "XDG_CACHE_HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
        }

        @contextmanager
        def tab() -> Iterator[Tab]:
            with webkit_session(folder, env) as session:

                def command(name: str, **parameters: Any) -> Any:
                    method, path = PATHS[name]
                    url = f"{session}/{path.format(**parameters)}"
                    answer = requests.request(method, url, json=parameters, timeout=60)
                    assert answer.ok, answer.text
                    return answer.json()

                yield Tab(command)
                requests.delete(session, timeout=60)

        yield tab


@contextmanager
def webkit_session(folder: Path, env: dict[str, str]) -> Iterator[str]:
    """The URL of a session, by a driver of its own.

    The driver picks a random port for its browser, from those that the system gives to connections.
    If another process takes this port first, the browser cannot listen, and the driver waits for
    ever. So this function then ends both, and starts another driver.
    """
    for attempt in range(1, WEBKIT_TRIES + 1):
        port = free_port()
        driver = f"http://127.0.0.1:{port}"
        command = [os.environ["WEBKIT_DRIVER"], f"--port={port}"]
        with running(command, folder / f"log-{port}", **env) as process:
            wait_for(process, partial(requests.get, f"{driver}/status", timeout=START))
            try:
                begun = requests.post(
                    f"{driver}/session", json={"capabilities": {}}, timeout=WEBKIT_START
                )
            except requests.ReadTimeout:
                if attempt == WEBKIT_TRIES:
                    raise
                continue
            assert begun.ok, begun.text
            yield f"{driver}/session/{begun.json()['value']['sessionId']}"
            return


@contextmanager
def running(command: list[str], log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            env={**os.environ, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # also the browser that a driver started


def wait_for(process: subprocess.Popen[bytes], found: Callable[[], T]) -> T:
    deadline = time.monotonic() + START
    while True:
        try:
            return found()
        except (OSError, ValueError, IndexError):
            assert process.poll() is None, process.args
            assert time.monotonic() < deadline, process.args
            time.sleep(0.05)
