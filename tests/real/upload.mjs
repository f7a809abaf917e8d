// upload.js in Node: uploads the file at PATH; prints what became of it, as JSON.
//   node upload.mjs SITE USERNAME PASSWORD PATH [OPTIONS as JSON]
// Options of its own: as ("Blob", "URL"), abortAt (bytes that have left), change (what befalls the opened file).
import {appendFileSync, openAsBlob, readdirSync, readlinkSync, truncateSync, unlinkSync, writeFileSync} from "node:fs";
import {basename} from "node:path";
import {pathToFileURL} from "node:url";
import {openFile} from "../../s3direct_uploads/static/s3direct_uploads/node.js";
import {upload} from "../../s3direct_uploads/static/s3direct_uploads/upload.js";

const [site, username, password, path, given = "{}"] = process.argv.slice(2);
const {as, abortAt = Infinity, change, ...options} = JSON.parse(given);
const type = "image/png";
const file =
  as === "Blob"
    ? new File([await openAsBlob(path)], basename(path), {type})
    : await openFile(as === "URL" ? pathToFileURL(path) : path, {type});
const changes = {
  shorten: () => truncateSync(path, 1_000),
  rewrite: () => writeFileSync(path, "other", {flag: "r+"}),
  grow: () => appendFileSync(path, "more"),
  delete: () => unlinkSync(path),
};
changes[change]?.();
const controller = new AbortController();
const progress = [];
const settled = await upload(file, {
  endpoint: `${site}/api/uploads/`,
  destination: "photos",
  headers: {Authorization: `Basic ${btoa(`${username}:${password}`)}`},
  onProgress: ({loaded}) => {
    progress.push(loaded);
    if (loaded >= abortAt) controller.abort();
  },
  signal: controller.signal,
  ...options,
}).catch(({name, message, step, status, code, body, cause}) => {
  return {error: {name, message, step, status, code, body, cause: {name: cause?.name, message: cause?.message}}};
});
const isForward = progress.every((each, index) => !index || each >= progress[index - 1]);
await new Promise((resolve) => setTimeout(resolve, 100)); // what was under way ends
// What fs.openAsBlob opened is closed when its garbage is collected.
const isOpen = as !== "Blob" && opened().includes(path);
console.log(JSON.stringify({...settled, isForward, isOpen}));

function opened() {
  return readdirSync("/proc/self/fd").map((number) => {
    try {
      return readlinkSync(`/proc/self/fd/${number}`);
    } catch {
      return ""; // it was the folder itself
    }
  });
}
