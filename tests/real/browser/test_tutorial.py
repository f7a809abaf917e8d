"""The tutorial, from an empty folder to a photo on the page: its own blocks are run in order."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.conftest import ROOT
from tests.settings import free_port

pytestmark = pytest.mark.journey

BLOCK = re.compile(r"```\{code-block\} (\S+)\n(?::caption: ([^\n]*)\n)?\n?(.*?)```", re.DOTALL)


class Block(NamedTuple):
    language: str
    caption: str
    code: str


class Learner:
    """Does what the tutorial says, in a folder and with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = (ROOT / "docs/tutorial.md").read_text()
        self.port, self.s3_port = free_port(), free_port()
        for said, ours in (
            ("/path/to/s3direct_uploads", str(ROOT)),
            ("runserver\n", f"runserver {self.port}\n"),
            ("127.0.0.1:8000", f"127.0.0.1:{self.port}"),
            ("127.0.0.1:9000", f"127.0.0.1:{self.s3_port}"),
        ):
            assert said in text
            text = text.replace(said, ours)
        self.blocks = [Block(*each) for each in BLOCK.findall(text)]
        assert len(self.blocks) == text.count("```{code-block}")
        # Nothing of this suite: no settings, no interpreter and no keys.
        kept = ("HOME", "LANG", "PIP_", "TMPDIR")
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            **{name: value for name, value in os.environ.items() if name.startswith(kept)},
        }

    @property
    def project(self) -> Path:
        return self.folder / "first-upload"

    def follow(self, terminals: ExitStack) -> None:
        for block in self.blocks:
            if block.language != "console":
                self.write(block)
            elif block.caption:
                terminals.enter_context(self.terminal(block))
            else:
                self.run(block)

    def write(self, block: Block) -> None:
        name, _, where = block.caption.partition(" (")
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if where else ""
        path.write_text(before + block.code)

    def command(self, block: Block) -> list[str]:
        lines = block.code.splitlines()
        assert all(line.startswith("$ ") for line in lines)
        here = ["cd first-upload", ". .venv/bin/activate"] if self.project.exists() else []
        return ["bash", "-ec", "\n".join([*here, *[line[2:] for line in lines]])]

    def run(self, block: Block) -> None:
        ran = subprocess.run(
            self.command(block),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    @contextmanager
    def terminal(self, block: Block) -> Iterator[None]:
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                self.command(block),
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            port = self.port if "runserver" in block.code else self.s3_port
            for _ in range(300):
                assert process.poll() is None, log.read_text()
                if is_open(port):
                    break
                time.sleep(0.1)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_tutorial_leads_from_an_empty_folder_to_a_photo(
    chromium: Browser, tmp_path: Path
) -> None:
    learner = Learner(tmp_path)
    photo = tmp_path / "beach.png"
    Image.new("RGB", (40, 30), "orange").save(photo)

    with ExitStack() as terminals:
        learner.follow(terminals)
        page = terminals.enter_context(chromium.new_context()).new_page()
        page.goto(f"http://127.0.0.1:{learner.port}/add/")
        page.get_by_label("Username").fill("me")
        page.get_by_label("Password").fill("secret")
        page.get_by_role("button", name="Log in").click()
        page.get_by_label("Title").fill("Beach")
        page.locator("input[type=file]").set_input_files(photo)
        expect(page.get_by_text("beach.png is ready.")).to_be_visible()
        page.get_by_role("button", name="Save").click()

        shown = page.get_by_role("img", name="Beach")
        expect(shown).to_have_js_property("naturalWidth", 40)
        page.goto(f"http://127.0.0.1:{learner.port}/admin/s3direct_uploads/upload/")
        expect(page.locator("#result_list")).to_contain_text("Completed")
        expect(page.locator("#result_list")).to_contain_text("beach.png")
