/** Outages: the upload waits for hours, sends nothing in vain, gives up what stalls, and says what it is doing. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {afterEach, test} from "node:test";
import {LIFE, World, answerLost, file, held, lost, refused, refusedByS3, silent} from "./world.mjs";

const HOUR = 3_600; // seconds
const BOTH = ["S3", "Django"];
const WAYS = {"is offline": lost, "swallows everything": silent};

const hoursOf = (world) => world.clock.now() / 1_000 / HOUR;
const times = (count, fault) => Array.from({length: count}, () => fault);

/** A world in which something happens at the first request of these words: half of its body has been sent. */
function worldWhere(words, happens, {partSize = 1} = {}) {
  const world = new World();
  world.partSize = partSize;
  world.next(words, (_world, signal, answer) => {
    answer.half?.();
    happens(world);
    const fault = world.outageOf(words.startsWith("PUT") ? "S3" : "Django");
    return fault ? fault(world, signal, answer) : answer();
  });
  return world;
}

/** How often each part, or the whole file, was sent, or was begun to be. */
const putsOf = (world) => world.said("PUT").length;

for (const [way, fault] of Object.entries(WAYS)) {
  for (const servers of [BOTH, ["S3"], ["Django"]]) {
    for (const [kind, size, partSize, most] of [["in parts", 40, 1, 4], ["in one PUT", 5, 100, 1]]) {
      test(`${servers.join(" and ")}: the network ${way} for five hours, ${kind}`, async () => {
        const world = worldWhere(kind === "in parts" ? "PUT u1 part 20" : "PUT u1", (it) => it.away(servers, 5 * HOUR, fault), {partSize});
        const film = file(size);

        const completed = await world.upload(film);

        assert.equal(completed.status, "completed");
        assert.deepEqual(Buffer.from(world.objects.get("u1")), Buffer.from(film.bytes));
        const once = Math.ceil(size / partSize);
        assert.ok(putsOf(world) <= once + most, `${putsOf(world)} PUTs: only what was under way is sent again`);
        const isWaitedFor = servers.includes("S3") || kind === "in one PUT";
        if (isWaitedFor) assert.ok(hoursOf(world) >= 5 && hoursOf(world) < 5.2, `${hoursOf(world)} hours`);
      });
    }
  }
}

for (const [what, words, options] of [
  ["the URLs of parts", "POST u1/parts/", {}],
  ["confirm", "POST u1/confirm/", {}],
  ["which parts are there", "GET u1/parts/", {idempotencyKey: "mine"}],
]) {
  test(`Django is away for two hours when it is asked for ${what}`, async () => {
    const world = worldWhere(words, (it) => it.away(["Django"], 2 * HOUR));

    const completed = await world.upload(file(150), options);

    assert.equal(completed.status, "completed");
    assert.ok(hoursOf(world) >= 2);
    assert.equal(putsOf(world), 150, "and no part is sent twice");
  });
}

test("a new URL for one PUT is waited for as long", async () => {
  const world = worldWhere("PUT u1", (it) => (it.away(BOTH, 3 * HOUR), it.clock.pass(HOUR)), {partSize: 100});

  await world.upload(file(5));

  assert.ok(world.said("POST u1/renew/ → 200").length);
  assert.ok(putsOf(world) <= 3);
});

test("after an outage of S3 the URLs are used that it did not refuse: Django may still be away", async () => {
  const world = worldWhere("PUT u1 part 5", (it) => {
    it.away(["S3"], 60);
    it.away(["Django"], 300);
  });
  world.next("POST u1/confirm/", (it, _signal, answer) => ((it.at = it.clock.now() / 1_000), lost()));

  await world.upload(file(40));

  assert.ok(world.at < 100, "all parts are sent before Django is back");
  assert.deepEqual(world.said("POST u1/parts/"), []);
});

test("errors of the servers are outlasted as well", async () => {
  for (const [words, fault] of [["PUT u1", refusedByS3(503, "SlowDown")], ["POST u1/confirm/", refused(502, "<html>")]]) {
    const world = new World();
    world.next(words, ...times(30, fault));

    assert.equal((await world.upload(file(5))).status, "completed");
  }
});

test("a wait of more than five minutes that Django asks for is waited, once the upload has begun", async () => {
  const world = new World();
  world.next("POST u1/confirm/", refused(429, {code: "throttled", detail: "Later.", retry_after: 1_000}));

  await world.upload(file(5));

  assert.deepEqual(world.transcript.slice(-3), ["POST u1/confirm/ → 429 throttled", "1001 s pass", "POST u1/confirm/ → 200"]);
});

