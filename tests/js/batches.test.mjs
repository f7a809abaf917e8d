/** Small files that are chosen together: they are begun and confirmed by few calls, and each ends as it would alone. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {uploadAll} from "../../s3direct_uploads/static/s3direct_uploads/all.js";
import {MIB, PART_SIZE, World, answerLost, file, held, lost, refused, slow} from "./world.mjs";

const SIZE = 10; // bytes
const BUSY = refused(503, {code: "bucket_unavailable", detail: "S3 is away.", retry_after: 7}, {"Retry-After": "7"});

/** uploadAll() of this world. */
function send(world, files, options = {}) {
  return uploadAll(files, {endpoint: "/api/uploads/", destination: "photos", ...world.reached, ...options});
}

const many = (count, size = SIZE) => Array.from({length: count}, (_, index) => file(size, {name: `${index}.png`}));

/** How many requests of each kind there were. */
function counts(world) {
  const kinds = world.requests.map(({words, url}) => (url ? "PUT" : words.replace(/u\d+/, "{id}").replace(/\?.*/, "?…")));
  return Object.fromEntries([...new Set(kinds)].sort().map((kind) => [kind, kinds.filter((each) => each === kind).length]));
}

const codes = (results) => results.map(({upload, error}) => upload?.status ?? error.code ?? error.name);
const all = (count, what = "completed") => Array.from({length: count}, () => what);
const batchKeys = (world) => world.requests.filter(({words}) => words === "POST batch/").map(({headers}) => headers["idempotency-key"]);

/** Long enough for whatever is under way to come to a rest. */
async function rest() {
  for (let turns = 0; turns < 100; turns++) await new Promise((resolve) => setImmediate(resolve));
}

/** Every object is that of its file. */
function assertSent(world, files) {
  const sent = new Map([...world.uploads.values()].map(({id, filename}) => [filename, world.objects.get(id)]));
  for (const {name, bytes} of files) assert.ok(Buffer.from(sent.get(name)).equals(Buffer.from(bytes)), name);
}

// How many requests

test("twenty small files: two calls begin them, and each confirm takes what was sent during the one before", async () => {
  const world = new World();
  const files = many(20);

  const results = await send(world, files);

  assert.deepEqual(codes(results), all(20));
  assertSent(world, files);
  assert.deepEqual(world.asked.filter((words) => words.startsWith("POST batch/ ")), ["POST batch/ of 10", "POST batch/ of 10"]);
  const confirmed = world.requests.filter(({words}) => words === "POST batch/confirm/").flatMap(({body}) => body.ids);
  assert.deepEqual(confirmed.sort(), [...world.uploads.keys()].sort());
  assert.deepEqual(Object.keys(counts(world)), ["POST batch/", "POST batch/confirm/", "PUT"]);
});

test("a file is confirmed at once if nothing else is; what is sent meanwhile is confirmed together", async () => {
  const world = new World();
  const confirm = held();
  world.next("POST batch/confirm/", confirm);
  const sending = send(world, many(20));
  await world.until(() => world.said("PUT").length === 20);
  assert.deepEqual(world.asked.slice(2), ["POST batch/confirm/ of 1"]);

  confirm.release();

  assert.deepEqual(codes(await sending), all(20));
  assert.deepEqual(world.asked.slice(3), ["POST batch/confirm/ of 19"]);
});

test("the first bytes do not wait for a call of a hundred", async () => {
  const world = new World();
  const second = held();
  world.next("POST batch/", (_world, _signal, answer) => answer(), second);
  const sending = send(world, many(100));
  await world.until(() => world.said("PUT").length === 10);
  assert.deepEqual(world.asked.filter((words) => words.startsWith("POST batch/ ")), ["POST batch/ of 10", "POST batch/ of 90"]);
  second.release();

  assert.deepEqual(codes(await sending), all(100));
});

test("a thousand files: a hundred at most are pending, and no file is asked for alone", async () => {
  const world = new World();
  world.next("POST batch/confirm/", ...all(1_000, slow(0.2)));
  world.next("PUT", ...all(1_000, slow(0.1)));
  const files = many(1_000);

  const results = await send(world, files);

  assert.deepEqual(codes(results), all(1_000));
  assertSent(world, files);
  assert.ok(world.mostPending <= 100, `${world.mostPending} were pending`);
  const {"POST batch/": begins, "POST batch/confirm/": confirms, PUT, ...others} = counts(world);
  assert.equal(PUT, 1_000);
  assert.ok(begins < 20, `${begins} calls began them`);
  assert.ok(confirms < 250, `${confirms} calls confirmed them`);
  assert.deepEqual(others, {});
});

