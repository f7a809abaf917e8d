// What a React Native app does with upload.js, on the engine Hermes alone: Django and S3 are in this file, because Hermes
// has no network of its own. It prints what was asked, and what came back, as JSON.
import "./globals";
import {upload, UploadController} from "s3direct-uploads";
import {uploadAll} from "s3direct-uploads/all.js";

const PART = 5;
const asked = [];
const objects = {};
let number = 0;
let onSend = () => {};

const answer = (status, body) => ({ok: status < 300, status, headers: new Headers(), text: async () => JSON.stringify(body)});
const request = (query) => ({url: `https://s3.example.com/${number}${query}`, headers: {}});

function begin({filename, size, multipart}) {
  number++;
  const times = {created_at: "2026-01-01T00:00:00Z", expires_at: "2026-01-02T00:00:00Z"};
  const part_count = Math.ceil(size / PART);
  const parts = Array.from({length: part_count}, (_, index) => ({...request(`?part=${index + 1}`), part_number: index + 1}));
  const inParts = multipart && part_count > 1;
  const how = inParts ? {multipart: {part_size: PART, part_count, parts, expires_in: 60}} : {request: request("")};
  return answer(201, {id: `u${number}`, status: "pending", filename, size, ...times, ...how});
}

async function fetchDjango(url, {method, body}) {
  const path = url.slice("https://example.com/api/uploads/".length);
  asked.push(`${method} ${path || "/"}`);
  if (method === "DELETE") return answer(204, null);
  return path ? answer(200, {id: path.split("/")[0], status: "completed"}) : begin(JSON.parse(body));
}

/** A file as a picker of React Native describes it. */
const file = (name, size, start = 0) => ({
  uri: `file:///cache/${name}`,
  name,
  size,
  type: "image/png",
  start,
  slice: (from = 0, to = size) => file(name, Math.min(to, size) - from, start + from),
});

async function send({method, url}, {uri, start, size}, signal, progress) {
  asked.push(`${method} ${url.slice("https://s3.example.com/".length)} from ${uri}, ${start} to ${start + size}`);
  await onSend();
  if (signal.aborted) throw new Error("The request was aborted.");
  progress(size);
  objects[url] = size;
  return {status: 200};
}

// The command line of Hermes does not wait for a timer: it calls it at once.
const clock = {now: Date.now, setTimeout: () => 0, clearTimeout: () => {}, random: () => 0};
const options = {endpoint: "https://example.com/api/uploads/", destination: "photos", fetch: fetchDjango, send, clock};
const failed = ({name, code, message}) => ({name, code, message});

/** After what is under way has ended. */
async function later(work) {
  for (let turn = 0; turn < 100; turn++) await null;
  work();
}

async function run() {
  const said = {};
  const tell = async (what, work) => {
    const result = await work().catch(failed);
    said[what] = {result, asked: asked.splice(0)};
  };
  await tell("whole", () => upload(file("a.png", 7), {...options, multipart: false}));
  await tell("parts", () => upload(file("b.png", 12), {...options, parallel: 1}));
  await tell("several", async () => {
    const ended = await uploadAll([file("c.png", 3), file("d.png", 3)], {...options, multipart: false, atOnce: 1});
    return ended.map(({upload: {status}}) => status);
  });
  const controller = new UploadController();
  onSend = () => {
    onSend = () => controller.abort();
    controller.pause();
    later(() => controller.resume());
  };
  await tell("paused, resumed and aborted", () => upload(file("e.png", 3), {...options, signal: controller.signal}));
  onSend = () => {};
  await tell("checksum", () => upload(file("f.png", 3), {...options, checksum: "CRC32"}));
  await tell("no slice", () => upload({uri: "file:///g.png", name: "g.png", size: 3, type: ""}, options));
  await tell("no send", () => upload(file("h.png", 3), {...options, send: undefined}));
  globalThis.print(JSON.stringify(said));
}

run();
