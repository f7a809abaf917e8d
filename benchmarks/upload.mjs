// upload.js in Node: sends the file at PATH; prints what sending it took, as JSON.
//   node upload.mjs ENDPOINT AUTHORIZATION PATH OPTIONS
import {readFileSync} from "node:fs";
import {openFile} from "../s3direct_uploads/static/s3direct_uploads/node.js";
import {upload} from "../s3direct_uploads/static/s3direct_uploads/upload.js";

const [endpoint, Authorization, path, options] = process.argv.slice(2);
const file = await openFile(path, {type: "video/mp4"});
let before;
await upload(file, {
  endpoint,
  destination: "films",
  headers: {Authorization},
  // The first time with "send" is when begin has its answer.
  onProgress: ({phase}) => phase === "send" && (before ??= {at: performance.now(), memory: process.memoryUsage().rss}),
  ...JSON.parse(options),
});
const seconds = (performance.now() - before.at) / 1_000;
// Not ru_maxrss, which a process takes over from whoever started it.
const most = 1_024 * Number(/VmHWM:\s*(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
const {user, system} = process.cpuUsage();
console.log(JSON.stringify({seconds, memory: most - before.memory, cpu: (user + system) / 1e6}));
