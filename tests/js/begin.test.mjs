/** Begin: what is declared, what is repeated, and when it is given up. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {World, answerLost, file, lost, refused} from "./world.mjs";

test("a file is begun, sent and confirmed", async () => {
  const world = new World();
  const beach = file(5);

  const completed = await world.upload(beach, {
    context: {album: 12},
    headers: {"X-CSRFToken": "secret"},
    idempotencyKey: "mine",
  });

  assert.deepEqual(world.transcript, ["POST / → 201", "PUT u1 5 bytes → 200", "POST u1/confirm/ → 200"]);
  assert.equal(completed.status, "completed");
  assert.deepEqual(world.objects.get("u1"), beach.bytes);
  const [begin, put, confirm] = world.requests;
  assert.deepEqual(begin.body, {
    destination: "photos",
    filename: "beach.png",
    size: 5,
    content_type: "image/png",
    context: {album: 12},
    multipart: true,
  });
  const ours = {accept: "application/json", "content-type": "application/json", "x-csrftoken": "secret"};
  assert.deepEqual(begin.headers, {...ours, "idempotency-key": "mine"});
  assert.equal(begin.credentials, "same-origin");
  assert.deepEqual(put.headers, {"Content-Type": "image/png", "If-None-Match": "*"}, "and not Django's");
  assert.deepEqual(confirm.headers, ours);
});

test("a begin that does not arrive is repeated with the same key, later and later", async () => {
  const world = new World();
  world.next("POST /", lost, lost, refused(502, "<html>"), refused(503, {code: "bucket_unavailable"}));

  await world.upload(file(5));

  assert.deepEqual(world.transcript, [
    "POST / → no answer",
    "HEAD / → 403", // it is there: what may be wrong is counted
    "1 s pass",
    "POST / → no answer",
    "HEAD / → 403",
    "2 s pass",
    "POST / → 502",
    "4 s pass",
    "POST / → 503 bucket_unavailable",
    "8 s pass",
    "POST / → 201",
    "PUT u1 5 bytes → 200",
    "POST u1/confirm/ → 200",
  ]);
  const begins = world.requests.filter(({words}) => words === "POST /");
  const keys = begins.map(({headers}) => headers["idempotency-key"]);
  assert.match(keys[0], /^[0-9a-f]{32}$/);
  assert.equal(new Set(keys).size, 1);
});

test("a begin whose answer was lost is one upload", async () => {
  const world = new World();
  world.next("POST /", answerLost);

  const completed = await world.upload(file(5));

  assert.equal(completed.id, "u1");
  assert.equal(world.uploads.size, 1);
});

test("two uploads have two keys", async () => {
  const world = new World();

  await Promise.all([world.upload(file(5)), world.upload(file(5))]);

  assert.deepEqual([...world.uploads.keys()], ["u1", "u2"]);
});

test("a delay is a random part of the longest one", async () => {
  const world = new World();
  world.clock.random = () => 0.25;
  world.next("POST /", lost, lost);

  await world.upload(file(5));

  assert.deepEqual(world.said("0"), ["0.25 s pass", "0.5 s pass"]);
});

test("after five attempts it is given up", async () => {
  const world = new World();
  world.next("POST /", lost, lost, lost, lost, lost);

  await assert.rejects(world.upload(file(5)), {
    name: "UploadError",
    step: "begin",
    code: "network_error",
    status: 0,
    message: "The server could not be reached.",
    upload: undefined,
  });

  assert.equal(world.said("POST /").length, 5);
});

test("a server that asks for a wait is waited for, by its body or its header", async () => {
  const world = new World();
  const tooMany = refused(429, {code: "too_many_pending", detail: "Too many.", retry_after: 7});
  world.next("POST /", tooMany, refused(503, "<html>", {"Retry-After": "20"}));

  await world.upload(file(5));

  assert.deepEqual(world.transcript.slice(0, 5), [
    "POST / → 429 too_many_pending",
    "8 s pass", // 7 and a delay of 1
    "POST / → 503",
    "22 s pass", // 20 and a delay of 2
    "POST / → 201",
  ]);
});

test("a server that asks for more than five minutes is not asked again", async () => {
  const world = new World();
  world.next("POST /", refused(429, {code: "throttled", detail: "Tomorrow.", retry_after: 301}));

  await assert.rejects(world.upload(file(5)), {code: "throttled", status: 429, retryAfter: 301});

  assert.deepEqual(world.transcript, ["POST / → 429 throttled"]);
});

for (const code of ["storage_not_s3", "misconfigured"]) {
  test(`503 ${code} does not pass, and is not repeated`, async () => {
    const world = new World();
    world.next("POST /", refused(503, {code, detail: "Look at the settings."}));

    await assert.rejects(world.upload(file(5)), {code, status: 503, message: "Look at the settings."});

    assert.equal(world.transcript.length, 1);
  });
}

for (const [status, code] of [[400, "invalid"], [403, "quota_exceeded"], [409, "idempotency_key_reused"], [413, "too_large"]]) {
  test(`${status} ${code} is not repeated, and tells what Django said`, async () => {
    const world = new World();
    const body = {code, detail: "No.", errors: [{field: "size", code: "too_large"}]};
    world.next("POST /", refused(status, body));

    await assert.rejects(world.upload(file(5)), {step: "begin", code, status, body, message: "No."});

    assert.equal(world.transcript.length, 1);
  });
}

test("a login page that a redirect led to is no answer of Django's", async () => {
  const world = new World();
  world.next("POST /", refused(200, "<html>Sign in</html>"));

  await assert.rejects(world.upload(file(5)), {code: "unexpected_answer", status: 200, body: "<html>Sign in</html>"});
});

test("headers are asked for anew before each request", async () => {
  const world = new World();
  let times = 0;

  await world.upload(file(5), {headers: async () => ({Authorization: `Bearer ${++times}`}), credentials: "omit"});

  const toDjango = world.requests.filter(({words}) => words.startsWith("POST"));
  assert.deepEqual(toDjango.map(({headers}) => headers.authorization), ["Bearer 1", "Bearer 2"]);
  assert.deepEqual(toDjango.map(({credentials}) => credentials), ["omit", "omit"]);
});

test("onBegun gets the upload before anything is sent, and the signed URL is not in it", async () => {
  const world = new World();
  const told = [];

  await world.upload(file(5), {onBegun: (upload) => told.push([upload.id, upload.status, "request" in upload, ...world.transcript])});

  assert.deepEqual(told, [["u1", "pending", false, "POST / → 201"]]);
});

test("with its key a failed upload is taken up where it failed", async () => {
  const world = new World();
  const beach = file(5);
  world.next("POST u1/confirm/", refused(403, {code: "not_authenticated", detail: "Sign in."}));
  await assert.rejects(world.upload(beach, {idempotencyKey: "mine"}), ({step, upload}) => {
    assert.equal(step, "confirm");
    assert.equal(upload.id, "u1");
    assert.ok(!("request" in upload), "what is signed is in no error");
    return true;
  });

  const completed = await world.upload(beach, {idempotencyKey: "mine"});

  assert.equal(completed.id, "u1");
  assert.deepEqual(world.transcript.slice(-3), [
    "POST / → 201",
    "PUT u1 5 bytes → 412 PreconditionFailed", // it is there already
    "POST u1/confirm/ → 200",
  ]);
});

test("with the key of a completed upload nothing is sent", async () => {
  const world = new World();
  const beach = file(5);
  await world.upload(beach, {idempotencyKey: "mine"});
  world.transcript.length = 0;

  const completed = await world.upload(beach, {idempotencyKey: "mine"});

  assert.equal(completed.id, "u1");
  assert.deepEqual(world.transcript, ["POST / → 201"]);
});
