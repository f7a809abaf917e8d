/** What is uploaded need not be a File; and what an error's body is. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {PART_SIZE, World, file, refused} from "./world.mjs";

const drawing = (size) => Object.assign(new Blob([new Uint8Array(size)], {type: "image/png"}), {name: "drawing.png"});

test("a Blob with a name is uploaded like a File", async () => {
  const world = new World();

  const completed = await world.upload(drawing(5));

  const {status, filename, content_type, size} = completed;
  assert.deepEqual([status, filename, content_type, size], ["completed", "drawing.png", "image/png", 5]);
  assert.equal(world.objects.get("u1").length, 5);
});

for (const resume of [undefined, true]) {
  test(`a Blob has no time of change, so it is always begun anew (resume: ${resume})`, async () => {
    const world = new World();

    await world.upload(drawing(2 * PART_SIZE), {resume});

    assert.deepEqual(world.said("GET"), [], "another of this name and size would have the same bytes to it");
  });
}

test("the body of an error is Django's error, or a text", async () => {
  const error = {code: "invalid", detail: "At most 20 MB.", errors: []};
  for (const [answer, body] of [
    [error, error],
    [{detail: "A proxy has no idea of codes."}, '{"detail":"A proxy has no idea of codes."}'],
    ["<h1>Forbidden</h1>", "<h1>Forbidden</h1>"],
  ]) {
    const world = new World();
    world.next("POST /", refused(400, answer));

    await assert.rejects(world.upload(file(5)), (failed) => {
      assert.deepEqual(failed.body, body);
      return true;
    });
  }
});
