/** Which interrupted upload is gone on with: the one of this very file, or none. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {beforeEach, test} from "node:test";
import {MIB, PART_SIZE, World, file, held, refused, refusedByS3} from "./world.mjs";

const SIZE = 2 * PART_SIZE + 1; // three parts
const FORBIDDEN = refusedByS3(403, "AccessDenied");

/** What a browser remembers, reloaded or not. */
class Memory {
  getItem = (name) => this[name] ?? null;
  setItem = (name, value) => (this[name] = value);
  removeItem = (name) => delete this[name];
}

const remembered = () => Object.keys(globalThis.localStorage).filter((name) => name.startsWith("s3direct"));

beforeEach(() => (globalThis.localStorage = new Memory()));

/** Of this film, S3 has the first part; Django has the row u1. */
async function interrupted(film, options) {
  const world = new World();
  world.next("PUT u1 part 2", FORBIDDEN, FORBIDDEN);
  await assert.rejects(world.upload(film, {parallel: 1, ...options}), {code: "AccessDenied"});
  world.transcript.length = 0;
  return world;
}

const GONE_ON_WITH = [
  `GET ?status=pending&destination=photos&size=${SIZE} → 200`,
  "POST u1/renew/ → 200",
  "GET u1/parts/ → 200",
  `PUT u1 part 2, ${PART_SIZE} bytes → 200`,
  "PUT u1 part 3, 1 bytes → 200",
  "POST u1/confirm/ → 200",
];

test("what this browser remembers is gone on with, and what S3 has is not sent again", async () => {
  const film = file(SIZE);
  const world = await interrupted(film);
  assert.deepEqual(remembered(), ["s3direct-uploads:u1"]);
  const seen = [];

  const completed = await world.upload(file(SIZE), {onProgress: ({loaded, phase}) => seen.push([phase, loaded])});

  assert.deepEqual(world.transcript, GONE_ON_WITH);
  assert.equal(completed.id, "u1");
  assert.ok(world.objects.get("u1").equals(film.bytes));
  assert.deepEqual(seen.find(([, loaded]) => loaded), ["begin", PART_SIZE], "which is there already");
  assert.deepEqual(remembered(), [], "it is over");
});

test("what Django stored in another form is the same upload to this browser", async () => {
  const world = await interrupted(file(SIZE, {name: "bea\u202ech.png", type: "image/PNG; a=b"}));
  Object.assign(world.uploads.get("u1"), {filename: "beach.png", content_type: "image/png"});

  const completed = await world.upload(file(SIZE, {name: "bea\u202ech.png", type: "image/PNG; a=b"}));

  assert.equal(completed.id, "u1");
  assert.deepEqual(world.transcript, GONE_ON_WITH);
});

for (const [what, other] of [
  ["modified at another time", [SIZE, {lastModified: 2_000}]],
  ["of another name", [SIZE, {name: "other.png"}]],
  ["of another type", [SIZE, {type: "image/jpeg"}]],
  ["of another size", [SIZE + 1]],
]) {
  test(`a file ${what} is another file, and another upload, even if it is told to go on`, async () => {
    for (const resume of [undefined, true]) {
      globalThis.localStorage = new Memory();
      const world = await interrupted(file(SIZE));

      const completed = await world.upload(file(...other), {resume});

      assert.equal(completed.id, "u2");
      assert.equal(world.uploads.get("u1").status, "pending");
    }
  });
}

for (const [what, options] of [
  ["for another context", {context: {album: 12}}],
  ["with another checksum", {checksum: {algorithm: "CRC32", value: "AAAAAA=="}}],
]) {
  test(`an upload ${what} is another upload`, async () => {
    const world = await interrupted(file(SIZE));

    const completed = await world.upload(file(SIZE), options);

    assert.equal(completed.id, "u2");
  });
}

test("what this browser does not remember is not gone on with", async () => {
  const world = await interrupted(file(SIZE));
  globalThis.localStorage = new Memory();

  const completed = await world.upload(file(SIZE));

  assert.equal(completed.id, "u2");
});

