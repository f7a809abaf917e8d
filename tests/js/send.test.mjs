/** A file in one PUT: what is repeated, signed anew, confirmed, and given up. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {World, answerLost, file, lost, refused, refusedByS3, slow} from "./world.mjs";

test("a PUT that breaks off is repeated, later and later", async () => {
  const world = new World();
  world.next("PUT u1", lost, refusedByS3(503, "SlowDown"), refusedByS3(500, "InternalError"));

  await world.upload(file(5));

  assert.deepEqual(world.transcript, [
    "POST / → 201",
    "PUT u1 5 bytes → no answer",
    "HEAD S3 → 403", // it is there
    "1 s pass",
    "POST u1/renew/ → 200", // S3 may have refused the URL without saying so to a page
    "PUT u1 5 bytes → 503 SlowDown",
    "2 s pass",
    "PUT u1 5 bytes → 500 InternalError",
    "4 s pass",
    "PUT u1 5 bytes → 200",
    "POST u1/confirm/ → 200",
  ]);
});

test("a storage that never answered this page has five attempts: the bucket may not allow the page", async () => {
  const world = new World();
  world.next("PUT u1", lost, lost, lost, lost, lost);

  await assert.rejects(world.upload(file(5)), ({name, step, code, status, message, upload}) => {
    assert.deepEqual([name, step, code, status], ["UploadError", "send", "network_error", 0]);
    assert.match(message, /CORS/);
    assert.equal(upload.id, "u1");
    return true;
  });

  assert.equal(world.said("PUT u1").length, 5);
  assert.equal(world.uploads.get("u1").status, "pending");
});

test("a 412 means that it is there: the answer to the PUT before was lost", async () => {
  const world = new World();
  world.next("PUT u1", answerLost);

  const completed = await world.upload(file(5));

  assert.deepEqual(world.said("PUT u1"), ["PUT u1 5 bytes → no answer", "PUT u1 5 bytes → 412 PreconditionFailed"]);
  assert.equal(completed.status, "completed");
});

test("a URL that has expired is signed anew, without a delay", async () => {
  const world = new World();
  world.next("POST /", async (_world, _signal, answer) => {
    const given = answer();
    world.clock.pass(3_600); // a laptop was shut
    return given;
  });

  await world.upload(file(5));

  assert.deepEqual(world.transcript, [
    "POST / → 201",
    "PUT u1 5 bytes → 403 AccessDenied",
    "POST u1/renew/ → 200",
    "PUT u1 5 bytes → 200",
    "POST u1/confirm/ → 200",
  ]);
});

test("a URL that was signed just now and is refused is not signed again", async () => {
  const world = new World();
  world.next("PUT u1", refusedByS3(403, "SignatureDoesNotMatch"), refusedByS3(403, "SignatureDoesNotMatch"));

  await assert.rejects(world.upload(file(5)), {step: "send", code: "SignatureDoesNotMatch", status: 403});

  assert.deepEqual(world.transcript, [
    "POST / → 201",
    "PUT u1 5 bytes → 403 SignatureDoesNotMatch",
    "POST u1/renew/ → 200",
    "PUT u1 5 bytes → 403 SignatureDoesNotMatch",
  ]);
});

for (const [status, code] of [[400, "BadDigest"], [404, "NoSuchBucket"], [501, "NotImplemented"]]) {
  test(`S3's ${status} ${code} does not pass, and is not repeated`, async () => {
    const world = new World();
    world.next("PUT u1", refusedByS3(status, code));

    await assert.rejects(world.upload(file(5)), {step: "send", code, status});

    assert.deepEqual(world.transcript, ["POST / → 201", `PUT u1 5 bytes → ${status} ${code}`]);
  });
}

for (const [status, code] of [[400, "RequestTimeout"], [409, "ConditionalRequestConflict"], [429, "TooManyRequests"]]) {
  test(`S3's ${status} ${code} passes`, async () => {
    const world = new World();
    world.next("PUT u1", refusedByS3(status, code));

    await world.upload(file(5));

    assert.deepEqual(world.transcript.slice(1, 4), [
      `PUT u1 5 bytes → ${status} ${code}`,
      "1 s pass",
      "PUT u1 5 bytes → 200",
    ]);
  });
}

test("an upload that was settled meanwhile is not sent again: confirm tells how it ended", async () => {
  const world = new World();
  world.next("PUT u1", async () => {
    world.complete("u1"); // an event of S3's came first
    return null;
  });

  const completed = await world.upload(file(5));

  assert.equal(completed.status, "completed");
  assert.deepEqual(world.transcript.slice(1), [
    "PUT u1 5 bytes → no answer",
    "HEAD S3 → 403",
    "1 s pass",
    "POST u1/renew/ → 410 not_pending",
    "POST u1/confirm/ → 200",
  ]);
});

test("the proxy's error page is no answer of S3's", async () => {
  const world = new World();
  world.next("PUT u1", refused(418, "<html>"));

  await assert.rejects(world.upload(file(5)), {step: "send", code: "unexpected_answer", status: 418, body: "<html>"});
});

test("progress never runs backward, and tells the speed of the last seconds", async () => {
  const world = new World();
  const seen = [];
  const twoSeconds = async (_world, signal, answer) => {
    const given = await answer(); // which tells that all has left
    return slow(2)(world, signal, async () => given);
  };
  world.next("PUT u1", lost, async (...request) => (await twoSeconds(...request)) && null, twoSeconds);

  await world.upload(file(1_000), {onProgress: (progress) => seen.push(progress)});

  assert.deepEqual([...new Set(seen.map(({phase}) => phase))], ["begin", "send", "waiting", "confirm"]);
  const loaded = seen.map((each) => each.loaded);
  assert.deepEqual(loaded, [...loaded].sort((one, two) => one - two));
  assert.deepEqual([loaded[0], loaded[loaded.length - 1]], [0, 1_000]);
  assert.ok(seen.every(({total}) => total === 1_000));
  const first = seen.find((each) => each.bytesPerSecond);
  assert.deepEqual([first.loaded, first.bytesPerSecond, first.secondsLeft], [500, 500, 1], "1 s after nothing had left");
});

test("no speed is told before any time has passed", async () => {
  const world = new World();
  const seen = [];

  await world.upload(file(1_000), {onProgress: (progress) => seen.push(progress)});

  assert.deepEqual([...new Set(seen.map(({loaded}) => loaded))], [0, 500, 1_000]);
  assert.ok(seen.every(({bytesPerSecond, secondsLeft}) => bytesPerSecond === 0 && secondsLeft === null));
});

test("nothing is known of the time that is left before anything has left", async () => {
  const world = new World();
  const seen = [];

  await world.upload(file(1_000), {onProgress: (progress) => seen.push(progress)});

  assert.deepEqual(seen[0], {loaded: 0, total: 1_000, phase: "begin", bytesPerSecond: 0, secondsLeft: null});
});