test("one file is begun and confirmed alone", async () => {
  const world = new World();
  assert.deepEqual(codes(await send(world, many(1))), all(1));
  assert.deepEqual(world.asked, ["POST /", "POST u1/confirm/"]);
});

test("large files are begun alone, when their turn comes; the small ones among them by a batch", async () => {
  const world = new World();
  const [one, two, three, four] = many(4);
  const large = [file(PART_SIZE + 1, {name: "large.mov"}), file(2 * PART_SIZE, {name: "larger.mov"})];
  const files = [large[0], one, two, large[1], three, four];

  assert.deepEqual(codes(await send(world, files, {resume: false, atOnce: 1})), all(6));

  assertSent(world, files);
  assert.deepEqual(world.asked.filter((words) => !words.includes("confirm")), ["POST /", "POST batch/ of 4", "POST /"]);
  const alone = world.asked.filter((words) => words.startsWith("POST u"));
  assert.equal(alone.length, 2, "only what is sent in parts is confirmed alone");
});

test("not more bytes begin than are sent before the URLs expire", async () => {
  const world = new World();
  const put = held();
  world.next("PUT", put);
  const sending = send(world, many(20, 4 * MIB), {atOnce: 1});
  await world.until(() => world.underway);
  await rest();
  assert.deepEqual(world.asked, ["POST batch/ of 8"]); // 32 MiB
  put.release();
  assert.deepEqual(codes(await sending), all(20));
});

// As alone

test("one that is refused has the error that it would have alone, and stops no other", async () => {
  const body = {code: "invalid", detail: "No.", errors: [{field: "size", code: "too_large", detail: "…", params: {max_size: 5}}]};
  const facts = ({name, message, step, code, status, body, upload, retryAfter}) => ({name, message, step, code, status, body, upload, retryAfter});
  const alone = new World();
  alone.next("POST /", refused(400, body));
  const error = await alone.upload(file(SIZE)).catch((thrown) => thrown);
  const world = new World();
  world.nextInBatch("begin 3.png", refused(400, body));

  const results = await send(world, many(12));

  assert.deepEqual(codes(results), [...all(3), "invalid", ...all(8)]);
  assert.deepEqual(facts(results[3].error), facts(error));
  assert.deepEqual(Object.keys(counts(world)), ["POST batch/", "POST batch/confirm/", "PUT"]);
});

test("one that expired before it was confirmed says so, and stops no other", async () => {
  const world = new World();
  const upload = {id: "u2", status: "expired"};
  world.nextInBatch("confirm u2", refused(410, {code: "not_pending", detail: "This upload is expired.", errors: [], upload}));

  const results = await send(world, many(5));

  assert.deepEqual(codes(results), ["completed", "not_pending", ...all(3)]);
  const {error} = results[1];
  assert.deepEqual([error.step, error.status, error.upload], ["confirm", 410, upload]);
});

test("signed out after they began: each says so, and nothing is sent again", async () => {
  const world = new World();
  const signedOut = refused(403, {code: "not_authenticated", detail: "Log in."});
  world.next("POST batch/confirm/", ...all(3, signedOut));
  for (const id of ["u1", "u2", "u3"]) world.next(`POST ${id}/confirm/`, ...all(3, signedOut));

  const results = await send(world, many(3));

  assert.deepEqual(codes(results), all(3, "not_authenticated"));
  assert.deepEqual(results.map(({error}) => [error.step, error.upload?.status]), all(3, ["confirm", "pending"]));
  assert.equal(counts(world).PUT, 3);
});

test("one that S3 has otherwise than declared is rejected, with its upload in the error", async () => {
  const world = new World();
  const upload = {id: "u2", status: "rejected"};
  world.nextInBatch("confirm u2", refused(422, {code: "object_mismatch", detail: "Other bytes.", errors: [], upload}));

  const results = await send(world, many(5));

  assert.deepEqual(codes(results), ["completed", "object_mismatch", ...all(3)]);
  const {error} = results[1];
  assert.deepEqual([error.step, error.status, error.message, error.upload], ["confirm", 422, "Other bytes.", upload]);
});

