/** Confirm: asked again while nothing is decided, and never after it is. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {World, answerLost, file, refused} from "./world.mjs";

test("where a scan holds it, that is the answer", async () => {
  const world = new World();
  world.verifying = 1;
  const phases = [];

  const held = await world.upload(file(5), {onProgress: ({phase, loaded}) => phases.push(`${phase} ${loaded}`)});

  assert.equal(held.status, "verifying");
  assert.deepEqual(world.said("POST u1"), ["POST u1/confirm/ → 202"]);
  assert.deepEqual(phases.slice(-1), ["verifying 5"]);
});

test("where it was held before, nothing is sent again", async () => {
  const world = new World();
  const idempotencyKey = "once";
  world.verifying = 2;
  await world.upload(file(5), {idempotencyKey});
  const upload = {...world.uploads.get("u1"), status: "verifying", request: null, multipart: null};
  world.next("POST /", refused(201, upload));

  const held = await world.upload(file(5), {idempotencyKey});

  assert.equal(held.status, "verifying");
  assert.equal(world.said("PUT").length, 1);
});

test("what a scan rejects is an error, with the reason", async () => {
  const world = new World();
  world.verifying = 2;
  const upload = {id: "u1", status: "rejected", reason: "Eicar was found."};
  const rejected = refused(422, {code: "object_mismatch", detail: "Eicar was found.", upload});
  const asItIs = (_world, _signal, answer) => answer();
  world.next("POST u1/confirm/", asItIs, asItIs, rejected);

  const uploading = world.upload(file(5), {waitForScan: true});

  await assert.rejects(uploading, {code: "object_mismatch", message: "Eicar was found.", upload});
  assert.deepEqual(world.transcript.slice(2), [
    "POST u1/confirm/ → 202",
    "2 s pass",
    "POST u1/confirm/ → 202",
    "3 s pass",
    "POST u1/confirm/ → 422 object_mismatch",
  ]);
});

test("aborted while it waits for the scan, it is cancelled at Django", async () => {
  const world = new World();
  world.verifying = 100;
  const controller = new AbortController();
  const onProgress = ({phase}) => phase === "verifying" && controller.abort();

  await assert.rejects(world.upload(file(5), {waitForScan: true, signal: controller.signal, onProgress}), {
    name: "AbortError",
  });

  await world.until(() => world.said("DELETE").length === 1);
  assert.equal(world.said("POST u1/confirm/").length, 1);
});

test("who waits for the scan asks again, later and later", async () => {
  const world = new World();
  world.verifying = 7;
  const phases = [];
  const onProgress = ({phase}) => phases.includes(phase) || phases.push(phase);

  const completed = await world.upload(file(5), {waitForScan: true, onProgress});

  assert.equal(completed.status, "completed");
  assert.deepEqual(phases, ["begin", "send", "confirm", "verifying"]);
  assert.deepEqual(world.transcript.slice(2), [
    "POST u1/confirm/ → 202",
    "2 s pass",
    "POST u1/confirm/ → 202",
    "3 s pass",
    "POST u1/confirm/ → 202",
    "5 s pass",
    "POST u1/confirm/ → 202",
    "9 s pass",
    "POST u1/confirm/ → 202",
    "17 s pass",
    "POST u1/confirm/ → 202",
    "31 s pass",
    "POST u1/confirm/ → 202",
    "31 s pass",
    "POST u1/confirm/ → 200",
  ]);
});

test("while a scan holds it, its progress says so", async () => {
  const world = new World();
  world.verifying = 1;
  const phases = [];

  await world.upload(file(5), {onProgress: ({phase, loaded}) => phases.push(`${phase} ${loaded}`)});

  assert.deepEqual([...new Set(phases)].slice(-2), ["confirm 5", "verifying 5"]);
});

test("a status that it does not know is not final", async () => {
  const world = new World();
  world.next("POST u1/confirm/", refused(200, {id: "u1", status: "scanning"}));

  const completed = await world.upload(file(5));

  assert.equal(completed.status, "completed");
});

test("a confirm whose answer was lost is asked again", async () => {
  const world = new World();
  world.next("POST u1/confirm/", answerLost);

  await world.upload(file(5));

  assert.deepEqual(world.said("POST u1/confirm/"), ["POST u1/confirm/ → no answer", "POST u1/confirm/ → 200"]);
});

test("while the storage is away Django is asked again when it says so", async () => {
  const world = new World();
  world.next("POST u1/confirm/", refused(503, {code: "bucket_unavailable", detail: "Later.", retry_after: 30}));

  await world.upload(file(5));

  assert.deepEqual(world.transcript.slice(2, 4), ["POST u1/confirm/ → 503 bucket_unavailable", "31 s pass"]);
});

for (const [status, code] of [[409, "object_missing"], [410, "not_pending"], [422, "object_mismatch"]]) {
  test(`${status} ${code} is the end, and tells of the upload`, async () => {
    const world = new World();
    const upload = {id: "u1", status: "rejected", reason: code};
    world.next("POST u1/confirm/", refused(status, {code, detail: "No.", upload}));

    await assert.rejects(world.upload(file(5)), {step: "confirm", code, status, upload});

    assert.equal(world.said("POST u1/confirm/").length, 1);
  });
}
