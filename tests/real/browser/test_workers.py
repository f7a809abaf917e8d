"""upload.js in a web worker, and in a service worker, of Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.real import npm
from tests.real.site import ROOT, Site, Visitor

pytestmark = pytest.mark.journey

MIB = 1024**2
PACKAGE = ROOT / "s3direct_uploads" / "static" / "s3direct_uploads"
# Both kinds of workers do the same: they upload the file of a message, and answer to its port.
ANSWER = """
self.addEventListener("message", ({data: {file, options}, ports: [port]}) => {
  const moved = [];
  const onProgress = ({loaded}) => moved.push(loaded);
  upload(file, {...options, ...more, onProgress}).then(
    ({id, status}) => port.postMessage({id, status, moved}),
    ({name, code, message}) => port.postMessage({name, code, message, moved}),
  );
});
"""
WEB_WORKER = """
import {upload} from "/static/s3direct_uploads/upload.js";
const more = {};
"""
SERVICE_WORKER = """
import {upload} from "s3direct-uploads/upload.js";

/** Without XMLHttpRequest. It tells of progress when all is sent. */
async function send({method, url, headers}, body, signal, onLoaded) {
  const answer = await fetch(url, {method, headers, body, signal, credentials: "omit"});
  onLoaded(body.size);
  return {status: answer.status, text: await answer.text()};
}
self.addEventListener("install", () => self.skipWaiting());
"""
PAGE = """<!doctype html><meta charset="utf-8"><title>Workers</title>
<form method="post">{% csrf_token %}<input type="file" id="file"></form>"""
START = {
    "web": "() => { window.worker = new Worker('/static/web.js', {type: 'module'}); }",
    "service": """async () => {
        const registration = await navigator.serviceWorker.register("/static/service.js");
        const worker = registration.installing ?? registration.active;
        while (worker.state !== "activated") {
            await new Promise((resolve) => worker.addEventListener("statechange", resolve));
        }
        window.worker = worker;
    }""",
}
UPLOAD = """(more) => new Promise((resolve) => {
    const {port1, port2} = new MessageChannel();
    const headers = {"X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value};
    const options = {endpoint: "/api/uploads/", destination: "photos", headers, ...more};
    port1.onmessage = ({data}) => resolve(data);
    const [file] = document.querySelector("#file").files;
    window.worker.postMessage({file, options}, [port2]);
})"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("workers")
    static, templates = folder / "static", folder / "templates"
    static.mkdir()
    templates.mkdir()
    (templates / "workers.html").write_text(PAGE)
    (static / "web.js").write_text(WEB_WORKER + ANSWER)
    npm.install(folder, "esbuild@0.28.2", "--install-links", str(PACKAGE))
    for name, more in (("service", "{send}"), ("sendless", "{}")):
        script = f"{SERVICE_WORKER}const more = {more};{ANSWER}"
        (folder / f"{name}.mjs").write_text(script)
        options = ("--bundle", "--format=iife", "--external:node:*")
        outfile = f"--outfile={static / name}.js"
        made = npm.run(folder, "esbuild", f"{name}.mjs", *options, outfile)
        assert made.returncode == 0, made.stderr
    site = Site()
    settings = "tests.real.libraries.settings"
    site.env |= {"DJANGO_SETTINGS_MODULE": settings, "LIBRARIES": str(folder)}
    with site.serving(folder / "log"):
        site.allow(site.url, "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm")
        yield site


@pytest.fixture
def alice(
    running: Site, chromium: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Visitor]:
    context = chromium.new_context()
    context.set_default_timeout(60_000)
    alice = Visitor(running, context, request.node.name, tmp_path)
    running.make_user(alice.username)
    alice.page.goto(running.url)
    alice.sign_in()
    alice.page.goto(f"{running.url}/libraries/workers/")
    running.web.mend()
    running.s3.mend()
    yield alice
    context.close()
    assert alice.errors == []


def upload(alice: Visitor, photo: Path, **options: Any) -> dict[str, Any]:
    alice.page.locator("#file").set_input_files(photo)
    answer: dict[str, Any] = alice.page.evaluate(UPLOAD, options)
    return answer


@pytest.mark.parametrize("kind", START)
@pytest.mark.parametrize(("more", "parts"), [(MIB, 1), (11 * MIB, 3)])
def test_a_worker_uploads(alice: Visitor, kind: str, more: int, parts: int) -> None:
    """In one PUT, and in parts of 5 MiB. A connection is cut, and the worker sends again."""
    photo = alice.make_photo("beach.jpg", more=more)
    alice.page.evaluate(START[kind])
    alice.site.s3.cut("PUT", after=1000)

    answer = upload(alice, photo)

    row = alice.row()
    assert (answer["id"], answer["status"]) == (str(row.id), "completed")
    assert answer["moved"] == sorted(answer["moved"])
    assert answer["moved"][-1] == row.size
    assert sorted(alice.site.s3.statuses("PUT")) == [0] + [200] * parts
    assert alice.site.read(row) == photo.read_bytes()


def test_a_web_worker_computes_a_checksum_in_a_worker_of_its_own(alice: Visitor) -> None:
    photo = alice.make_photo("beach.jpg", more=MIB)
    alice.page.evaluate(START["web"])

    answer = upload(alice, photo, checksum="CRC32")

    row = alice.row()
    assert (answer["status"], row.checksum_algorithm) == ("completed", "CRC32")
    assert alice.site.head(row)["ChecksumCRC32"] == row.checksum


def test_a_service_worker_without_send_says_so_before_anything_begins(alice: Visitor) -> None:
    photo = alice.make_photo("beach.jpg")
    alice.page.evaluate(START["service"].replace("service.js", "sendless.js"))

    answer = upload(alice, photo)

    assert (answer["name"], answer["code"]) == ("UploadError", "not_supported")
    assert "Use the option send." in answer["message"]
    assert alice.rows() == []