test("destination, context and checksum of each file are in the call, and onBegun hears of each once", async () => {
  const world = new World();
  const begun = [];
  const checksum = {algorithm: "CRC32", value: "AAAAAA=="};

  await send(world, many(3), {
    onBegun: ({filename, request}) => begun.push([filename, request]),
    each: (_, place) => ({destination: `photos${place}`, context: {place}, ...(place === 1 && {checksum})}),
  });

  const declared = world.requests[0].body.uploads;
  assert.deepEqual(declared.map(({destination, context, checksum}) => [destination, context.place, checksum?.value]), [
    ["photos0", 0, undefined], ["photos1", 1, "AAAAAA=="], ["photos2", 2, undefined],
  ]);
  assert.deepEqual(begun, many(3).map(({name}) => [name, undefined]));
});

test("a file with a key of its own, or whose checksum must be computed, is begun alone", async () => {
  const world = new World();
  const own = [{idempotencyKey: "mine"}, {checksum: "CRC32"}, {headers: {Authorization: "other"}}, {}, {}];

  assert.deepEqual(codes(await send(world, many(5), {each: (_, place) => own[place]})), all(5));

  const alone = world.requests.filter(({words}) => words === "POST /");
  assert.deepEqual(alone.map(({body}) => body.filename).sort(), ["0.png", "1.png", "2.png"]);
  assert.equal(alone[0].headers["idempotency-key"], "mine");
  assert.deepEqual(world.asked.filter((words) => words.startsWith("POST batch/ ")), ["POST batch/ of 2"]);
});

test("a file that cannot be read does not keep the others waiting", async () => {
  const world = new World();
  const files = many(5);
  files[2].change();

  assert.deepEqual(codes(await send(world, files)), ["completed", "completed", "file_unreadable", "completed", "completed"]);

  assert.deepEqual(world.asked[0], "POST batch/ of 4");
  assert.deepEqual(world.said("0.1 s pass"), []);
});

test("a file that is slow to read begins alone, and the others do not wait for it", async () => {
  const world = new World();
  const files = many(5);
  const {slice} = files[4];
  let read;
  const reading = new Promise((resolve) => (read = resolve));
  files[4].slice = (...where) => ({...slice(...where), arrayBuffer: () => reading.then(() => slice(...where).arrayBuffer())});
  const sending = send(world, files);
  await world.until(() => world.statuses.filter((status) => status === "completed").length === 4);
  read();

  assert.deepEqual(codes(await sending), all(5));
  assert.deepEqual(world.transcript.slice(0, 2), ["0.1 s pass", "POST batch/ → 200"]);
  assert.deepEqual(world.asked.filter((words) => !words.startsWith("POST batch/confirm/")), ["POST batch/ of 4", "POST /"]);
});

test("with waitForScan each is asked about until its scan is over", async () => {
  const world = new World();
  world.verifying = 4;
  assert.deepEqual(codes(await send(world, many(3), {waitForScan: true})), all(3));
  assert.deepEqual(Object.keys(counts(world)), ["POST batch/", "POST batch/confirm/", "PUT"]);
});

test("a file that waited for its turn longer than its URL lives gets a new one", async () => {
  const world = new World();
  world.next("PUT u1", async (_world, _signal, answer) => {
    const given = await answer();
    world.clock.pass(3_650);
    return given;
  });

  assert.deepEqual(codes(await send(world, many(3), {atOnce: 1})), all(3));
  assert.deepEqual(world.said("POST u"), ["POST u2/renew/ → 200", "POST u3/renew/ → 200"]);
});

test("a file that waits for its turn tells no progress", async () => {
  const world = new World();
  const told = [];
  const put = held();
  world.next("PUT u1", put);
  const sending = send(world, many(2), {atOnce: 1, each: ({name}) => ({onProgress: ({phase}) => told.push(`${name} ${phase}`)})});
  await world.until(() => world.underway);
  await rest();
  assert.deepEqual([...new Set(told)], ["0.png begin", "0.png send"]);
  put.release();
  await sending;
  assert.deepEqual([...new Set(told)].slice(2).sort(), ["0.png confirm", "1.png confirm", "1.png send"]);
});

// Servers without the calls

test("a server without the calls is asked once, and then for each file alone", async () => {
  const world = new World();
  world.hasBatches = false;

  assert.deepEqual(codes(await send(world, many(12))), all(12));

  assert.deepEqual(world.transcript[0], "POST batch/ → 405 method_not_allowed");
  assert.deepEqual(counts(world), {"POST /": 12, "POST batch/": 1, "POST {id}/confirm/": 12, PUT: 12});
  assert.ok(world.mostPending <= 3, "nothing begins ahead");
});

