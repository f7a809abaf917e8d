"""The JavaScript and the shells that the documentation shows, with the example project on Ceph."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Route, expect

from tests.documents import block, write
from tests.shell import commands

from . import npm
from .browser.conftest import chromium as chromium
from .browser.conftest import visit as visit
from .site import PASSWORD, ROOT, Site, Visitor

pytestmark = pytest.mark.journey

PACKAGE = ROOT / "s3direct_uploads" / "static" / "s3direct_uploads"
VITE = "vite@8.3.8"
REACT = ("react@19.2.0", "react-dom@19.2.0", "@types/react@19.2.2", "@types/react-dom@19.2.2")
# What stands before each block, where a host has it already.
GIVEN = """
import {openAsBlob} from "node:fs";
const [site, authorization, path] = process.argv.slice(2);
const endpoint = `${site}/api/uploads/`;
const headers = {Authorization: authorization};
const blob = await openAsBlob(path, {type: "image/png"});
const file = new File([blob], "film.png", {type: "image/png"});
const [name, size, type, uri] = [file.name, file.size, file.type, path];
const bar = {}, message = {}, page = new File(["no"], "page.html", {type: "text/html"});
const input = {files: [file, page]};
"""
# The part of Expo's package that the documentation uses, by its types.
EXPO = """
import {readFileSync} from "node:fs";
export class File {
  constructor(uri) { this.uri = uri; }
  async upload(url, {httpMethod, headers, signal, onProgress}) {
    const body = readFileSync(this.uri);
    const answer = await fetch(url, {method: httpMethod, headers, body, signal});
    onProgress({bytesSent: body.length});
    return {status: answer.status, body: await answer.text()};
  }
}
"""


@pytest.fixture(scope="module")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site().serving(tmp_path_factory.mktemp("site") / "log") as site:
        site.make_user("reader")
        site.make_user("demo")
        yield site


@pytest.fixture
def site(running_site: Site) -> Site:
    running_site.web.mend()
    running_site.s3.mend()
    running_site.allow(running_site.url)
    return running_site


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host's project that packed and installed the package by the words of docs/clients.md."""
    folder = tmp_path_factory.mktemp("project")
    clone = folder / "clone"
    shutil.copytree(PACKAGE, clone / "s3direct_uploads" / "static" / "s3direct_uploads")
    (folder / "package.json").write_text('{"type": "module"}')
    code = block("docs/clients.md", "$ cd s3direct_uploads/static/s3direct_uploads", "console")
    packed = clone / "s3direct_uploads/static/s3direct_uploads"
    shell = code.replace("$ ", "").replace("/my/project", str(folder))
    shell = shell.replace("/path/to", str(packed))
    done = npm.run(clone, "bash", "-ec", shell)
    assert done.returncode == 0, done.stdout + done.stderr
    npm.install(folder, npm.TYPESCRIPT, npm.NODE_TYPES, VITE, *REACT)
    expo = folder / "node_modules" / "expo-file-system"
    expo.mkdir()
    (expo / "package.json").write_text('{"type": "module", "exports": "./index.js"}')
    (expo / "index.js").write_text(EXPO)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "film.png"
    path.write_bytes(os.urandom(1024**2))
    return path


def imported(code: str) -> tuple[str, str]:
    """The imports of a block, of the installed package, and the rest."""
    code = code.replace("{% static 's3direct_uploads/all.js' %}", "s3direct-uploads/all.js")
    code = code.replace('".../upload.js"', '"s3direct-uploads"')
    code = code.replace('".../node.js"', '"s3direct-uploads/node.js"')
    imports = re.findall(r"^import .*$", code, re.MULTILINE)
    return "\n".join(imports), re.sub(r"^import .*$", "", code, flags=re.MULTILINE)


def run(project: Path, site: Site, path: Path, code: str, after: str = "") -> str:
    """Run a block in Node.js; what it printed."""
    imports, rest = imported(code)
    names = [name for name in ("file", "endpoint", "headers") if f"const {name} =" in rest]
    given = "\n".join(
        line
        for line in GIVEN.splitlines()
        if not any(line.startswith(f"const {name} =") for name in names)
    )
    if "const file =" in rest:
        given = re.sub(r"^const (\[name|bar|input).*$", "", given, flags=re.MULTILINE)
    module = project / "block.mjs"
    module.write_text(f"{imports}\n{given}\n{rest}\n{after}\n")
    authorization = "Basic " + b64encode(f"reader:{PASSWORD}".encode()).decode()
    shutil.copy(path, project / path.name)
    done = npm.run(project, "node", "block.mjs", site.url, authorization, str(path))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def assert_uploaded(site: Site, path: Path) -> None:
    row = site.rows("reader")[-1]
    assert (row.status, row.filename) == ("completed", "film.png")
    assert site.read(row) == path.read_bytes()


