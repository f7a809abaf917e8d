/** Pausing and aborting: nothing is sent any more; what is aborted is cancelled at Django as well. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {PART_SIZE, World, file, held, lost, refusedByS3} from "./world.mjs";

const ABORTED = {name: "AbortError"};

/** Long enough for whatever is under way to come to a rest. */
async function rest() {
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
}

test("paused, what is under way is stopped; resumed, it is sent, and no attempt is counted", async () => {
  const world = new World();
  world.next("PUT u1", held(), held(), held(), held(), held(), held());
  const uploading = world.upload(file(5));
  for (let times = 0; times < 6; times++) {
    await world.until(() => world.underway === 1);
    uploading.pause();
    await rest();
    assert.equal(world.underway, 0);
    uploading.resume();
  }

  const completed = await uploading;

  assert.equal(completed.status, "completed");
  const stopped = Array.from({length: 6}, () => "PUT u1 5 bytes → aborted");
  assert.deepEqual(world.transcript, ["POST / → 201", ...stopped, "PUT u1 5 bytes → 200", "POST u1/confirm/ → 200"]);
});

test("paused, the parts under way are stopped, and no other is begun", async () => {
  const world = new World();
  world.partSize = 1;
  world.next("PUT u1", ...Array.from({length: 4}, held));
  const uploading = world.upload(file(9));
  await world.until(() => world.underway === 4);

  uploading.pause();
  await rest();

  assert.equal(world.said("PUT").length, 4);
  assert.equal(world.underway, 0);
  uploading.resume();
  assert.equal((await uploading).status, "completed");
});

test("paused while Django is asked, nothing is sent until it is resumed", async () => {
  const world = new World();
  const begin = held();
  world.next("POST /", begin);
  const uploading = world.upload(file(5));
  uploading.pause();

  begin.release();
  await rest();
  assert.deepEqual(world.transcript, ["POST / → 201"]);

  uploading.resume();
  assert.equal((await uploading).status, "completed");
});

test("paused while a URL is signed anew, nothing is sent until it is resumed", async () => {
  const world = new World();
  const renewal = held();
  world.next("PUT u1", refusedByS3(403, "AccessDenied"));
  world.next("POST u1/renew/", renewal);
  const uploading = world.upload(file(5));
  await world.until(() => world.said("PUT").length === 1);
  await rest();

  uploading.pause();
  renewal.release();
  await rest();
  assert.deepEqual(world.transcript.slice(1), ["PUT u1 5 bytes → 403 AccessDenied", "POST u1/renew/ → 200"]);

  uploading.resume();
  assert.equal((await uploading).status, "completed");
  assert.equal(world.said("POST u1/renew/").length, 1);
});

test("the time of a pause does not count for the speed", async () => {
  const world = new World();
  const seen = [];
  world.partSize = 100;
  world.next("PUT u1 part 2", held());
  const uploading = world.upload(file(200), {parallel: 1, onProgress: (progress) => seen.push(progress)});
  await world.until(() => world.said("PUT").length === 1 && world.underway === 1);

  uploading.pause();
  await rest();
  world.clock.pass(4);
  seen.length = 0;
  uploading.resume();
  await uploading;

  assert.ok(seen.every(({bytesPerSecond}) => bytesPerSecond === 0), "all of it left in one moment");
});

test("aborted while it is sent, it is cancelled at Django", async () => {
  const world = new World();
  world.next("PUT u1", held());
  const controller = new AbortController();
  const uploading = world.upload(file(5), {signal: controller.signal});
  await world.until(() => world.underway === 1);

  controller.abort();

  await assert.rejects(uploading, ABORTED);
  await rest();
  assert.deepEqual(world.transcript.sort(), ["DELETE u1/ → 204", "POST / → 201", "PUT u1 5 bytes → aborted"]);
  assert.equal(world.uploads.get("u1").status, "cancelled");
});

test("aborted while parts are sent, all of them are stopped", async () => {
  const world = new World();
  world.partSize = 1;
  world.next("PUT u1", ...Array.from({length: 4}, held));
  const controller = new AbortController();
  const uploading = world.upload(file(9), {signal: controller.signal});
  await world.until(() => world.underway === 4);

  controller.abort();

  await assert.rejects(uploading, ABORTED);
  await rest();
  assert.equal(world.said("PUT").filter((line) => line.endsWith("aborted")).length, 4);
  assert.equal(world.said("PUT").length, 4);
  assert.equal(world.uploads.get("u1").status, "cancelled");
});

test("aborted before it begins, nothing is asked", async () => {
  const world = new World();
  const controller = new AbortController();
  controller.abort();

  await assert.rejects(world.upload(file(5), {signal: controller.signal}), ABORTED);

  assert.deepEqual(world.transcript, []);
});

test("aborted in the moment in which sending begins, no part is sent", async () => {
  const world = new World();
  world.partSize = 1;
  const controller = new AbortController();
  const onProgress = ({phase}) => phase === "send" && controller.abort();

  await assert.rejects(world.upload(file(9), {signal: controller.signal, onProgress}), ABORTED);

  await rest();
  assert.deepEqual(world.said("PUT"), []);
});

test("aborted while it is begun, it is not sent", async () => {
  const world = new World();
  world.next("POST /", held());
  const controller = new AbortController();
  const uploading = world.upload(file(5), {signal: controller.signal});
  await rest();

  controller.abort();

  await assert.rejects(uploading, ABORTED);
  assert.deepEqual(world.transcript, ["POST / → aborted"]);
});

test("aborted while it waits for another attempt, it ends at once", async () => {
  const world = new World();
  world.next("PUT u1", lost);
  const controller = new AbortController();
  world.clock.setTimeout = () => setImmediate(() => controller.abort());

  await assert.rejects(world.upload(file(5), {signal: controller.signal}), ABORTED);

  assert.deepEqual(world.said("PUT"), ["PUT u1 5 bytes → no answer"]);
});

test("aborted while it is paused, it ends", async () => {
  const world = new World();
  const controller = new AbortController();
  world.next("PUT u1", held());
  const uploading = world.upload(file(5), {signal: controller.signal});
  await world.until(() => world.underway === 1);
  uploading.pause();
  await rest();

  controller.abort();

  await assert.rejects(uploading, ABORTED);
});

test("the caller's reason is what it rejects with, where the browser has it", async () => {
  const world = new World();
  const reason = new Error("changed my mind");
  const signal = Object.assign(new EventTarget(), {aborted: true, reason});

  await assert.rejects(world.upload(file(5), {signal}), reason);
});

test("aborted, it does not matter whether Django hears of it", async () => {
  const world = new World();
  world.next("PUT u1", held());
  world.next("DELETE", lost);
  const controller = new AbortController();
  const uploading = world.upload(file(PART_SIZE - 1), {signal: controller.signal});
  await world.until(() => world.underway === 1);

  controller.abort();

  await assert.rejects(uploading, ABORTED);
});
