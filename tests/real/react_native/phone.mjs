// upload.js as in React Native: without what tests/js/react_native.mjs takes away, and by a send of the app's own, which
// reads a file by its URI. Prints the names of the uploads, as JSON.
//   node phone.mjs SITE AUTHORIZATION URI
import {open, stat} from "node:fs/promises";
import {request} from "node:http";
import {uploadAll} from "../../../s3direct_uploads/static/s3direct_uploads/all.js";
import "../../js/react_native.mjs";

const {argv} = await import("node:process");
const [site, authorization, uri] = argv.slice(2);
const {size: whole} = await stat(new URL(uri));

const picked = (name, start = 0, size = whole) => ({
  uri,
  name,
  size,
  type: "image/png",
  start,
  slice: (from = 0, to = size) => picked(name, start + from, Math.min(to, size) - from),
});

/** By Node.js's modules, because its own fetch needs what React Native lacks. */
function exchange(url, {method, headers, body, signal}) {
  return new Promise((resolve, reject) => {
    const asking = request(url, {method, headers}, async (answer) => {
      const text = (await answer.setEncoding("utf8").toArray()).join("");
      resolve({status: answer.statusCode, text, headers: answer.headers});
    });
    signal?.addEventListener("abort", () => asking.destroy());
    asking.on("error", reject);
    asking.end(body);
  });
}

/** What a native module does: it reads from the disk, and sends. */
async function send({method, url, headers}, {uri, start, size}, signal, progress) {
  const file = await open(new URL(uri));
  const body = Buffer.alloc(size);
  await file.read(body, 0, size, start);
  await file.close();
  const answer = await exchange(url, {method, headers: {...headers, "Content-Length": size}, body, signal});
  progress(size);
  return answer;
}

async function fetchDjango(url, {headers, ...init}) {
  const {status, text, headers: told} = await exchange(url, {...init, headers: Object.fromEntries(headers ?? [])});
  return {ok: status < 300, status, headers: new Headers(told), text: async () => text};
}

const seen = [];
const results = await uploadAll([picked("one.png"), picked("parts.png")], {
  endpoint: `${site}/api/uploads/`,
  destination: "photos",
  headers: {Authorization: authorization},
  fetch: fetchDjango,
  send,
  each: ({name}) => ({multipart: name === "parts.png"}),
  onProgress: ({loaded}) => seen.push(loaded),
});
console.log(JSON.stringify({ends: results.map(({upload, error}) => upload?.filename ?? `${error}`), loaded: seen.at(-1)}));