def test_several_files(project: Path, site: Site, path: Path) -> None:
    """The second one is refused, and stops no other."""
    code = block(
        "docs/clients.md",
        "import {uploadAll} from \"{% static 's3direct_uploads/all.js' %}\";  "
        '// in a bundle: "s3direct-uploads/all.js"',
        "js",
    ).replace('"/api/uploads/"', "endpoint")
    printed = run(project, site, path, code, "console.log(bar.value, message.textContent);")
    good, bad, said = printed.splitlines()
    assert good.startswith("film.png ")
    assert bad.startswith("page.html ")
    assert said == "1 1 of 2 are completed."
    assert_uploaded(site, path)


def test_pausing(project: Path, site: Site, path: Path) -> None:
    code = block("docs/clients.md", 'import {upload, UploadController} from ".../upload.js";', "js")
    assert code.count("controller.pause();") == 1
    code = code.replace("controller.pause();", "const saving = save(file);\ncontroller.pause();")
    after = "await saving.catch(({name}) => console.log(name));"
    assert run(project, site, path, code, after) == "AbortError\n"
    assert [row.status for row in site.rows("reader") if row.status == "pending"] == []


def test_nodejs(project: Path, site: Site, path: Path) -> None:
    code = block("docs/clients.md", 'import {upload} from ".../upload.js";', "js")
    code = code.replace("film.mp4", "film.png").replace('"films"', '"photos"')
    run(project, site, path, code, "console.log(id);")
    assert_uploaded(site, path)


def test_expo(project: Path, site: Site, path: Path) -> None:
    """On a telephone nobody ran it: tests/real/react_native has Hermes."""
    code = block("docs/clients.md", 'import {File} from "expo-file-system";', "js")
    code = code.replace("import {File}", "import {File as ExpoFile}")
    code = code.replace("new File(uri)", "new ExpoFile(uri)")
    run(project, site, path, code, "console.log(id);")
    assert_uploaded(site, path)


def test_the_imports_in_a_bundle(project: Path, tmp_path: Path) -> None:
    """Also by the package that pip has installed: npm takes its folder."""
    code = block(
        "docs/other-origin.md",
        "npm install --install-links \"$(python -c 'import os, s3direct_uploads as s; "
        "print(os.path.dirname(s.__file__))')/static/s3direct_uploads\"",
        "sh",
    )
    python = f"{ROOT}/.venv/bin:"
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shell = f"PATH={python}$PATH PYTHONPATH={ROOT}; export PATH PYTHONPATH\n{code}"
    done = npm.run(tmp_path, "bash", "-ec", shell)
    assert done.returncode == 0, done.stdout + done.stderr
    module = block("docs/other-origin.md", 'import {upload} from "s3direct-uploads";', "js")
    (tmp_path / "block.mjs").write_text(f"{module}console.log(typeof upload, typeof uploadAll);")
    assert npm.run(tmp_path, "node", "block.mjs").stdout == "function function\n"


def test_the_texts_of_a_host(tmp_path: Path) -> None:
    code = block(
        "docs/languages.md",
        'import {languages, texts} from "/static/s3direct_uploads/texts.js";',
        "js",
    ).replace("/static/s3direct_uploads", PACKAGE.as_uri())
    (tmp_path / "block.mjs").write_text(
        f"{code}console.log(languages.de.choose, '|', texts.misconfigured);"
    )
    printed = npm.run(tmp_path, "node", "block.mjs").stdout
    assert printed == "Datei wählen oder hier ablegen | Call 555-0100.\n"


STRICTLY = ("--strict", "--noEmit", "--target", "es2022", "--module", "esnext")
BUNDLER = ("--moduleResolution", "bundler", "--jsx", "react-jsx", "--types", "node")
DOM = ("--lib", "es2022,dom,dom.iterable", "--skipLibCheck")


def test_the_imports_in_typescript(project: Path) -> None:
    code = block(
        "docs/clients.md",
        'import {upload, UploadError, type Upload} from "s3direct-uploads";',
        "ts",
    )
    uses = "export const used: [typeof upload, Upload?] = [upload];\nexport {openFile};\n"
    uses += "export {UploadError};"
    (project / "imports.ts").write_text(f"{code}{uses}")
    (project / "reference.ts").write_text(block("docs/javascript.md", "// upload.ts", "ts"))
    done = npm.run(project, "tsc", *STRICTLY, *BUNDLER, *DOM, "imports.ts", "reference.ts")
    assert (done.returncode, done.stdout) == (0, "")