for (const [who, status, body] of [
  ["a server of before", 404, {code: "not_found", detail: "?"}],
  ["permissions that do not know batches", 403, {code: "permission_denied", detail: "No."}],
  ["a proxy that refuses the size", 413, "<html>"],
  ["a login page after a redirect", 200, "<html>"],
  ["something else that says OK", 200, {id: "batch"}],
]) {
  test(`${who}: each file is begun alone`, async () => {
    const world = new World();
    world.next("POST batch/", refused(status, body));
    assert.deepEqual(codes(await send(world, many(12))), all(12));
    assert.deepEqual(counts(world), {"POST /": 12, "POST batch/": 1, "POST {id}/confirm/": 12, PUT: 12});
  });
}

test("a project that has removed only the confirm of batches: they are confirmed alone", async () => {
  const world = new World();
  world.next("POST batch/confirm/", refused(404, {code: "not_found", detail: "?"}));
  assert.deepEqual(codes(await send(world, many(12))), all(12));
  assert.deepEqual(counts(world), {"POST batch/": 2, "POST batch/confirm/": 1, "POST {id}/confirm/": 12, PUT: 12});
});

test("a visitor's files are begun alone, each with its token", async () => {
  const world = new World();
  world.isVisitor = true;
  assert.deepEqual(codes(await send(world, many(4))), all(4));
  const tokens = world.requests.filter(({words}) => words.endsWith("confirm/")).map(({headers}) => headers["upload-token"]);
  assert.deepEqual(tokens.sort(), ["u1:mac", "u2:mac", "u3:mac", "u4:mac"]);
});

test("a storage that takes all files in parts: they are begun alone, and the batch is asked once", async () => {
  const world = new World();
  world.isAllInParts = true;
  const files = many(12);
  assert.deepEqual(codes(await send(world, files)), all(12));
  assertSent(world, files);
  assert.deepEqual(counts(world), {"POST /": 12, "POST batch/": 1, "POST {id}/confirm/": 12, PUT: 12});
});

// Quotas

for (const maxPending of [1, 3, 7, 20, 60]) {
  test(`with room for ${maxPending} pending uploads, all of 150 are sent, and none waits for a retry`, async () => {
    const world = new World();
    world.maxPending = maxPending;
    world.next("POST batch/confirm/", ...all(150, slow(0.02)));
    world.next("PUT", ...all(150, slow(0.01)));
    const files = many(150);

    const results = await send(world, files, {atOnce: Math.min(3, maxPending)});

    assert.deepEqual(codes(results), all(150));
    assertSent(world, files);
    assert.deepEqual(world.transcript.filter((line) => line.includes("429")), []);
    assert.ok(world.clock.now() < 10_000, `it took ${world.clock.now()} ms`);
  });
}

test("one for which there is no room at the moment is begun alone when its turn comes", async () => {
  const world = new World();
  world.nextInBatch("begin 4.png", refused(429, {code: "too_many_pending", detail: "Finish one."}));

  assert.deepEqual(codes(await send(world, many(10), {atOnce: 1})), all(10));

  const alone = world.requests.filter(({words}) => words === "POST /");
  assert.deepEqual(alone.map(({body}) => body.filename), ["4.png"]);
  assert.ok(world.transcript.indexOf("POST / → 201") > world.transcript.findIndex((line) => line.startsWith("PUT u4")), "after 3.png is sent");
});

// Answers that are lost, and servers that are away

test("a begin whose answer is lost is repeated with its key, and nothing begins twice", async () => {
  const world = new World();
  world.next("POST batch/", answerLost);

  assert.deepEqual(codes(await send(world, many(5))), all(5));

  assert.equal(world.uploads.size, 5);
  const [one, two] = batchKeys(world);
  assert.equal(one, two);
  assert.match(one, /^[0-9a-f]{32}$/);
});

test("each call has another key", async () => {
  const world = new World();
  await send(world, many(12));
  assert.equal(new Set(batchKeys(world)).size, 2);
});

test("a confirm whose answer is lost is repeated", async () => {
  const world = new World();
  world.next("POST batch/confirm/", answerLost);
  assert.deepEqual(codes(await send(world, many(5))), all(5));
  assert.equal(world.uploads.size, 5);
});

test("a server that is busy is asked again after the time that it says: once for all files", async () => {
  for (const status of [429, 503]) {
    const world = new World();
    world.next("POST batch/", refused(status, {code: "throttled", detail: "Wait."}, {"Retry-After": "60"}));
    assert.deepEqual(codes(await send(world, many(10))), all(10));
    assert.deepEqual(world.transcript.slice(0, 3), [`POST batch/ → ${status} throttled`, "61 s pass", "POST batch/ → 200"]);
    const keys = batchKeys(world);
    assert.equal(keys[0], keys[1]);
  }
});

