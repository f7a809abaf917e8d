// upload.js in Node: uploads the file at PATH; prints what became of it, as JSON.
//   node upload.mjs SITE USERNAME PASSWORD PATH [OPTIONS as JSON]
import {openAsBlob} from "node:fs";
import {basename} from "node:path";
import {upload, UploadError} from "../../s3direct_uploads/static/s3direct_uploads/upload.js";

const [site, username, password, path, options = "{}"] = process.argv.slice(2);
const file = new File([await openAsBlob(path)], basename(path), {type: "image/png"});
let most = 0;
const watch = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 20);
const before = process.memoryUsage().rss;
const loaded = [];
const completed = await upload(file, {
  endpoint: `${site}/api/uploads/`,
  destination: "photos",
  headers: {Authorization: `Basic ${btoa(`${username}:${password}`)}`},
  onProgress: (progress) => loaded.push(progress.loaded),
  ...JSON.parse(options),
}).catch((error) => {
  if (!(error instanceof UploadError)) throw error;
  const {step, status, code, body} = error;
  return {error: {step, status, code, body}};
});
clearInterval(watch);
const isForward = loaded.every((each, index) => !index || each >= loaded[index - 1]);
console.log(JSON.stringify({...completed, isForward, memory: most - before}));