# React.


@pytest.fixture(scope="module")
def page(project: Path) -> Path:
    """The folder that Vite has built of the component."""
    folder = project / "react"
    folder.mkdir()
    write(
        folder,
        block("docs/react.md", "// PhotoInput.tsx", "tsx"),
        block("docs/react.md", "// App.tsx", "tsx"),
    )
    script = '<div id="root"></div><script type="module" src="./App.tsx"></script>'
    (folder / "index.html").write_text(f"<!doctype html><title>React</title>{script}")
    checked = npm.run(project, "tsc", *STRICTLY, *BUNDLER, *DOM, "react/App.tsx")
    assert (checked.returncode, checked.stdout) == (0, "")
    built = npm.run(project, "vite", "build", "react")
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "dist"


def serve(asset: Path, route: Route) -> None:
    route.fulfill(path=asset, content_type="text/javascript")


@pytest.fixture
def alice(visit: Callable[..., Visitor], page: Path) -> Visitor:
    """Alice at the built page, which Django's host would serve."""
    alice = visit()
    for asset in (page / "assets").glob("*.js"):
        alice.page.route(f"**/assets/{asset.name}", partial(serve, asset))
    alice.page.goto(f"{alice.site.url}/api/uploads/")
    alice.page.set_content((page / "index.html").read_text())
    return alice


def test_the_react_component_uploads_and_says_what_is_wrong(alice: Visitor) -> None:
    chosen = alice.page.get_by_label("Your photo")
    status = alice.page.get_by_role("status")
    chosen.set_input_files(alice.make_photo("beach.jpg"))
    expect(status).to_have_text("beach.jpg is uploaded.")
    assert alice.row().status == "completed"

    chosen.set_input_files(FilePayload(name="page.html", mimeType="text/html", buffer=b"<p>"))
    expect(status).to_contain_text("cannot be added")
    expect(chosen).to_be_enabled()


def test_the_react_component_cancels(alice: Visitor) -> None:
    put = alice.site.s3.hold("PUT", after=1024**2)
    alice.page.get_by_label("Your photo").set_input_files(
        alice.make_photo("film.jpg", more=4 * 1024**2)
    )
    assert put.held.wait(60)
    expect(alice.page.get_by_role("progressbar")).to_be_visible()

    with alice.page.expect_response(lambda answer: answer.request.method == "DELETE"):
        alice.page.get_by_role("button", name="Cancel").click()

    put.released.set()
    expect(alice.page.get_by_role("status")).to_have_text("Cancelled.")
    assert alice.row().status == "cancelled"


# Shells.


def test_curl(site: Site, tmp_path: Path) -> None:
    code = block("docs/http.md", 'cd "$(mktemp -d)"', "sh")
    assert "http://127.0.0.1:8000/" in code
    code = code.replace("http://127.0.0.1:8000/", f"{site.url}/")
    code = code.replace("'demo:demo'", f"'demo:{PASSWORD}'")
    done = subprocess.run(
        ["bash", "-ec", code],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    confirmed, url = done.stdout.replace("}{", "}\n{").splitlines()
    assert json.loads(confirmed)["status"] == "completed"
    assert "X-Amz-Signature" in json.loads(url)["url"]
    [row] = site.rows("demo")
    assert (row.filename, site.read(row)) == ("hello.png", b"hello")


def test_the_commands_that_generate_clients(project: Path, tmp_path: Path) -> None:
    """tests/real/test_generators.py uses what they make."""
    shutil.copy(ROOT / "docs" / "openapi.yaml", tmp_path)
    code = block(
        "docs/mobile.md",
        "openapi-generator-cli generate -g kotlin -i openapi.yaml -o kotlin "
        "--additional-properties enumUnknownDefaultCase=true",
        "sh",
    )
    jar = files("openapi_generator_cli") / "openapi-generator.jar"
    for words in commands(code):
        assert words[0] == "openapi-generator-cli"
        command = [os.environ["JAVA"], "-XX:TieredStopAtLevel=1", "-jar", str(jar), *words[1:]]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    assert list((tmp_path / "kotlin").rglob("*.kt"))
    assert list((tmp_path / "swift").rglob("*.swift"))

    code = block("docs/mobile.md", "npx openapi-typescript openapi.yaml --output schema.d.ts", "sh")
    npm.install(tmp_path, "openapi-typescript@7.13.0", npm.TYPESCRIPT)
    done = npm.run(tmp_path, "bash", "-ec", code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "export interface paths" in (tmp_path / "schema.d.ts").read_text()
