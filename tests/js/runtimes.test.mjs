/** Other runtimes than browsers and Node.js: React Native, and a service worker, which has no XMLHttpRequest. */
import assert from "node:assert/strict";
import {test} from "node:test";
import {uploadAll} from "../../s3direct_uploads/static/s3direct_uploads/all.js";
import {explain} from "../../s3direct_uploads/static/s3direct_uploads/texts.js";
import {upload, UploadController} from "../../s3direct_uploads/static/s3direct_uploads/upload.js";
import {PART_SIZE, World, held, lost, refused} from "./world.mjs";
import "./react_native.mjs"; // after the imports are loaded: Node.js needs what it takes away

const times = (count, each) => Array.from({length: count}, () => each);

/** A file as a picker of React Native describes it, and the one line that upload() needs besides. */
const picked = (size, name = "beach.png") => ({
  uri: `file:///cache/${name}`,
  name,
  size,
  type: "image/png",
  slice() {
    return this;
  },
});

/** A file that can be sent in parts: each is its place in the file. */
const inParts = (size, start = 0) => ({
  ...picked(size),
  start,
  slice: (from = 0, to = size) => inParts(Math.min(to, size) - from, start + from),
});

/** The app's own module, which reads and sends a file by its URI. */
function native(world, sent = []) {
  return async (request, body, signal, progress) => {
    const {uri, start = 0, size} = body;
    assert.equal(request.method, "PUT");
    sent.push(`${uri} from ${start}, ${size} bytes`);
    const read = {size, arrayBuffer: async () => new Uint8Array(size).fill(1 + start / PART_SIZE).buffer};
    const answer = await world.put(request, read, signal, progress);
    if (!answer.status) throw new Error("The request timed out.");
    return answer;
  };
}

const send = (world, file, options = {}) => world.upload(file, {send: native(world), ...options});

test("React Native: a file of a picker, by the app's own module", async () => {
  const world = new World();
  const sent = [];
  const seen = [];

  const options = {multipart: false, send: native(world, sent), onProgress: ({loaded, phase}) => seen.push([phase, loaded])};
  const completed = await send(world, picked(5), options);

  assert.equal(completed.status, "completed");
  assert.deepEqual(world.transcript, ["POST / → 201", "PUT u1 5 bytes → 200", "POST u1/confirm/ → 200"]);
  assert.deepEqual(sent, ["file:///cache/beach.png from 0, 5 bytes"]);
  assert.deepEqual(world.requests[1].headers, {"Content-Type": "image/png", "If-None-Match": "*"});
  assert.deepEqual(seen.filter(([phase], index) => seen[index - 1]?.[0] !== phase), [["begin", 0], ["send", 0], ["confirm", 5]]);
  assert.match(world.requests[0].headers["idempotency-key"], /^[0-9a-f]{32}$/);
});

test("React Native: in parts, of which one breaks off", async () => {
  const world = new World();
  const sent = [];
  world.next("PUT u1 part 2", lost);

  await send(world, inParts(2 * PART_SIZE + 1), {parallel: 1, send: native(world, sent)});

  const each = [[0, PART_SIZE], [PART_SIZE, PART_SIZE], [PART_SIZE, PART_SIZE], [2 * PART_SIZE, 1]];
  assert.deepEqual(sent, each.map(([start, size]) => `file:///cache/beach.png from ${start}, ${size} bytes`));
  const object = world.objects.get("u1");
  assert.deepEqual([object.length, object[0], object[PART_SIZE], object.at(-1)], [2 * PART_SIZE + 1, 1, 2, 3]);
});

test("React Native: two uploads have two keys", async () => {
  const world = new World();
  await send(world, picked(5));
  await send(world, picked(5));
  assert.equal(new Set(world.keys.keys()).size, 2);
});

test("React Native: paused, resumed and aborted", async () => {
  const world = new World();
  const controller = new UploadController();
  world.next("PUT u1", ...times(2, held()));
  const uploading = send(world, picked(5), {signal: controller.signal});

  await world.until(() => world.underway === 1);
  controller.pause();
  await world.until(() => world.underway === 0);
  controller.resume();
  await world.until(() => world.underway === 1);
  controller.abort();

  await assert.rejects(uploading, {name: "AbortError"});
  await world.until(() => world.said("DELETE").length);
  assert.deepEqual(world.transcript, ["POST / → 201", ...times(2, "PUT u1 5 bytes → aborted"), "DELETE u1/ → 204"]);
});

