/** Many files at once: a few at a time, one progress for all of them, and one end. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {uploadAll} from "../../s3direct_uploads/static/s3direct_uploads/all.js";
import {World, file, held, refused} from "./world.mjs";

const names = ["a.png", "b.png", "c.png", "d.png", "e.png"];
const INVALID = refused(400, {code: "invalid", detail: "It is no image."});

/** uploadAll() of this world. */
function send(world, files, options = {}) {
  return uploadAll(files, {endpoint: "/api/uploads/", destination: "photos", ...world.reached, ...options});
}

/** Each file, and how it ended. */
const ends = (results) =>
  results.map(({file, upload, error}) => `${file.name} ${upload?.status ?? (error.name === "UploadError" ? error.code : error.name)}`);

/** Long enough for whatever is under way to come to a rest. */
async function rest() {
  for (let turns = 0; turns < 100; turns++) await new Promise((resolve) => setImmediate(resolve));
}

test("the results have the order of the files, whatever ends first", async () => {
  const world = new World();
  const slow = held();
  world.next("PUT u1", slow);
  const sending = send(world, names.map((name) => file(5, {name})));
  await world.until(() => world.statuses.filter((status) => status === "completed").length === 4);
  slow.release();

  const results = await sending;

  assert.deepEqual(ends(results), names.map((name) => `${name} completed`));
  assert.deepEqual(results.map(({upload}) => upload.filename), names);
  assert.deepEqual(results.map(({error}) => error), names.map(() => null));
});

for (const atOnce of [undefined, 1, 2]) {
  test(`with atOnce ${atOnce} so many are sent at once, and the next is sent when one is there`, async () => {
    const world = new World();
    const puts = names.map(held);
    world.next("PUT", ...puts);
    const sending = send(world, names.map((name) => file(5, {name})), {atOnce});
    const most = atOnce ?? 3;
    await world.until(() => world.underway === most);
    await rest();
    assert.equal(world.underway, most);
    puts[0].release();
    await world.until(() => world.said("PUT").length === 1 && world.underway === most);
    for (const put of puts) put.release();

    assert.equal((await sending).length, 5);
    assert.equal(world.mostAtOnce, most);
  });
}

test("a file that fails stops no other, and its error is in its result", async () => {
  const world = new World();
  world.nextInBatch("begin a.png", INVALID);

  const results = await send(world, names.map((name) => file(5, {name})), {atOnce: 1});

  assert.deepEqual(ends(results), ["a.png invalid", ...names.slice(1).map((name) => `${name} completed`)]);
  assert.equal(results[0].upload, null);
  assert.equal(results[0].error.name, "UploadError");
  assert.equal(results[0].error.message, "It is no image.");
});

test("cancelled, what has begun is cancelled in Django, what is completed stays, and nothing more begins", async () => {
  const world = new World();
  const cancelling = new AbortController();
  const names = Array.from({length: 12}, (_, index) => `${index}.png`);
  const second = held();
  world.next("POST batch/", (_world, _signal, answer) => answer(), second); // the first ten begin
  world.next("PUT u2", held());
  world.next("PUT u3", held());
  const sending = send(world, names.map((name) => file(5, {name})), {atOnce: 2, signal: cancelling.signal});
  await world.until(() => world.underway === 2);

  cancelling.abort();
  const results = await sending;
  await rest();

  assert.deepEqual(ends(results), [
    "0.png completed",
    ...names.slice(1).map((name) => `${name} AbortError`),
  ]);
  assert.deepEqual(world.statuses, ["completed", ...Array(9).fill("cancelled")]);
  assert.equal(world.said("DELETE").length, 9);

  second.release();
  await rest();
  assert.deepEqual(world.statuses.slice(10), ["cancelled", "cancelled"], "their begin was answered after the end");
});

test("cancelled before it begins, Django is asked nothing", async () => {
  const world = new World();
  const cancelled = new AbortController();
  cancelled.abort();

  const results = await send(world, [file(5)], {signal: cancelled.signal});

  assert.deepEqual(ends(results), ["beach.png AbortError"]);
  assert.deepEqual(world.transcript, []);
});

