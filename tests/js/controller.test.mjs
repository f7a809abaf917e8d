/** An UploadController pauses uploads whose promise somebody else has, such as that of an async function. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {UploadController} from "../../s3direct_uploads/static/s3direct_uploads/upload.js";
import {World, file, held} from "./world.mjs";

/** Long enough for whatever is under way to come to a rest. */
async function rest() {
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
}

/** The promise of an async function has no pause(). */
async function uploadLater(world, signal) {
  await rest();
  return world.upload(file(5), {signal});
}

test("it pauses and resumes all uploads that have its signal", async () => {
  const world = new World();
  world.next("PUT u1", held());
  world.next("PUT u2", held());
  const controller = new UploadController();
  const uploading = [uploadLater(world, controller.signal), uploadLater(world, controller.signal)];
  await world.until(() => world.underway === 2);

  controller.pause();
  await rest();

  assert.equal(controller.isPaused, true);
  assert.deepEqual(world.said("PUT"), ["PUT u1 5 bytes → aborted", "PUT u2 5 bytes → aborted"]);
  controller.resume();
  assert.equal(controller.isPaused, false);
  const completed = await Promise.all(uploading);
  assert.deepEqual(completed.map(({status}) => status), ["completed", "completed"]);
});

test("paused before an upload begins, nothing is sent until it is resumed", async () => {
  const world = new World();
  const controller = new UploadController();
  controller.pause();
  const uploading = uploadLater(world, controller.signal);
  await world.until(() => world.transcript.length === 1);
  await rest();

  assert.deepEqual(world.transcript, ["POST / → 201"]);

  controller.resume();
  assert.equal((await uploading).status, "completed");
});

test("the promise's own pause() pauses this upload alone", async () => {
  const world = new World();
  const controller = new UploadController();
  const paused = world.upload(file(5), {signal: controller.signal});
  paused.pause();
  const other = world.upload(file(5), {signal: controller.signal});

  assert.equal((await other).status, "completed");
  assert.equal(controller.isPaused, false);
  await rest();
  assert.equal(world.said("PUT").length, 1);
  paused.resume();
  assert.equal((await paused).status, "completed");
});

test("a resume without a pause changes nothing: a later pause stops what is under way", async () => {
  const world = new World();
  world.next("PUT u1", held());
  const controller = new UploadController();
  const uploading = world.upload(file(5), {signal: controller.signal});
  await world.until(() => world.underway === 1);

  controller.resume();
  controller.pause();
  await rest();

  assert.equal(world.underway, 0);
  controller.resume();
  assert.equal((await uploading).status, "completed");
});

test("it aborts like any AbortController, also while it is paused", async () => {
  const world = new World();
  const controller = new UploadController();
  controller.pause();
  const uploading = world.upload(file(5), {signal: controller.signal});
  await world.until(() => world.transcript.length === 1);

  controller.abort();

  await assert.rejects(uploading, {name: "AbortError"});
  assert.deepEqual(world.said("PUT"), []);
  assert.equal(world.uploads.get("u1").status, "cancelled");
});