test("told to go on, it goes by size, name, context and age", async () => {
  const world = await interrupted(file(SIZE), {context: {album: 12, by: {name: "alice", id: 1}}});
  delete globalThis.localStorage; // Node.js
  // As PostgreSQL returns it, and in the form in which Django stores types.
  const stored = {context: {by: {id: 1, name: "alice"}, album: 12}, content_type: "image/x-png"};
  Object.assign(world.uploads.get("u1"), stored);

  const context = {album: 12, by: {name: "alice", id: 1}};
  const completed = await world.upload(file(SIZE), {context, resume: true});

  assert.equal(completed.id, "u1");
  assert.deepEqual(world.transcript.slice(0, 3), [
    `GET ?status=pending&destination=photos&size=${SIZE} → 200`,
    `GET ?status=pending&destination=photos&size=${SIZE}&filename=beach.png → 200`,
    "POST u1/renew/ → 200",
  ]);
});

for (const [what, other, options] of [
  ["was modified since it began", [SIZE, {lastModified: Date.parse("2026-02-01")}]],
  ["has another name", [SIZE, {name: "other.png"}]],
  ["has another size", [SIZE + 1]],
  ["is for another context", [SIZE], {context: {album: 13}}],
  ["is for another destination", [SIZE], {destination: "films"}],
]) {
  test(`told to go on, it begins anew where the file ${what}`, async () => {
    const world = await interrupted(file(SIZE));
    delete globalThis.localStorage;

    const completed = await world.upload(file(...other), {resume: true, ...options});

    assert.equal(completed.id, "u2");
  });
}

test("told not to go on, it does not even ask", async () => {
  const world = await interrupted(file(SIZE));

  const completed = await world.upload(file(SIZE), {resume: false});

  assert.equal(completed.id, "u2");
  assert.deepEqual(world.said("GET"), []);
});

test("a file that S3 takes in no parts is not asked about", async () => {
  const world = new World();

  await world.upload(file(5 * MIB));
  await world.upload(file(6 * MIB), {multipart: false});

  assert.deepEqual(world.said("GET"), []);
});

test("what this page is at already is not gone on with", async () => {
  const world = new World();
  const holding = held();
  world.next("PUT u1 part 1", holding);
  const first = world.upload(file(SIZE));
  await world.until(() => world.underway === 1 && world.said("PUT").length === 2);

  const second = await world.upload(file(SIZE));

  holding.release();
  assert.deepEqual([(await first).id, second.id], ["u1", "u2"]);
});

test("what was settled meanwhile is begun anew", async () => {
  const world = await interrupted(file(SIZE));
  world.next("POST u1/renew/", refused(410, {code: "not_pending", detail: "It is over."}));

  const completed = await world.upload(file(SIZE));

  assert.equal(completed.id, "u2");
});

test("what S3 has put together meanwhile is only confirmed", async () => {
  const world = await interrupted(file(SIZE));
  world.next("GET u1/parts/", async () => {
    world.complete("u1");
    return refused(410, {code: "multipart_gone", detail: "The parts are gone."})();
  });

  const completed = await world.upload(file(SIZE));

  assert.equal(completed.id, "u1");
  assert.deepEqual(world.transcript.slice(2), ["GET u1/parts/ → 410 multipart_gone", "POST u1/confirm/ → 200"]);
});

test("a part that is of another size is sent again", async () => {
  const world = await interrupted(file(SIZE));
  world.parts.get("u1").set(1, new Uint8Array(3));

  await world.upload(file(SIZE));

  assert.equal(world.said("PUT u1 part 1").length, 1);
});

test("a browser whose memory is full, or forbidden, begins anew", async () => {
  globalThis.localStorage = {};
  const world = await interrupted(file(SIZE));

  const completed = await world.upload(file(SIZE));

  assert.equal(completed.id, "u2");
});
