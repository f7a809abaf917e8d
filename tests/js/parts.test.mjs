/** A file in parts: several at once, each repeated by itself, signed in good time, and put together at confirm. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {PART_SIZE, World, answerLost, file, held, lost, refused, refusedByS3, slow} from "./world.mjs";

/** Whose parts have one byte each. */
function worldOfSmallParts() {
  const world = new World();
  world.partSize = 1;
  return world;
}

const FORBIDDEN = refusedByS3(403, "AccessDenied");

test("parts are sent, the last one shorter, and confirmed", async () => {
  const world = new World();
  const film = file(2 * PART_SIZE + 7);

  const completed = await world.upload(film);

  assert.equal(completed.status, "completed");
  assert.deepEqual(world.transcript, [
    `GET ?status=pending&destination=photos&size=${film.size} → 200`,
    "POST / → 201",
    `PUT u1 part 1, ${PART_SIZE} bytes → 200`,
    `PUT u1 part 2, ${PART_SIZE} bytes → 200`,
    "PUT u1 part 3, 7 bytes → 200",
    "POST u1/confirm/ → 200",
  ]);
  assert.ok(world.objects.get("u1").equals(film.bytes));
  const puts = world.requests.filter(({words}) => words.startsWith("PUT"));
  assert.deepEqual(puts.map(({headers}) => headers), [{}, {}, {}], "no type, which nobody signed");
});

test("not in parts, if the caller says so, or the checksum is S3's SHA256", async () => {
  for (const options of [{multipart: false}, {checksum: {algorithm: "SHA256", value: "…"}}]) {
    const world = new World();
    await world.upload(file(PART_SIZE + 1), options);
    assert.deepEqual(world.said("PUT"), [`PUT u1 ${PART_SIZE + 1} bytes → 200`]);
  }
});

