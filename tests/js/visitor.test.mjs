/** A page without a login: the token that begin told goes with every later request to Django, and never to S3. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {beforeEach, test} from "node:test";
import {PART_SIZE, World, file, refused, refusedByS3} from "./world.mjs";

const TOKEN = "u1:mac";

beforeEach(() => delete globalThis.localStorage);

function world() {
  return Object.assign(new World(), {isVisitor: true});
}

/** Of each request: its words, and the token it had. */
const tokens = ({requests}) => requests.map(({words, headers}) => [words, headers["upload-token"]]);

test("a small file: the token goes to Django from confirm on", async () => {
  const here = world();
  const completed = await here.upload(file(3));
  assert.equal(completed.status, "completed");
  assert.deepEqual(tokens(here), [
    ["POST /", undefined],
    ["PUT u1 3 bytes", undefined],
    ["POST u1/confirm/", TOKEN],
  ]);
});

test("a large file: the refused list of uploads stops nothing, and nothing is remembered", async () => {
  const remembered = {};
  globalThis.localStorage = {getItem: (name) => remembered[name] ?? null, setItem: (name, value) => (remembered[name] = value), removeItem() {}};
  const here = world();
  here.next("PUT u1 part 1", refusedByS3(403, "AccessDenied")); // so that it asks for another URL
  const completed = await here.upload(file(2 * PART_SIZE), {parallel: 1});
  assert.equal(completed.status, "completed");
  assert.deepEqual(tokens(here), [
    [`GET ?status=pending&destination=photos&size=${2 * PART_SIZE}`, undefined],
    ["POST /", undefined],
    [`PUT u1 part 1, ${PART_SIZE} bytes`, undefined],
    ["POST u1/parts/", TOKEN],
    [`PUT u1 part 1, ${PART_SIZE} bytes`, undefined],
    [`PUT u1 part 2, ${PART_SIZE} bytes`, undefined],
    ["POST u1/confirm/", TOKEN],
  ]);
  assert.deepEqual(remembered, {}, "a token in localStorage would outlive the visit");
});

test("what begins by a headers function keeps those headers beside the token", async () => {
  const here = world();
  await here.upload(file(3), {headers: () => ({"X-CSRFToken": "c"})});
  const [{headers}] = here.requests.slice(-1);
  assert.deepEqual([headers["x-csrftoken"], headers["upload-token"]], ["c", TOKEN]);
});

test("cancelling sends the token", async () => {
  const here = world();
  const controller = new AbortController();
  here.next("PUT u1", async () => (controller.abort(), null));
  await assert.rejects(here.upload(file(3), {signal: controller.signal}));
  await here.until(() => here.said("DELETE u1/").length);
  assert.deepEqual(tokens(here).slice(-1), [["DELETE u1/", TOKEN]]);
  assert.equal(here.uploads.get("u1").status, "cancelled");
});

test("the same file again, with the same key, has its token again", async () => {
  const here = world();
  const idempotencyKey = "0".repeat(32);
  here.next("POST u1/confirm/", refused(404, {code: "not_found", detail: "?"}));
  await assert.rejects(here.upload(file(3), {idempotencyKey}), {code: "not_found"});
  assert.equal((await here.upload(file(3), {idempotencyKey})).status, "completed");
  assert.deepEqual(tokens(here).slice(-1), [["POST u1/confirm/", TOKEN]]);
});

test("a refused list is a refused upload, if begin is refused too", async () => {
  const here = world();
  here.next("POST /", refused(401, {code: "not_authenticated", detail: "Who?"}));
  await assert.rejects(here.upload(file(2 * PART_SIZE)), {code: "not_authenticated", step: "begin"});
});

test("a user's upload sends no token: pages on other origins would need leave for the header", async () => {
  const here = new World();
  await here.upload(file(3));
  assert.ok(here.requests.every(({headers}) => !("upload-token" in headers)));
});
