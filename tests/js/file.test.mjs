/** Files that change or vanish after they were chosen; and their checksums. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {createHash} from "node:crypto";
import {test} from "node:test";
import {MIB, World, file, held, lost} from "./world.mjs";

const UNREADABLE = {name: "UploadError", code: "file_unreadable", status: 0};
const CHANGES = ["change", "delete", "shorten"];

for (const change of CHANGES) {
  for (const checksum of [undefined, "CRC32", "SHA256"]) {
    test(`before it is begun: ${change}, checksum ${checksum}`, async () => {
      const world = new World();
      const beach = file(5);
      beach[change](2);

      await assert.rejects(world.upload(beach, {checksum}), {...UNREADABLE, step: "begin"});

      assert.deepEqual(world.transcript, [], "no upload is begun");
    });
  }

  test(`while it is begun: ${change}`, async () => {
    const world = new World();
    const beach = file(5);
    world.next("POST /", (_world, _signal, answer) => (beach[change](2), answer()));

    await assert.rejects(world.upload(beach), {...UNREADABLE, step: "send"});

    assert.deepEqual(world.transcript, ["POST / → 201"], "nothing is sent");
    assert.equal(world.uploads.get("u1").status, "pending");
  });
}

test("the error tells its cause, and which upload it was", async () => {
  const world = new World();
  const beach = file(5);
  world.next("POST /", (_world, _signal, answer) => (beach.change(), answer()));

  await assert.rejects(world.upload(beach), ({cause, upload, message}) => {
    assert.deepEqual([cause.name, upload.id], ["NotReadableError", "u1"]);
    assert.equal(message, "The file was changed, moved or deleted after it was chosen. Choose it again. A folder cannot be uploaded.");
    return true;
  });
});

for (const readsLate of [false, true]) {
  test(`between two parts, and send ${readsLate ? "tells no reason" : "rejects"}`, async () => {
    const world = new World();
    world.partSize = 1;
    world.readsLate = readsLate;
    const film = file(9);
    world.next("PUT u1 part 2", (_world, _signal, answer) => (film.change(), answer()));

    await assert.rejects(world.upload(film, {parallel: 1}), {...UNREADABLE, step: "send"});

    assert.deepEqual(world.said("PUT"), ["PUT u1 part 1, 1 bytes → 200", "PUT u1 part 2, 1 bytes → no answer"]);
    assert.equal(world.uploads.get("u1").status, "pending", "if it comes back it is gone on with");
  });
}

test("the other parts under way are stopped", async () => {
  const world = new World();
  world.partSize = 1;
  const film = file(9);
  world.next("PUT u1 part 1", (_world, _signal, answer) => (film.change(), answer()));
  world.next("PUT u1", held(), held(), held());

  await assert.rejects(world.upload(film), {...UNREADABLE, step: "send"});

  assert.equal(world.said("PUT").filter((line) => line.endsWith("aborted")).length, 3);
});

test("changed while its last bytes left, it is cancelled: S3 may have half the one, half the other", async () => {
  const world = new World();
  const beach = file(5);
  world.next("PUT u1", async (_world, _signal, answer) => {
    const given = await answer();
    beach.change();
    return given;
  });

  await assert.rejects(world.upload(beach), {...UNREADABLE, step: "confirm"});

  assert.deepEqual(world.transcript, ["POST / → 201", "PUT u1 5 bytes → 200", "DELETE u1/ → 204"]);
  assert.equal(world.uploads.get("u1").status, "cancelled");
});

test("deleted when all of it was sent, it is confirmed", async () => {
  const world = new World();
  const beach = file(5);
  world.next("PUT u1", async (_world, _signal, answer) => {
    const given = await answer();
    beach.delete();
    return given;
  });

  assert.equal((await world.upload(beach)).status, "completed");
});

test("a network that broke is repeated: the file is there", async () => {
  const world = new World();
  world.next("PUT u1", lost);

  assert.equal((await world.upload(file(5))).status, "completed");
});

for (const checksum of [undefined, "CRC32"]) {
  test(`a folder that was dropped is not sent as an empty file, checksum ${checksum}`, async () => {
    const world = new World();
    const folder = file(0, {name: "Holidays", type: ""}); // on Windows it has no size, on Linux 4096 bytes
    folder.delete(); // as Chromium says it: NotFoundError

    await assert.rejects(world.upload(folder, {checksum}), {...UNREADABLE, step: "begin", message: /A folder cannot be uploaded/});

    assert.deepEqual(world.transcript, [], "no upload is begun");
  });
}

test("an empty file is sent", async () => {
  const world = new World();

  await world.upload(file(0));

  assert.deepEqual(world.said("PUT"), ["PUT u1 0 bytes → 200"]);
});

// Checksums

for (const [algorithm, size, expected] of [
  ["CRC32", 0, "AAAAAA=="],
  ["SHA256", 0, null],
  ["SHA256", 55, null], // the most that goes into one block
  ["SHA256", 56, null],
  ["SHA256", 64, null],
  ["SHA256", 9 * MIB + 1, null], // in three pieces
]) {
  test(`${algorithm} of ${size} bytes is computed and declared`, async () => {
    const world = new World();
    const film = file(size);

    await world.upload(film, {checksum: algorithm});

    const value = expected ?? createHash("sha256").update(film.bytes).digest("base64");
    const [begin] = world.requests.filter(({words}) => words === "POST /");
    assert.deepEqual(begin.body.checksum, {algorithm, value});
  });
}

test("CRC32 of 123456789 is cbf43926", async () => {
  const {checksum} = await import("../../s3direct_uploads/static/s3direct_uploads/checksum.js");

  const {value} = await checksum("CRC32", new Blob(["123456789"]));

  assert.equal(Buffer.from(value, "base64").toString("hex"), "cbf43926");
});

test("there is no checksum of a file that became shorter", async () => {
  const {checksum} = await import("../../s3direct_uploads/static/s3direct_uploads/checksum.js");
  const film = file(9 * MIB);
  film.shorten(5 * MIB);

  await assert.rejects(checksum("CRC32", film), {name: "NotReadableError"});
});

test("aborted before the worker starts, it does not wait for the worker", async (t) => {
  class Silent {
    postMessage() {}
    terminate() {}
  }
  t.after(() => delete globalThis.Worker);
  globalThis.Worker = Silent;
  const world = new World();
  const controller = new AbortController();
  const film = file(5);
  const slice = film.slice;
  film.slice = (...range) => (controller.abort(), slice(...range)); // while it is read for the first time

  const uploading = world.upload(film, {checksum: "CRC32", signal: controller.signal});

  await assert.rejects(uploading, {name: "AbortError"});
  assert.deepEqual(world.transcript, []);
});

test("a checksum that the caller knows is declared as it is", async () => {
  const world = new World();

  await world.upload(file(5), {checksum: {algorithm: "CRC64NVME", value: "AAAAAAAAAAA="}});

  assert.deepEqual(world.requests[0].body.checksum, {algorithm: "CRC64NVME", value: "AAAAAAAAAAA="});
});