test("paused, nothing is sent and nothing more begins; resumed, all of it is sent", async () => {
  const world = new World();
  world.next("PUT", held(), held());
  const sending = send(world, names.map((name) => file(5, {name})), {atOnce: 2});
  await world.until(() => world.underway === 2);

  sending.pause();
  await rest();
  assert.equal(world.underway, 0);
  assert.deepEqual(world.asked, ["POST batch/ of 5"]);

  sending.resume();
  assert.deepEqual(ends(await sending), names.map((name) => `${name} completed`));
  assert.deepEqual(world.said("POST batch/ "), ["POST batch/ → 200"]);
});

test("paused when one ends, the next waits until it is resumed, or is cancelled", async () => {
  for (const end of ["resume", "cancel"]) {
    const world = new World();
    const cancelling = new AbortController();
    const confirm = held();
    world.next("POST u1/confirm/", confirm);
    const each = ({name}) => ({idempotencyKey: name}); // begins and is confirmed alone
    const sending = send(world, [file(5), file(5, {name: "b.png"})], {each, atOnce: 1, signal: cancelling.signal});
    await world.until(() => world.said("PUT u1").length);
    await rest();
    sending.pause();
    confirm.release();
    await rest();
    assert.equal(world.uploads.size, 1);

    if (end === "resume") sending.resume();
    else cancelling.abort();
    assert.deepEqual(ends(await sending), ["beach.png completed", `b.png ${end === "resume" ? "completed" : "AbortError"}`]);
  }
});

test("the progress is of all bytes and all files, never runs backward, and ends full", async () => {
  const world = new World();
  world.next("PUT u1", refused(503, "<Error><Code>SlowDown</Code></Error>"));
  const told = [];
  await send(world, [file(10), file(20), file(0), file(30)], {atOnce: 2, onProgress: (progress) => told.push(progress)});

  assert.deepEqual(told[0], {loaded: 0, total: 60, files: 4, completed: 0, failed: 0, bytesPerSecond: 0, secondsLeft: null});
  const loaded = told.map((each) => each.loaded);
  assert.deepEqual(loaded, [...loaded].sort((one, two) => one - two));
  assert.ok(loaded.some((each) => each > 0 && each < 60));
  const {bytesPerSecond, ...last} = told[told.length - 1];
  assert.deepEqual(last, {loaded: 60, total: 60, files: 4, completed: 4, failed: 0, secondsLeft: 0});
  const completed = told.map((each) => each.completed);
  assert.deepEqual(completed, [...completed].sort());
});

test("the bytes of a file that failed are not waited for, and do not count as speed", async () => {
  const world = new World();
  world.nextInBatch("begin beach.png", INVALID);
  const told = [];

  await send(world, [file(1_000), file(10)], {atOnce: 1, onProgress: (progress) => told.push(progress)});

  const failed = told.find((progress) => progress.failed);
  assert.deepEqual(failed, {loaded: 1_000, total: 1_010, files: 2, completed: 0, failed: 1, bytesPerSecond: 0, secondsLeft: null});
  const last = told[told.length - 1];
  assert.deepEqual([last.loaded, last.completed, last.failed], [1_010, 1, 1]);
});

test("the speed is that of all files together, over the last seconds", async () => {
  const world = new World();
  const told = [];
  const puts = [held(), held()];
  world.next("PUT", ...puts);
  const sending = send(world, [file(800), file(400)], {atOnce: 2, onProgress: (progress) => told.push(progress)});
  await world.until(() => world.underway === 2);
  await rest();
  world.clock.pass(4);
  for (const put of puts) put.release(); // each file's second half is told of now
  await sending;

  const halves = told.find(({loaded}) => loaded >= 1_000);
  assert.ok(halves.bytesPerSecond > 0);
  const last = told[told.length - 1];
  assert.deepEqual([last.bytesPerSecond, last.secondsLeft], [300, 0]); // 1,200 bytes in 4 seconds
});

