/** How Node.js sends, over loopback: files on disk, by openFile or as a Blob. */
import assert from "node:assert/strict";
import {appendFileSync, openAsBlob, truncateSync, unlinkSync, utimesSync, writeFileSync} from "node:fs";
import {mkdtemp, rm, writeFile} from "node:fs/promises";
import {createServer} from "node:http";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {after, afterEach, before, beforeEach, test} from "node:test";
import {pathToFileURL} from "node:url";
import {openFile} from "../../s3direct_uploads/static/s3direct_uploads/node.js";
import {upload} from "../../s3direct_uploads/static/s3direct_uploads/upload.js";
import {MIB, World} from "./world.mjs";

const CONTENT = Buffer.alloc(2 * MIB + 1, "a film, ");
// Nobody waits between two attempts: a delay is a random part of the longest one.
const impatient = {
  now: () => performance.now(),
  setTimeout: (callback, milliseconds) => setTimeout(callback, milliseconds),
  clearTimeout: (timer) => clearTimeout(timer),
  random: () => 0,
};

let world, server, base, folder, path;
let cuts = 0; // how many PUTs more break off

before(async () => {
  server = createServer(serve).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  base = `http://127.0.0.1:${server.address().port}`;
});
after(() => server.close());

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "s3direct-"));
  path = join(folder, "film.png");
  await writeFile(path, CONTENT);
  world = new World();
  world.partSize = MIB;
  world.s3Url = base;
  world.received = [];
  cuts = 0;
});
afterEach(() => rm(folder, {recursive: true}));

async function serve(request, response) {
  const url = new URL(request.url, base);
  if (request.method === "PUT" && cuts-- > 0) return void request.once("data", () => request.socket.destroy());
  if (request.method === "HEAD") return void response.writeHead(403).end(); // it is there
  const content = Buffer.concat(await request.toArray().catch(() => []));
  if (!request.complete) return; // it broke off
  const given =
    request.method === "PUT"
      ? world.s3(url.pathname.slice(1), Number(url.searchParams.get("partNumber")), content, Infinity)
      : world.django(request.method, request.url.slice("/api/uploads/".length), {
          headers: request.headers,
          body: content.length ? JSON.parse(content) : undefined,
        });
  if (request.method === "PUT") world.received.push([request.headers["content-length"], request.headers["content-type"]]);
  response.writeHead(given.status);
  response.end(typeof given.body === "object" ? JSON.stringify(given.body) : given.body);
}

const send = (file, options) =>
  upload(file, {endpoint: `${base}/api/uploads/`, destination: "photos", clock: impatient, ...options});

const KINDS = {
  openFile: () => openFile(path, {type: "image/png"}),
  "openFile of a URL": () => openFile(pathToFileURL(path), {type: "image/png"}),
  Blob: async () => new File([await openAsBlob(path)], "film.png", {type: "image/png"}),
};

for (const [kind, open] of Object.entries(KINDS)) {
  test(`${kind}: one PUT`, async () => {
    const seen = [];

    const completed = await send(await open(), {multipart: false, onProgress: ({loaded}) => seen.push(loaded)});

    assert.deepEqual([completed.status, completed.filename, completed.size], ["completed", "film.png", CONTENT.length]);
    assert.ok(world.objects.get("u1").equals(CONTENT));
    assert.deepEqual(world.received, [[`${CONTENT.length}`, "image/png"]]);
    assert.ok(new Set(seen).size > 3, "it tells what has left");
  });

  test(`${kind}: in parts, of which some break off`, async () => {
    cuts = 2;

    const completed = await send(await open(), {checksum: "CRC32"});

    assert.equal(completed.status, "completed");
    assert.ok(world.objects.get("u1").equals(CONTENT));
    assert.deepEqual(world.received.map(([length]) => Number(length)).sort((one, two) => one - two), [1, MIB, MIB]);
    assert.ok(cuts <= 0);
  });

  for (const [how, change] of Object.entries({
    "made shorter": () => truncateSync(path, 1_000),
    "made longer": () => appendFileSync(path, "more"),
    rewritten: () => (writeFileSync(path, "other", {flag: "r+"}), utimesSync(path, 1, 1)),
    deleted: () => unlinkSync(path),
  })) {
    test(`${kind}: ${how} after it was opened`, async () => {
      const file = await open();
      change();

      for (const checksum of [undefined, "SHA256"]) {
        await assert.rejects(send(file, {checksum}), {name: "UploadError", code: "file_unreadable", step: "begin"});
      }

      assert.equal(world.uploads.size, 0);
    });

    test(`${kind}: ${how} while it is begun`, async () => {
      const file = await open();
      const begin = world.begin.bind(world);
      world.begin = (...declared) => (change(), begin(...declared));

      await assert.rejects(send(file), {name: "UploadError", code: "file_unreadable", step: "send", status: 0});

      assert.deepEqual(world.received, []);
      assert.equal(world.uploads.get("u1").status, "pending");
    });
  }
}

test("a folder is no file, and what is not there is not opened", async () => {
  await assert.rejects(openFile(folder), {name: "NotReadableError"});
  await assert.rejects(openFile(join(folder, "other.png")), {code: "ENOENT"});
});

test("an empty file", async () => {
  truncateSync(path, 0);

  const completed = await send(await openFile(path, {name: "empty.png"}));

  assert.deepEqual([completed.status, completed.filename], ["completed", "empty.png"]);
  assert.equal(world.objects.get("u1").length, 0);
});

test("aborted, the socket is closed and the upload cancelled", async () => {
  const controller = new AbortController();
  const reason = new Error("changed my mind");
  const onProgress = ({loaded}) => loaded && controller.abort(reason);

  await assert.rejects(send(await openFile(path), {multipart: false, signal: controller.signal, onProgress}), reason);

  const isPending = () => world.uploads.get("u1").status === "pending";
  for (let times = 0; times < 2_000 && isPending(); times++) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(world.uploads.get("u1").status, "cancelled");
});
