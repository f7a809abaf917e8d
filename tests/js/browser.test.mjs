/** How a browser sends: by fetch, and by XMLHttpRequest; and what a page imports. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {after, afterEach, beforeEach, test} from "node:test";
import {pathToFileURL} from "node:url";
import {upload} from "../../s3direct_uploads/static/s3direct_uploads/upload.js";
import {World, file, held, lost, refusedByS3} from "./world.mjs";

const SOURCES = new URL("../../s3direct_uploads/static/s3direct_uploads/", import.meta.url);

let world;

/** What a page has of it: events, no reasons. */
class XMLHttpRequest {
  upload = {};
  headers = {};
  status = 0;
  responseText = "";
  controller = new AbortController();

  open(method, url) {
    Object.assign(this, {method, url});
  }

  setRequestHeader(name, value) {
    this.headers[name] = value;
  }

  abort() {
    this.controller.abort();
  }

  async send(body) {
    const {method, url, headers, controller} = this;
    const tell = (loaded) => this.upload.onprogress({loaded});
    const {status, text} = await world.put({method, url, headers}, body, controller.signal, tell);
    Object.assign(this, {status, responseText: text});
    this.onloadend();
  }
}

beforeEach(() => {
  world = new World();
  world.readsLate = true;
  globalThis.fetch = world.fetch.bind(world);
  globalThis.XMLHttpRequest = XMLHttpRequest;
});

const send = (chosen, options) =>
  upload(chosen, {endpoint: "/api/uploads", destination: "photos", clock: world.clock, ...options});

test("a file is sent with the headers that are signed, and nothing else", async () => {
  const beach = file(5);
  const seen = [];

  const completed = await send(beach, {onProgress: ({loaded}) => seen.push(loaded)});

  assert.equal(completed.status, "completed");
  assert.deepEqual(world.transcript, ["POST / → 201", "PUT u1 5 bytes → 200", "POST u1/confirm/ → 200"]);
  assert.deepEqual(world.requests[1].headers, {"Content-Type": "image/png", "If-None-Match": "*"});
  assert.deepEqual(world.objects.get("u1"), beach.bytes);
  assert.deepEqual([...new Set(seen)], [0, 2, 5]);
});

test("what S3 says is told", async () => {
  world.next("PUT u1", refusedByS3(400, "EntityTooLarge"));

  await assert.rejects(send(file(5)), {code: "EntityTooLarge", message: "The storage answered 400 EntityTooLarge."});
});

test("a connection that breaks off is told from a file that changed", async () => {
  const beach = file(5);
  world.next("PUT u1", lost);
  assert.equal((await send(beach)).status, "completed");

  world.next("PUT u2", (_world, _signal, answer) => (beach.change(), answer()));
  await assert.rejects(send(beach), {code: "file_unreadable"});
});

test("paused, the request is aborted", async () => {
  world.next("PUT u1", held());
  const uploading = send(file(5));
  await world.until(() => world.underway === 1);

  uploading.pause();
  await world.until(() => world.underway === 0);
  uploading.resume();

  assert.equal((await uploading).status, "completed");
  assert.deepEqual(world.said("PUT"), ["PUT u1 5 bytes → aborted", "PUT u1 5 bytes → 200"]);
});

// Workers

/** What becomes of those that a page starts. */
const WORKERS = {
  "computes it": () => ({type: "message", data: {algorithm: "CRC32", value: "from the worker"}}),
  "cannot read the file": () => ({type: "message", data: null}),
  "is not found": () => ({type: "error"}),
  "gets no file": () => ({type: "messageerror"}),
  "is another module, which says nothing": () => null,
};

function workersThat(becomes) {
  const terminated = [];
  globalThis.Worker = class {
    terminate = () => terminated.push(this);

    postMessage() {
      const event = WORKERS[becomes]();
      if (!event) return;
      setImmediate(() => {
        if (event.type === "message") this.onmessage({type: "message", data: "ready"});
        this[`on${event.type}`](event);
      });
    }
  };
  return terminated;
}

afterEach(() => delete globalThis.Worker);

for (const becomes of Object.keys(WORKERS)) {
  test(`a worker ${becomes}`, async (t) => {
    t.mock.timers.enable({apis: ["setTimeout"]});
    const seconds = setInterval(() => t.mock.timers.tick(1_000), 1); // ten of them pass soon
    t.after(() => clearInterval(seconds));
    const terminated = workersThat(becomes);

    await send(file(0), {checksum: "CRC32"});

    const expected = becomes === "computes it" ? "from the worker" : "AAAAAA==";
    assert.equal(world.requests[0].body.checksum.value, expected, "else the page computes it");
    assert.equal(terminated.length, 1);
  });
}