test("no wait is waited that ends after the deadline", async () => {
  const world = new World();
  world.next("POST u1/confirm/", refused(429, {code: "throttled", detail: "Next week.", retry_after: 7 * LIFE}));

  await assert.rejects(world.upload(file(5)), {code: "throttled"});
});

for (const partSize of [1, 100]) {
  test(`it ends when its deadline has passed, and not before, in parts of ${partSize}`, async () => {
    const world = worldWhere("PUT u1", (it) => it.away(BOTH, 3 * LIFE), {partSize});
    world.next("PUT u1", refusedByS3(503, "SlowDown"));

    await assert.rejects(world.upload(file(9), {parallel: 1}), ({code, step, message, upload, cause}) => {
      assert.deepEqual([code, step, upload.id], ["deadline_passed", "send", "u1"]);
      assert.match(message, /^The upload's deadline has passed\./);
      return cause === undefined;
    });

    assert.equal(hoursOf(world), LIFE / HOUR);
    assert.ok(putsOf(world) <= 2);
  });
}

test("what Django refuses for good is the end, also after an outage", async () => {
  const world = worldWhere("POST u1/confirm/", (it) => it.away(["Django"], HOUR));
  world.next("POST u1/confirm/", ...times(5, lost), refused(403, {code: "not_authenticated", detail: "Sign in."}));

  await assert.rejects(world.upload(file(5)), {step: "confirm", code: "not_authenticated", status: 403});
});

test("what its deadline ended at Django meanwhile ends here", async () => {
  const world = worldWhere("PUT u1 part 2", (it) => {
    it.away(BOTH, 2 * HOUR);
    it.uploads.get("u1").status = "expired";
  });

  await assert.rejects(world.upload(file(9), {parallel: 1}), {step: "confirm", code: "not_pending", status: 410});
});

test("aborted while it waits, it ends at once", async () => {
  const controller = new AbortController();
  const onProgress = ({phase}) => phase === "waiting" && controller.abort();
  for (const words of ["PUT u1", "POST u1/confirm/"]) {
    const world = worldWhere(words, (it) => it.away(BOTH, 5 * HOUR));

    await assert.rejects(world.upload(file(5), {signal: controller.signal, onProgress}), {name: "AbortError"});

    assert.ok(world.clock.now() < 10_000);
  }
});

test("paused and resumed while it waits, it tries at once", async () => {
  const world = worldWhere("PUT u1", (it) => it.away(BOTH, HOUR), {partSize: 100});
  let uploading;
  const onProgress = ({phase}) => {
    if (phase !== "waiting" || world.clock.now() < 20_000 || !world.outages.length) return;
    world.outages = []; // it is back, and the user knows
    world.at = world.clock.now();
    uploading.pause();
    uploading.resume();
  };

  uploading = world.upload(file(5), {onProgress});
  await uploading;

  assert.ok(world.at);
  assert.ok(world.clock.now() - world.at <= 1_000);
});

test("the browser's word that the network is back ends the wait", async (t) => {
  const page = new EventTarget();
  for (const name of ["addEventListener", "removeEventListener"]) {
    globalThis[name] = page[name].bind(page);
    t.after(() => delete globalThis[name]);
  }
  const world = worldWhere("PUT u1", (it) => {
    it.away(BOTH, 100);
    it.clock.setTimeout(() => page.dispatchEvent(new Event("online")), 100_000);
  }, {partSize: 100});

  await world.upload(file(5));

  assert.equal(world.clock.now(), 100_000, "to the second; without it, half a minute may pass");
});

test("where the browser wrongly says that it is offline, the upload goes on", async (t) => {
  Object.defineProperty(globalThis, "navigator", {value: {onLine: false}, configurable: true, writable: true});
  t.after(() => delete globalThis.navigator);
  const world = new World();
  world.next("POST /", lost);
  world.next("PUT u1", lost);

  await world.upload(file(5));

  assert.ok(world.clock.now() < 10_000);
});

test("chosen while the browser is offline, it is begun when the network is back", async (t) => {
  Object.defineProperty(globalThis, "navigator", {value: {onLine: false}, configurable: true, writable: true});
  t.after(() => delete globalThis.navigator);
  const world = new World();
  world.away(BOTH, 2 * HOUR);

  await world.upload(file(5));

  assert.ok(hoursOf(world) >= 2);
});

test("the next file of a page is begun after the outage, too: Django has answered this page before", async () => {
  const world = new World();
  await world.upload(file(5));
  world.away(BOTH, 2 * HOUR);

  assert.equal((await world.upload(file(7))).id, "u2");
});

test("a storage that never answered is waited for while Django is away, too", async () => {
  const world = new World();
  world.next("PUT u1", (it) => (it.away(BOTH, 5 * HOUR), null));

  assert.equal((await world.upload(file(5))).status, "completed");
});

test("a storage that never answers while Django does may be a wrong address: five attempts", async () => {
  const world = new World();
  world.away(["S3"], 5 * HOUR);

  await assert.rejects(world.upload(file(5)), {code: "network_error", message: /bucket's CORS rules/});

  assert.equal(putsOf(world), 1, "and nothing is sent in vain");
  assert.ok(world.clock.now() < 60_000);
});

test("a storage whose answers the page never can read is not sent the file for ever", async () => {
  const world = new World();
  world.next("PUT u1", ...times(99, answerLost));

  await assert.rejects(world.upload(file(5)), {code: "network_error", message: /bucket's CORS rules/});

  assert.equal(putsOf(world), 5);
});

test("a storage that took bytes is outlasted: its CORS rules allow the page", async () => {
  const world = new World();
  const cut = (_world, _signal, answer) => (answer.half(), null);
  world.next("PUT u1", ...times(20, cut));

  await world.upload(file(5));

  assert.equal(putsOf(world), 21);
});

// What stalls

/** It sends a byte each so many seconds. */
const trickle = (seconds) => async (world, signal, answer) => {
  for (let sent = 1; sent < 5; sent++) {
    await new Promise((resolve) => world.clock.setTimeout(resolve, seconds * 1_000));
    if (signal.aborted) return null;
    world.onLoaded(sent);
  }
  return answer();
};

test("a PUT without progress is given up after 30 seconds, and sent again; then it has a minute", async () => {
  const world = new World();
  world.next("PUT u1", silent, silent);

  await world.upload(file(5));

  assert.deepEqual(world.transcript.slice(1, -1), [
    "30 s pass",
    "PUT u1 5 bytes → aborted",
    "HEAD S3 → 403",
    "1 s pass",
    "POST u1/renew/ → 200",
    "60 s pass",
    "PUT u1 5 bytes → aborted",
    "HEAD S3 → 403",
    "2 s pass",
    "PUT u1 5 bytes → 200",
  ]);
});

test("however long nothing was answered, it is noticed soon that the network is back", async () => {
  for (const words of ["PUT u1", "POST u1/confirm/"]) {
    const world = worldWhere(words, (it) => it.away(BOTH, 5 * HOUR, silent), {partSize: 100});

    await world.upload(file(5));

    assert.ok(world.clock.now() / 1_000 - 5 * HOUR <= 4 * 30 + 30, `${world.clock.now() / 1_000 - 5 * HOUR} s`);
  }
});

test("a question to Django without an answer is asked again", async () => {
  for (const words of ["POST /", "POST u1/confirm/"]) {
    const world = new World();
    world.next(words, silent);

    await world.upload(file(5), {stallTimeout: 7_000});

    assert.deepEqual(world.said("7 s pass"), ["7 s pass"]);
    assert.equal(world.said(`${words} →`).length, 2);
    assert.equal(world.uploads.size, 1);
  }
});

test("a slow PUT is not given up", async () => {
  const world = new World();
  const put = world.put.bind(world);
  world.put = (request, body, signal, onLoaded) => {
    world.onLoaded = onLoaded;
    return put(request, body, signal, onLoaded);
  };
  world.next("PUT u1", trickle(29));

  await world.upload(file(5));

  assert.equal(putsOf(world), 1);
});

test("for the answer to a body it waits as long again as the body took: a proxy may pass it on only then", async () => {
  const world = new World();
  world.next("PUT u1", async (it, signal, answer) => {
    const wait = (seconds) => new Promise((resolve) => it.clock.setTimeout(resolve, seconds * 1_000));
    await wait(25);
    const given = await answer(); // tells of all of its bytes
    await wait(50);
    return signal.aborted ? null : given;
  });

  await world.upload(file(5));

  assert.equal(putsOf(world), 1);
});

// What a page can show

test("while it waits it says so, and after that it sends", async () => {
  const world = worldWhere("PUT u1 part 5", (it) => it.away(BOTH, 60));
  const phases = [];
  const onProgress = ({phase}) => phases[phases.length - 1] !== phase && phases.push(phase);

  await world.upload(file(9), {parallel: 1, onProgress});

  assert.deepEqual(phases, ["begin", "send", "waiting", "send", "confirm"]);
});

test("when nothing moves the speed and the time that is left fall to nothing, and it is stalled", async () => {
  const world = new World();
  world.partSize = 100;
  const seen = [];
  const second = (_world, signal, answer) => new Promise((resolve) => world.clock.setTimeout(() => resolve(answer()), 1_000));
  world.next("PUT u1", second, second, silent);

  await world.upload(file(400), {parallel: 1, onProgress: (each) => seen.push({at: world.clock.now() / 1_000, ...each})});

  const at = (second) => seen.filter((each) => each.at === second).pop();
  assert.deepEqual([at(2).phase, at(2).bytesPerSecond > 0], ["send", true]);
  assert.ok(at(8).bytesPerSecond < at(4).bytesPerSecond);
  assert.ok(at(8).secondsLeft > at(4).secondsLeft);
  const {phase, bytesPerSecond, secondsLeft, loaded} = at(20);
  assert.deepEqual([phase, bytesPerSecond, secondsLeft, loaded], ["stalled", 0, null, 200]);
  assert.equal(seen[seen.length - 1].phase, "confirm");
});

test("what is paused is not stalled", async () => {
  const world = new World();
  const phases = new Set();
  world.next("PUT u1", held());
  const uploading = world.upload(file(5), {onProgress: ({phase}) => phases.add(phase)});
  await world.until(() => world.underway === 1);

  uploading.pause();
  await world.until(() => world.clock.now() > 60_000);
  uploading.resume();
  await uploading;

  assert.deepEqual([...phases], ["begin", "send", "confirm"]);
});

test("no timer is left behind", async () => {
  const world = new World();
  await world.upload(file(5), {onProgress: () => {}});
  world.next("PUT u2", refusedByS3(400, "BadDigest"));
  await assert.rejects(world.upload(file(5), {onProgress: () => {}}));

  assert.equal(world.clock.waiting, 0);
});

// What is not the network

for (const change of ["change", "delete", "shorten"]) {
  for (const checksum of [undefined, "CRC32"]) {
    test(`a file that is lost in an outage is told, not the network: ${change}, checksum ${checksum}`, async () => {
      const beach = file(5);
      const world = worldWhere("PUT u1", (it) => {
        it.away(BOTH, 5 * HOUR);
        it.clock.setTimeout(() => beach[change](2), HOUR * 1_000);
      }, {partSize: 100});

      await assert.rejects(world.upload(beach, {checksum}), {code: "file_unreadable", step: "send"});

      assert.ok(hoursOf(world) < 1.02, "within the half minute until the next probe");
    });
  }
}

test("a part that fails ends the upload, although others wait for their URLs from a Django that is away", async () => {
  const world = new World();
  world.partSize = 1;
  const film = file(120);
  world.next("PUT u1 part 100", (it) => {
    it.away(["Django"], 5 * HOUR);
    return new Promise((resolve) => it.clock.setTimeout(() => resolve(film.change() && null), 60_000));
  });
  world.next("POST u1/parts/", ...times(3, lost)); // those ahead of time

  await assert.rejects(world.upload(film), {code: "file_unreadable", step: "send"});

  assert.ok(world.clock.now() < 100_000);
});

test("a function for headers that needs the network is waited for, and its own errors are told", async () => {
  const world = new World();
  const failing = [null, new TypeError("fetch failed"), new TypeError("fetch failed"), null];
  const headers = async () => {
    const error = failing.shift();
    if (error) throw error;
    return {};
  };
  assert.equal((await world.upload(file(5), {headers})).status, "completed");

  failing.push(null, new Error("signed out"));
  await assert.rejects(world.upload(file(5), {headers}), {message: "signed out"});
});

test("a Django on another origin that does not answer: its CORS settings may be wrong, and the message says so", async (t) => {
  const world = new World();
  t.after(() => delete globalThis.location);
  for (const [href, named] of [["https://www.example.com/form", false], ["https://shop.example.com/", true]]) {
    globalThis.location = new URL(href);
    world.next("POST https", ...times(5, lost));
    const fetch = async (url, init) => {
      if (init.method === "HEAD") return {};
      throw new TypeError(`Failed to fetch ${url}`);
    };

    await assert.rejects(world.upload(file(5), {endpoint: "https://www.example.com/api/uploads/", fetch}), (error) => {
      assert.deepEqual([error.code, error.step], ["network_error", "begin"]);
      assert.equal(/the API's CORS settings/.test(error.message), named, error.message);
      assert.doesNotMatch(error.message, /bucket/);
      return true;
    });
  }
});