test("a server that never answers is asked five times, and each file has an error of its own", async () => {
  const world = new World();
  world.next("POST batch/", ...all(5, lost));

  const results = await send(world, many(10));

  assert.deepEqual(codes(results), all(10, "network_error"));
  assert.deepEqual(counts(world)["POST batch/"], 5);
  assert.equal(new Set(results.map(({error}) => error)).size, 10);
});

test("Django is away when files are confirmed: it is asked for all of them together, and they say that they wait", async () => {
  const world = new World();
  const waiting = new Set();
  const puts = all(20).map(held);
  world.next("PUT", ...puts);
  const sending = send(world, many(20), {each: ({name}) => ({onProgress: ({phase}) => phase === "waiting" && waiting.add(name)})});
  await world.until(() => world.underway === 3);
  await rest();
  world.away(["Django"], 600);
  for (const put of puts) put.release();

  assert.deepEqual(codes(await sending), all(20));

  const failed = world.transcript.filter((line) => line.startsWith("POST") && line.endsWith("no answer"));
  assert.ok(failed.length < 40, `${failed.length} requests in ten minutes`);
  assert.ok(waiting.has("0.png"));
});

test("one that S3 is too slow to be asked about is confirmed again, the others are not", async () => {
  const world = new World();
  world.nextInBatch("confirm u2", BUSY, BUSY);

  assert.deepEqual(codes(await send(world, many(4))), all(4));

  const ids = world.requests.filter(({words}) => words === "POST batch/confirm/").flatMap(({body}) => body.ids);
  assert.deepEqual(ids.sort(), ["u1", "u2", "u2", "u2", "u3", "u4"]);
  assert.deepEqual(world.transcript.filter((line) => line.endsWith(" pass")), ["8 s pass", "9 s pass"]);
});

// Ends

test("cancelled while Django begins them, they are cancelled when it answers, and nothing is asked again", async () => {
  for (const fault of [held(), lost]) {
    const world = new World();
    const cancelling = new AbortController();
    world.next("POST batch/", fault);
    const sending = send(world, many(10), {signal: cancelling.signal});
    await world.until(() => world.requests.length);

    cancelling.abort();
    assert.deepEqual(codes(await sending), all(10, "AbortError"));
    fault.release?.();
    await rest();

    assert.deepEqual(world.statuses, fault.release ? all(10, "cancelled") : []);
    assert.deepEqual(counts(world)["POST batch/"], 1);
    assert.equal(world.said("PUT").length, 0);
  }
});

test("one that is cancelled before its turn is cancelled in Django, and the others are sent", async () => {
  const world = new World();
  const cancelling = new AbortController();
  const put = held();
  world.next("PUT u1", put);
  const sending = send(world, many(4), {atOnce: 1, each: (_, place) => (place === 2 ? {signal: cancelling.signal} : {})});
  await world.until(() => world.underway);
  await rest();
  cancelling.abort();
  await rest();
  assert.deepEqual(world.statuses, ["pending", "pending", "cancelled", "pending"]);
  put.release();

  assert.deepEqual(codes(await sending), ["completed", "completed", "AbortError", "completed"]);
  assert.deepEqual(world.said("DELETE"), ["DELETE u3/ → 204"]);
});

test("cancelled while they are confirmed, all of them end at once", async () => {
  const world = new World();
  const cancelling = new AbortController();
  world.next("POST batch/confirm/", held());
  const sending = send(world, many(6), {signal: cancelling.signal});
  await world.until(() => world.said("PUT").length === 6);
  await rest();
  cancelling.abort();

  assert.deepEqual(codes(await sending), all(6, "AbortError"));
  await rest();
  assert.deepEqual(world.statuses, all(6, "cancelled"));
});

test("paused, the calls that are under way end, and no other is made", async () => {
  const world = new World();
  const begin = held();
  world.next("POST batch/", begin);
  const sending = send(world, many(30));
  await world.until(() => world.requests.length);
  sending.pause();
  begin.release();
  await rest();
  assert.deepEqual(world.asked, ["POST batch/ of 10"]);
  assert.deepEqual(world.said("PUT"), []);

  sending.resume();

  assert.deepEqual(codes(await sending), all(30));
  assert.deepEqual(world.asked.filter((words) => words.startsWith("POST batch/ ")), ["POST batch/ of 10", "POST batch/ of 20"]);
});