test("where the browser starts none, for upload.js came from another host, the page computes it", async () => {
  globalThis.Worker = class {
    constructor() {
      throw new DOMException("Not from there.", "SecurityError");
    }
  };

  await send(file(0), {checksum: "CRC32"});

  assert.equal(world.requests[0].body.checksum.value, "AAAAAA==");
});

test("aborted while a worker computes, it is terminated, and nothing is begun", async () => {
  const terminated = workersThat("computes it");
  const controller = new AbortController();
  globalThis.Worker.prototype.postMessage = () => controller.abort();

  await assert.rejects(send(file(5), {checksum: "CRC32", signal: controller.signal}), {name: "AbortError"});

  assert.equal(terminated.length, 1);
  assert.deepEqual(world.transcript, []);
});

// Modules

const folder = mkdtempSync(join(tmpdir(), "s3direct-"));
after(() => rmSync(folder, {recursive: true}));

/** upload() of a folder that has only these modules. */
async function uploadWith(...names) {
  const beside = mkdtempSync(join(folder, "of-"));
  writeFileSync(join(beside, "package.json"), '{"type": "module"}');
  for (const name of names) copyFileSync(new URL(name, SOURCES), join(beside, name));
  return (await import(pathToFileURL(join(beside, "upload.js")))).upload;
}

test("a module that is not beside upload.js is told", async () => {
  const upload = await uploadWith("upload.js", "network.js");
  const options = {endpoint: "/api/uploads/", destination: "photos"};
  const told = (step, name) => (error) => {
    assert.deepEqual([error.name, error.code, error.step], ["UploadError", "module_not_loaded", step]);
    assert.match(error.message, new RegExp(`^${name} could not be loaded from the folder of upload.js.`));
    return true;
  };

  await assert.rejects((await uploadWith("upload.js"))(file(5), options), told("begin", "network.js"));
  await assert.rejects(upload(file(5), {...options, checksum: "CRC32"}), told("begin", "checksum.js"));
  assert.deepEqual(world.transcript, [], "no upload is begun");

  delete globalThis.XMLHttpRequest; // Node.js
  await assert.rejects(upload(file(5), options), told("begin", "node.js"));
  assert.deepEqual(world.transcript, [], "nor one that could not be sent");
});

test("a page imports nothing but upload.js and network.js until it asks for a checksum", () => {
  const onTop = ["all.js", "batches.js", "element.js", "files.js", "row.js", "texts.js", "uppy.js"];
  const imports = readdirSync(SOURCES)
    .filter((name) => name.endsWith(".js") && !onTop.includes(name))
    .flatMap((name) => {
      const code = readFileSync(new URL(name, SOURCES), "utf8").replace(/\/\*[^]*?\*\//g, "");
      return [...code.matchAll(/\bimport\b(?!\.meta)[^\n]*/g)].map(([line]) => `${name}: ${line}`);
    });

  // The forms that Django's ManifestStaticFilesStorage rewrites, and bundlers find.
  assert.deepEqual(imports.map((line) => line.match(/^.*?import\(".*?"\)/)?.[0]), [
    'upload.js: import("./network.js")',
    'upload.js: import("./node.js")',
    'upload.js: import("./checksum.js")',
  ]);
});

test("of another origin's Django that gives no answer it is said that its CORS settings may be the cause", async () => {
  const unreached = {step: "begin", code: "network_error", status: 0};
  const said = "The server could not be reached. Either the network failed, or the API's CORS settings do not allow " +
    "this page. The browser's console says which.";
  globalThis.location = new URL("https://app.example.com/new/");
  try {
    for (const [endpoint, message] of [
      ["https://api.example.com/uploads/", said],
      ["http://app.example.com/uploads/", said],
      ["https://app.example.com/uploads/", "The server could not be reached."],
      ["/uploads/", "The server could not be reached."],
    ]) {
      const world = new World();
      const fetch = async () => Promise.reject(new TypeError("Failed to fetch"));
      await assert.rejects(world.upload(file(5), {endpoint, fetch}), {...unreached, message});
    }
  } finally {
    delete globalThis.location;
  }
});