for (const parallel of [1, 4, 7]) {
  test(`${parallel} parts go at once`, async () => {
    const world = worldOfSmallParts();
    const holds = Array.from({length: parallel}, held);
    world.next("PUT u1", ...holds);
    const uploading = world.upload(file(20), {parallel});
    await world.until(() => world.underway === parallel);
    for (let turns = 0; turns < 10; turns++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(world.underway, parallel, "and not one more");

    for (const {release} of holds) release();
    await uploading;

    assert.equal(world.mostAtOnce, parallel);
    assert.equal(world.said("PUT").length, 20);
  });
}

test("a part that breaks off is repeated by itself", async () => {
  const world = worldOfSmallParts();
  world.next("PUT u1 part 2", lost, lost);

  await world.upload(file(3));

  assert.deepEqual(world.said("PUT u1 part 2"), [
    "PUT u1 part 2, 1 bytes → no answer",
    "PUT u1 part 2, 1 bytes → no answer",
    "PUT u1 part 2, 1 bytes → 200",
  ]);
  assert.deepEqual(world.said("PUT u1 part 1"), ["PUT u1 part 1, 1 bytes → 200"]);
});

test("a part whose answer was lost is sent again, and is there once", async () => {
  const world = worldOfSmallParts();
  world.next("PUT u1 part 1", answerLost);

  const completed = await world.upload(file(3));

  assert.equal(completed.status, "completed");
});

test("while there are errors fewer go at once, and more again as parts arrive", async () => {
  const world = worldOfSmallParts();
  const seen = [];
  const watched = (...request) => {
    seen.push(world.underway);
    return slow(1)(...request);
  };
  world.next("PUT u1 part 1,", lost);
  world.next("PUT u1", ...Array.from({length: 60}, () => watched));

  await world.upload(file(60));

  assert.ok(Math.max(...seen.slice(3, 6)) <= 2, "half of four");
  assert.equal(Math.max(...seen.slice(-20)), 4, "as at first");
  assert.equal(seen.length, 60);
});

test("the URLs of parts are asked for a hundred at most, before the last one is used", async () => {
  const world = worldOfSmallParts();

  await world.upload(file(250), {parallel: 1});

  const asked = world.requests.filter(({words}) => words === "POST u1/parts/");
  const [first, second, ...more] = asked.map(({body}) => body.part_numbers);
  assert.ok(first.length <= 100);
  assert.deepEqual([[...first, ...second], more], [Array.from({length: 150}, (_, index) => index + 101), []]);
  const order = world.transcript.map((line) => line.split(" → ")[0]);
  assert.ok(order.indexOf("POST u1/parts/") < order.indexOf("PUT u1 part 100, 1 bytes"));
  assert.equal(new Set(world.said("PUT")).size, 250);
});

test("URLs that expired are signed anew, all together", async () => {
  const world = worldOfSmallParts();
  world.next("PUT u1 part 1", async (_world, _signal, answer) => {
    world.clock.pass(3_600);
    return answer();
  });

  await world.upload(file(3), {parallel: 1});

  assert.deepEqual(world.transcript, [
    "POST / → 201",
    "PUT u1 part 1, 1 bytes → 403 AccessDenied",
    "POST u1/parts/ → 200",
    "PUT u1 part 1, 1 bytes → 200",
    "PUT u1 part 2, 1 bytes → 200",
    "PUT u1 part 3, 1 bytes → 200",
    "POST u1/confirm/ → 200",
  ]);
});

test("of URLs that were signed together all are signed anew when one is refused", async () => {
  const world = worldOfSmallParts();
  world.next("PUT u1 part 1", FORBIDDEN); // the credentials that signed them are gone, say

  await world.upload(file(3), {parallel: 1});

  const asked = world.requests.filter(({words}) => words === "POST u1/parts/");
  assert.deepEqual(asked.map(({body}) => body), [{part_numbers: [1, 2, 3]}]);
});

test("a URL near its end is not used: to be sent takes a moment", async () => {
  const world = worldOfSmallParts();
  world.next("PUT u1 part 1", async (_world, _signal, answer) => {
    world.clock.pass(3_600 * 0.9);
    return answer();
  });

  await world.upload(file(2), {parallel: 1});

  assert.deepEqual(world.transcript.slice(1), [
    "PUT u1 part 1, 1 bytes → 200",
    "POST u1/parts/ → 200",
    "PUT u1 part 2, 1 bytes → 200",
    "POST u1/confirm/ → 200",
  ]);
});

test("a part that S3 refuses twice ends the upload, and the others are stopped", async () => {
  const world = worldOfSmallParts();
  const others = [held(), held(), held()];
  world.next("PUT u1 part 1", FORBIDDEN, FORBIDDEN);
  world.next("PUT u1", ...others);

  await assert.rejects(world.upload(file(20)), {step: "send", code: "AccessDenied", status: 403});

  assert.equal(world.said("PUT u1 part").filter((line) => line.endsWith("aborted")).length, 3);
  assert.equal(world.said("PUT u1 part").filter((line) => line.includes("→ 200")).length, 0);
});

test("parts that Django misses at confirm are sent, and it is confirmed again", async () => {
  const world = worldOfSmallParts();
  world.next("POST u1/confirm/", async (_world, _signal, answer) => {
    world.parts.get("u1").delete(2);
    return answer();
  });

  const completed = await world.upload(file(3));

  assert.equal(completed.status, "completed");
  assert.deepEqual(world.transcript.slice(-4), [
    "POST u1/confirm/ → 409 parts_incomplete",
    "POST u1/parts/ → 200", // its URL was thrown away with the part's success
    "PUT u1 part 2, 1 bytes → 200",
    "POST u1/confirm/ → 200",
  ]);
});

test("parts that are missed five times are given up", async () => {
  const world = worldOfSmallParts();
  const errors = [{code: "missing", params: {part_numbers: [1]}}];
  const incomplete = refused(409, {code: "parts_incomplete", detail: "Parts are missing.", errors});
  world.next("POST u1/confirm/", incomplete, incomplete, incomplete, incomplete, incomplete);

  await assert.rejects(world.upload(file(2)), {step: "confirm", code: "parts_incomplete", status: 409});

  assert.equal(world.said("POST u1/confirm/").length, 5);
});

test("what another tab completed is not sent further: confirm tells", async () => {
  const world = worldOfSmallParts();
  world.next("PUT u1 part 2", async (_world, _signal, answer) => {
    world.complete("u1");
    return answer();
  });

  const completed = await world.upload(file(50), {parallel: 1});

  assert.equal(completed.status, "completed");
  assert.deepEqual(world.transcript.slice(1), [
    "PUT u1 part 1, 1 bytes → 200",
    "PUT u1 part 2, 1 bytes → 404 NoSuchUpload",
    "POST u1/confirm/ → 200",
  ]);
});

test("parts that are gone for good are cancelled, for nobody is to go on with them", async () => {
  const world = worldOfSmallParts();
  world.next("POST u1/confirm/", refused(410, {code: "multipart_gone", detail: "The parts are gone."}));

  await assert.rejects(world.upload(file(2)), {code: "multipart_gone", status: 410});

  assert.equal(world.uploads.get("u1").status, "cancelled");
});

test("the progress is that of all parts", async () => {
  const world = worldOfSmallParts();
  const seen = [];
  world.next("PUT u1 part 1", lost);

  await world.upload(file(10), {onProgress: ({loaded}) => seen.push(loaded)});

  assert.deepEqual(seen, [...seen].sort((one, two) => one - two));
  assert.deepEqual([...new Set(seen)], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});
