/** Confirm: asked again while nothing is decided, and never after it is. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {World, answerLost, file, refused} from "./world.mjs";

test("while it is verified it is asked again, later and later", async () => {
  const world = new World();
  world.verifying = 7;

  const completed = await world.upload(file(5));

  assert.equal(completed.status, "completed");
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
