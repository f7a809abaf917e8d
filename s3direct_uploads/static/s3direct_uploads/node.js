// @ts-nocheck no types of Node.js are installed, and no page loads this
/**
 * How upload.js sends where there is no XMLHttpRequest: in Node.js, whose fetch takes twice the time and three times
 * the memory, and tells no progress.
 *
 * @module
 */

const BATCH = 1024 ** 2; // bytes that go to the socket in one system call

/** As byXhr in upload.js. */
export function byNode({method = "PUT", url, headers}, body, signal, onLoaded) {
  // Not imported by its name, which bundlers for browsers stumble over.
  const {request} = process.getBuiltinModule(url.startsWith("https:") ? "node:https" : "node:http");
  return new Promise((resolve) => {
    const fail = () => resolve({status: 0, text: ""});
    const sending = request(url, {method, headers: {...headers, "Content-Length": body.size}, signal});
    sending.on("error", fail);
    sending.on("response", async (answer) => {
      try {
        const text = (await answer.setEncoding("utf8").toArray()).join("");
        resolve({status: answer.statusCode, text});
      } catch {
        fail();
      }
      if (!sending.writableEnded) sending.destroy(); // refused before all was sent
    });
    feed(sending, body, onLoaded).catch((error) => sending.destroy(error));
  });
}

async function feed(sending, body, onLoaded) {
  const reader = body.stream().getReader();
  let loaded = 0;
  let corked = 0;
  sending.cork();
  for (let next; !(next = await reader.read()).done; ) {
    if (sending.destroyed) return reader.cancel();
    sending.write(next.value);
    loaded += next.value.length;
    corked += next.value.length;
    if (corked < BATCH) continue;
    corked = 0;
    sending.uncork();
    if (sending.writableNeedDrain) await drained(sending);
    onLoaded(loaded);
    sending.cork();
  }
  sending.uncork();
  sending.end();
}

function drained(sending) {
  return new Promise((resolve) => {
    const end = () => {
      sending.off("drain", end).off("close", end);
      resolve();
    };
    sending.on("drain", end).on("close", end);
  });
}