test("React Native: aborted while it is paused, and while it waits for the network", async () => {
  for (const isPaused of [true, false]) {
    const world = new World();
    const controller = new UploadController();
    if (isPaused) controller.pause();
    else world.away(["S3"], 1_000);
    const uploading = send(world, picked(5), {signal: controller.signal});

    await world.until(() => world.said(isPaused ? "POST /" : "HEAD").length);
    controller.abort();

    await assert.rejects(uploading, {name: "AbortError"});
  }
});

test("React Native: an outage is outlasted", async () => {
  const world = new World();
  await send(world, picked(5)); // S3 has answered once
  world.away(["S3"], 120);

  assert.equal((await send(world, picked(5))).status, "completed");
  assert.ok(world.said("HEAD").length > 3);
});

test("React Native: several files, and what a person reads of an error", async () => {
  const world = new World();
  const allowed = {errors: [{field: "content_type", code: "not_allowed", params: {content_types: ["image/png", "image/gif"]}}]};
  world.nextInBatch("begin notes.txt", refused(400, {code: "invalid", detail: "No.", ...allowed}));
  const options = {...world.reached, send: native(world), endpoint: "/api/uploads/", destination: "photos", atOnce: 1};

  const [first, second] = await uploadAll([picked(5, "notes.txt"), picked(5)], options);

  assert.equal(second.upload.status, "completed");
  assert.equal(explain(first.error, {filename: "notes.txt", size: 5}, "en"), "TXT files cannot be added. Choose a PNG, GIF photo.");
});

// What send may do

test("a send that rejects each time is given up, and its error is told", async () => {
  const world = new World();
  const cause = new TypeError("undefined is not a function");
  const asked = [];
  const broken = async (request) => {
    asked.push(request.url);
    throw cause;
  };

  await assert.rejects(send(world, picked(5), {send: broken}), {code: "network_error", step: "send", cause});

  assert.equal(asked.length, 5);
});

test("a send that throws at once does the same as one that rejects", async () => {
  const world = new World();
  const cause = new TypeError("undefined is not a function");
  const broken = () => {
    throw cause;
  };
  await assert.rejects(send(world, picked(5), {send: broken}), {code: "network_error", cause});
});

test("a send that cannot read the file ends the upload, and is not called again", async () => {
  const world = new World();
  const gone = Object.assign(new Error("ENOENT"), {name: "NotReadableError"});
  const send = async () => {
    throw gone;
  };
  await assert.rejects(world.upload(picked(5), {send}), {code: "file_unreadable", step: "send", cause: gone});
});

test("a send that tells no text of S3's answer", async () => {
  const world = new World();
  const send = async () => ({status: 400});
  await assert.rejects(world.upload(picked(5), {send}), {code: "unexpected_answer", status: 400});
});

// What is not supported is said before anything is begun

const unsupported = (what) => (error) => {
  assert.deepEqual([error.name, error.code, error.step, error.status], ["UploadError", "not_supported", "begin", 0]);
  assert.ok(error.message.startsWith(what), error.message);
  assert.ok(error.message.includes("docs/clients.md"));
  return true;
};

test("without XMLHttpRequest, as in a service worker, only the app's own send can send", async () => {
  const world = new World();
  const {fetch, clock} = world.reached;
  const options = {endpoint: "/api/uploads/", destination: "photos", fetch, clock};

  await assert.rejects(upload(picked(5), options), unsupported("There is no XMLHttpRequest here, as in a service worker."));

  assert.deepEqual(world.transcript, []);
});

test("a file that cannot be sliced", async () => {
  const world = new World();
  const {uri, name, size, type} = picked(5);
  await assert.rejects(send(world, {uri, name, size, type}), unsupported("This file has no slice()."));
  assert.deepEqual(world.transcript, []);
});

test("a checksum of a file that cannot be read; but a value that the app computed is sent", async () => {
  const world = new World();
  for (const checksum of ["CRC32", "SHA256"]) {
    await assert.rejects(send(world, picked(5), {checksum}), unsupported("No checksum can be computed here."));
  }
  assert.deepEqual(world.transcript, []);

  const checksum = {algorithm: "SHA256", value: "YQ=="};
  await send(world, picked(5), {checksum});
  assert.deepEqual(world.requests[0].body.checksum, checksum);
});