test("parts that S3 has already are loaded, and do not count as speed", async () => {
  const world = new World();
  world.partSize = 100;
  const upload = world.remember({filename: "beach.png", size: 300, multipart: true});
  world.keys.set("mine", [JSON.stringify({destination: "photos", filename: "beach.png", size: 300, content_type: "image/png", multipart: true}), upload.id]);
  world.parts.get(upload.id).set(1, new Uint8Array(100)).set(2, new Uint8Array(100));
  const put = held();
  world.next("PUT", put);
  const told = [];
  const sending = send(world, [file(300)], {each: () => ({idempotencyKey: "mine"}), onProgress: (progress) => told.push(progress)});
  await world.until(() => world.underway === 1);
  world.clock.pass(1);
  put.release();
  await sending;

  assert.deepEqual(world.said("PUT"), ["PUT u1 part 3, 100 bytes → 200"]);
  assert.ok(told.some(({loaded}) => loaded === 200));
  assert.equal(told[told.length - 1].bytesPerSecond, 100);
});

test("each file may have options of its own, and its own progress", async () => {
  const world = new World();
  const told = [];
  const files = names.slice(0, 2).map((name) => file(5, {name}));

  await send(world, files, {
    context: {album: 1},
    each: ({name}, index) => ({
      context: {album: 1, place: index},
      idempotencyKey: `key of ${name}`,
      onProgress: ({phase}) => told.push(`${name} ${phase}`),
    }),
  });

  const begins = world.requests.filter(({words}) => words === "POST /");
  assert.deepEqual(begins.map(({body}) => body.context.place), [0, 1]);
  assert.deepEqual(begins.map(({headers}) => headers["idempotency-key"]), ["key of a.png", "key of b.png"]);
  for (const name of ["a.png", "b.png"]) assert.ok(told.includes(`${name} send`) && told.includes(`${name} confirm`));
});

test("each result is told of at once", async () => {
  const world = new World();
  const slow = held();
  world.next("PUT u1", slow);
  const told = [];
  const sending = send(world, [file(5, {name: "a.png"}), file(5, {name: "b.png"})], {
    onResult: ({file, upload}, index) => told.push([file.name, upload.status, index]),
  });
  await world.until(() => told.length);
  assert.deepEqual(told, [["b.png", "completed", 1]]);
  slow.release();
  const results = await sending;
  assert.deepEqual(told[1], ["a.png", "completed", 0]);
  assert.equal(results.length, 2);
});

test("what a callback of the page throws is thrown, once every other file has ended", async () => {
  const world = new World();
  const onResult = ({file}) => {
    if (file.name === "a.png") throw new RangeError("the page's own mistake");
  };

  await assert.rejects(send(world, names.map((name) => file(5, {name})), {onResult}), RangeError);

  assert.deepEqual(world.statuses, names.map(() => "completed"));
});

test("a large file is sent in parts, two at once, because its neighbours need connections too", async () => {
  for (const [options, most] of [[{}, 2], [{parallel: 4}, 4]]) {
    const world = new World();
    world.partSize = 1;
    const puts = Array.from({length: 9}, held);
    world.next("PUT", ...puts);
    const sending = send(world, [file(9)], options);
    await world.until(() => world.underway === most);
    await rest();
    assert.equal(world.mostAtOnce, most);
    for (const put of puts) put.release();
    assert.deepEqual(ends(await sending), ["beach.png completed"]);
  }
});

test("no file is no work", async () => {
  const world = new World();
  const told = [];
  assert.deepEqual(await send(world, [], {onProgress: (progress) => told.push(progress)}), []);
  assert.deepEqual(world.transcript, []);
});

test("any list of files will do, and one that changes later does no harm", async () => {
  const world = new World();
  const files = [file(5, {name: "a.png"}), file(5, {name: "b.png"})];
  const sending = send(world, new Set(files), {atOnce: 1});
  const again = send(world, files, {atOnce: 1});
  files.length = 0; // as the list of an input that is emptied

  assert.equal((await sending).length, 2);
  assert.equal((await again).length, 2);
});

test("wrong options are refused before anything is sent", async () => {
  const world = new World();
  for (const options of [{atOnce: 0}, {atOnce: 1.5}, {atOnce: "many"}, {atOnce: NaN}]) {
    await assert.rejects(async () => send(world, [file(5)], options), {name: "RangeError", message: /atOnce/});
  }
  await assert.rejects(async () => send(world, [file(5)], {idempotencyKey: "one"}), {name: "TypeError", message: /each/});
  await assert.rejects(async () => send(world, file(5)), {name: "TypeError"});
  assert.deepEqual(world.transcript, []);
});
