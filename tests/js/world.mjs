/**
 * The cast: a Django and an S3 in memory, which answer upload.js, fail when told to, and write down what was asked; a
 * clock that runs only while everybody waits; and files that may change.
 */
import {upload} from "../../s3direct_uploads/static/s3direct_uploads/upload.js";

export const MIB = 1024 ** 2;
export const PART_SIZE = 5 * MIB;
const ENDPOINT = "/api/uploads/";
const SIGNED_AT_FIRST = 100; // parts
const URL_LIFE = 3_600; // seconds
export const LIFE = 24 * 3_600; // seconds, of an upload
const NOBODY = "no answer";

// What may happen to a request. Any function will do that takes the World, the request's signal and how the server
// would answer, and resolves with an answer.

/** The network is away: nothing arrives. */
export const lost = () => null;

/** What was asked is done, and the answer does not arrive. */
export const answerLost = async (_world, _signal, answer) => {
  await answer();
  return null;
};

/** This is answered in the server's place. */
export const refused =
  (status, body = {}, headers = {}) =>
  () => ({status, body, headers});

/** S3's way to say no. */
export const refusedByS3 = (status, code) => refused(status, `<Error><Code>${code}</Code></Error>`);

/** It waits under way until `release` is called, or it is aborted. */
export function held() {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  const fault = async (world, signal, answer) => {
    world.clock.held++; // somebody waits, but not for the time
    await Promise.race([released, new Promise((resolve) => signal?.addEventListener("abort", resolve))]);
    world.clock.held--;
    world.clock.schedule();
    return signal?.aborted ? null : answer();
  };
  return Object.assign(fault, {release});
}

/** It arrives, or not; in either case no answer comes, and no error. */
export const silent = async (_world, signal) => {
  await new Promise((resolve) => signal?.addEventListener("abort", resolve));
  return null;
};

/** It takes that long. */
export const slow = (seconds) => async (world, signal, answer) => {
  await new Promise((resolve) => {
    world.clock.setTimeout(resolve, seconds * 1_000);
    signal?.addEventListener("abort", resolve);
  });
  return signal?.aborted ? null : answer();
};

let worlds = 0;

export class World {
  /** What was asked, what came back, and how long nobody did anything. */
  transcript = [];
  /** The requests, as they came. */
  requests = [];
  uploads = new Map();
  objects = new Map(); // by the upload's id: its bytes
  parts = new Map(); // by the upload's id: bytes by part number
  keys = new Map(); // Idempotency-Key: [the body, the upload's id]
  faults = [];
  isVisitor = false; // whether the page has no login
  hasBatches = true; // whether the project has the calls for batches
  maxPending = Infinity; // uploads
  isAllInParts = false; // whether the storage's rule is that no file is sent by one PUT
  planned = []; // answers for single uploads of batches
  mostPending = 0; // uploads
  verifying = 0; // how many confirms answer 202 before the one that completes
  mostAtOnce = 0; // PUTs
  underway = 0;
  partSize = PART_SIZE;
  s3Url = `https://s3-${++worlds}.test`; // upload.js remembers who has answered
  /** For how long who is away, from now on, in seconds: `{S3: 60, Django: 60}`. And how that looks. */
  outages = [];
  readsLate = false; // as a browser: a file that cannot be read looks like a network that broke

  constructor() {
    this.clock = new Clock(this.transcript);
  }

  /** How upload.js reaches this world: its options. */
  get reached() {
    return {fetch: (...request) => this.fetch(...request), send: (...request) => this.put(...request), clock: this.clock};
  }

  /** upload() of this world. */
  upload(file, options = {}) {
    return upload(file, {endpoint: ENDPOINT, destination: "photos", ...this.reached, ...options});
  }

  /** The next requests that begin with these words, one fault for each. */
  next(words, ...faults) {
    for (const fault of faults) this.faults.push([words, fault]);
  }

  /** These servers are away for so many seconds from now on. `fault` is what happens to requests. */
  away(servers, seconds, fault = lost) {
    for (const server of servers) this.outages.push({server, until: this.clock.now() + seconds * 1_000, fault});
  }

  outageOf(server) {
    return this.outages.find((each) => each.server === server && this.clock.now() < each.until)?.fault;
  }

  /** The requests to Django. Of a batch it is said how many uploads it has. */
  get asked() {
    const asked = this.requests.filter(({url}) => !url);
    return asked.map(({words, body}) => {
      const many = body?.uploads ?? body?.ids;
      return many ? `${words} of ${many.length}` : words;
    });
  }

  /** Of the uploads, in the order in which they began. */
  get statuses() {
    return [...this.uploads.values()].map(({status}) => status);
  }

  /** The transcript's lines that begin with these words. */
  said(words) {
    return this.transcript.filter((line) => line.startsWith(words));
  }

  /** Resolves as soon as there are that many such lines, or such requests under way. */
  async until(condition) {
    for (let turns = 0; !condition(); turns++) {
      if (turns > 10_000) throw new Error(`It never came to that:\n${this.transcript.join("\n")}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async exchange(words, signal, answer, server) {
    const index = this.faults.findIndex(([begin]) => words.startsWith(begin));
    const [[, planned] = []] = index < 0 ? [] : this.faults.splice(index, 1);
    const fault = planned ?? this.outageOf(server);
    const given = signal?.aborted ? null : fault ? await fault(this, signal, answer) : await answer();
    const code = given?.body?.code ?? /<Code>(.*)<\/Code>/.exec(given?.body)?.[1];
    const said = signal?.aborted && !given ? "aborted" : given ? [given.status, code].filter(Boolean).join(" ") : NOBODY;
    this.transcript.push(`${words} → ${said}`);
    return given;
  }

  // To Django

  async fetch(url, {method = "GET", headers, body, credentials, signal}) {
    const isS3 = url.startsWith(this.s3Url);
    const path = isS3 ? "" : url.slice(ENDPOINT.length);
    const words = `${method} ${isS3 ? "S3" : path || "/"}`;
    const request = {words, headers: Object.fromEntries(headers ?? []), body: body && JSON.parse(body), credentials};
    this.requests.push(request);
    const answer = async () => (method === "HEAD" ? {status: 403} : this.django(method, path, request));
    const given = await this.exchange(words, signal, answer, isS3 ? "S3" : "Django");
    if (!given) throw signal?.aborted ? signal.reason : new TypeError("fetch failed");
    const text = given.body === undefined ? null : typeof given.body === "string" ? given.body : JSON.stringify(given.body);
    const {status, headers: told} = given;
    return {ok: status >= 200 && status < 300, status, headers: new Headers(told), text: async () => text ?? ""};
  }

  django(method, path, {headers, body}) {
    if (method === "POST" && !path) return this.begin(body, headers["idempotency-key"]);
    if (path.startsWith("batch/")) return this.batch(path, body, headers["idempotency-key"]);
    if (path.startsWith("?") && this.isVisitor) return {status: 401, body: {code: "not_authenticated", detail: "Who?"}};
    if (path.startsWith("?")) return this.list(new URLSearchParams(path));
    const [id, action] = path.split("/");
    const upload = this.uploads.get(id);
    if (!upload) return {status: 404, body: {code: "not_found", detail: "You have no such upload."}};
    if (upload.visitor && headers["upload-token"] !== upload.form_value) return {status: 404, body: {code: "not_found", detail: "?"}};
    if (method === "DELETE") return this.cancel(upload);
    if (upload.status === "completed" && action === "confirm") return {status: 200, body: upload};
    if (upload.status !== "pending") return {status: 410, body: {code: "not_pending", detail: "It is over.", upload}};
    if (action === "renew") return {status: 200, body: this.presented(upload)};
    if (action === "confirm") return this.confirm(upload);
    if (method === "GET") {
      const there = [...this.parts.get(id)];
      return {status: 200, body: there.map(([part_number, bytes]) => ({part_number, size: bytes.length}))};
    }
    return {status: 200, body: {parts: body.part_numbers.map((n) => this.signPart(upload, n)), expires_in: URL_LIFE}};
  }

  /** What the call would answer for each upload alone. */
  batch(path, {uploads, ids}, key) {
    const isBegin = path === "batch/";
    if (!this.hasBatches) return isBegin ? {status: 405, body: {code: "method_not_allowed"}} : {status: 404, body: {code: "not_found"}};
    if (this.isVisitor) return {status: 401, body: {code: "not_authenticated", detail: "Who?"}};
    if ((uploads ?? ids).length > 100) return {status: 400, body: {code: "invalid", detail: "At most 100."}};
    const answers = isBegin
      ? uploads.map((declared, place) => this.beginOne(declared, `${key} ${place}`))
      : ids.map((id) => this.confirmOne(id));
    const reused = answers.find(({body}) => body.code === "idempotency_key_reused");
    if (reused) return reused;
    const results = answers.map(({status, body}) =>
      status < 300 ? {status, upload: body, error: null} : {status, upload: null, error: body},
    );
    return {status: 200, body: {results}};
  }

  /** The next begins, or confirms, of such a file in a batch are answered so in the server's place. */
  nextInBatch(name, ...answers) {
    this.planned.push(...answers.map((answer) => [name, answer()]));
  }

  plannedFor(name) {
    const index = this.planned.findIndex(([each]) => each === name);
    return index < 0 ? null : this.planned.splice(index, 1)[0][1];
  }

  beginOne(declared, key) {
    const inParts = declared.multipart && (this.isAllInParts || declared.size > this.partSize);
    const notInBatch = {status: 409, body: {code: "not_in_batch", detail: "Begin it alone."}};
    return this.plannedFor(`begin ${declared.filename}`) ?? (inParts ? notInBatch : this.begin(declared, key));
  }

  confirmOne(id) {
    const planned = this.plannedFor(`confirm ${id}`);
    if (this.parts.has(id)) return {status: 409, body: {code: "not_in_batch", detail: "Confirm it alone."}};
    return planned ?? this.django("POST", `${id}/confirm/`, {headers: {}, body: {}});
  }

  begin(declared, key) {
    const body = JSON.stringify(declared);
    const [before, id] = this.keys.get(key) ?? [];
    if (before && before !== body) return {status: 409, body: {code: "idempotency_key_reused", detail: "Another body."}};
    if (before) return {status: 201, body: this.presented(this.uploads.get(id))};
    const pending = [...this.uploads.values()].filter(({status}) => status === "pending").length;
    this.mostPending = Math.max(this.mostPending, pending + 1);
    if (pending >= this.maxPending) return {status: 429, body: {code: "too_many_pending", detail: "Finish or cancel one."}};
    const upload = this.remember(declared);
    this.keys.set(key, [body, upload.id]);
    return {status: 201, body: this.presented(upload)};
  }

  /** A pending row, as one that was begun now. */
  remember({destination = "photos", filename, size, content_type = "image/png", context = {}, multipart = false}) {
    const id = `u${this.uploads.size + 1}`;
    const created_at = new Date(this.clock.date()).toISOString();
    const expires_at = new Date(this.clock.date() + LIFE * 1_000).toISOString();
    const upload = {id, status: "pending", destination, filename, size, content_type, context, created_at, expires_at};
    if (this.isVisitor) Object.assign(upload, {visitor: true, form_value: `${id}:mac`});
    this.uploads.set(id, upload);
    if (multipart && (this.isAllInParts || size > this.partSize)) this.parts.set(id, new Map());
    return upload;
  }

  list(query) {
    const results = [...this.uploads.values()].filter((each) =>
      [...query].every(([name, value]) => String(each[name]) === value),
    );
    return {status: 200, body: {results: results.reverse(), next: null, previous: null}};
  }

  presented(upload) {
    if (upload.status !== "pending") return {...upload, request: null, multipart: null};
    if (!this.parts.has(upload.id)) return {...upload, request: this.sign(upload, "", {"Content-Type": upload.content_type, "If-None-Match": "*"}, {expires_in: URL_LIFE}), multipart: null};
    const part_count = Math.ceil(upload.size / this.partSize);
    const first = Array.from({length: Math.min(part_count, SIGNED_AT_FIRST)}, (_, index) => this.signPart(upload, index + 1));
    return {...upload, request: null, multipart: {part_size: this.partSize, part_count, parts: first, expires_in: URL_LIFE}};
  }

  signPart(upload, part_number) {
    const size = Math.min(this.partSize, upload.size - (part_number - 1) * this.partSize);
    const {method, ...signed} = this.sign(upload, `partNumber=${part_number}&`, {}); // Django names no method of a part
    return {part_number, size, ...signed};
  }

  sign({id}, query, headers, more = {}) {
    const ends = this.clock.now() + URL_LIFE * 1_000;
    return {method: "PUT", url: `${this.s3Url}/${id}?${query}ends=${ends}`, headers, ...more};
  }

  confirm(upload) {
    const parts = this.parts.get(upload.id);
    if (parts) {
      const numbers = Array.from({length: Math.ceil(upload.size / this.partSize)}, (_, index) => index + 1);
      const missing = numbers.filter((number) => !parts.has(number));
      const errors = [{code: "missing", params: {part_numbers: missing}}];
      if (missing.length) return {status: 409, body: {code: "parts_incomplete", detail: "Parts are missing.", errors, upload}};
      this.objects.set(upload.id, Buffer.concat(numbers.map((number) => parts.get(number))));
    }
    if (!this.objects.has(upload.id)) return {status: 409, body: {code: "object_missing", detail: "Nothing is there.", upload}};
    if (this.verifying-- > 0) return {status: 202, body: {...upload, status: "verifying"}};
    this.complete(upload.id);
    return {status: 200, body: upload};
  }

  complete(id) {
    Object.assign(this.uploads.get(id), {status: "completed", completed_at: "2026-01-01T00:00:00Z"});
    this.parts.delete(id);
  }

  cancel(upload) {
    if (upload.status === "pending") upload.status = "cancelled";
    this.parts.delete(upload.id);
    return {status: 204};
  }

  // To S3

  async put({method, url, headers}, body, signal, onLoaded) {
    const {pathname, searchParams} = new URL(url);
    const id = pathname.slice(1);
    const part = Number(searchParams.get("partNumber"));
    const words = `${method} ${id} ${part ? `part ${part}, ` : ""}${body.size} bytes`;
    this.requests.push({words, url, headers});
    this.mostAtOnce = Math.max(this.mostAtOnce, ++this.underway);
    let unreadable = null;
    try {
      const half = () => onLoaded(Math.floor(body.size / 2));
      const answer = async () => {
        try {
          half();
          const bytes = new Uint8Array(await body.arrayBuffer());
          onLoaded(body.size);
          return this.s3(id, part, bytes, Number(searchParams.get("ends")));
        } catch (error) {
          unreadable = error;
          return null;
        }
      };
      const given = await this.exchange(words, signal, Object.assign(answer, {half}), "S3");
      if (unreadable && !this.readsLate) throw unreadable;
      return given ? {status: given.status, text: given.body ?? ""} : {status: 0, text: ""};
    } finally {
      this.underway--;
    }
  }

  s3(id, part, bytes, ends) {
    const no = (status, code) => ({status, body: `<Error><Code>${code}</Code></Error>`});
    if (this.clock.now() >= ends) return no(403, "AccessDenied");
    const parts = this.parts.get(id);
    if (part && !parts) return no(404, "NoSuchUpload");
    if (part) parts.set(part, bytes);
    else if (this.objects.has(id)) return no(412, "PreconditionFailed");
    else this.objects.set(id, bytes);
    return {status: 200};
  }
}

/** Time that passes only when nobody has anything to do but to wait. */
class Clock {
  #now = 0;
  #timers = [];
  #scheduled = false;
  /** Requests that a test holds: while there are any, no time passes. */
  held = 0;

  constructor(transcript) {
    this.transcript = transcript;
    this.random = () => 1; // the longest delays: 1 s, 2 s, 4 s …
  }

  now() {
    return this.#now;
  }

  date() {
    return Date.parse("2026-01-01T00:00:00Z") + this.#now;
  }

  /** It is that much later, whatever happens. */
  pass(seconds) {
    this.#now += seconds * 1_000;
  }

  /** How many timers run. */
  get waiting() {
    return this.#timers.length;
  }

  setTimeout(callback, milliseconds) {
    const timer = {at: this.#now + milliseconds, callback};
    this.#timers.push(timer);
    this.#timers.sort((one, two) => one.at - two.at);
    this.schedule();
    return timer;
  }

  clearTimeout(timer) {
    this.#timers = this.#timers.filter((each) => each !== timer);
  }

  schedule() {
    if (this.#scheduled || this.held || !this.#timers.length) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.held) return;
      const timer = this.#timers.shift();
      if (!timer) return;
      if (timer.at > this.#now) this.transcript.push(`${(timer.at - this.#now) / 1_000} s pass`);
      this.#now = Math.max(this.#now, timer.at);
      timer.callback();
      this.schedule();
    });
  }
}

/** A file of that many bytes, the same for each name. It can be changed, or deleted. */
export function file(size, {name = "beach.png", type = "image/png", lastModified = 1_000} = {}) {
  const bytes = new Uint8Array(Buffer.alloc(size, Uint8Array.from({length: 251}, (_, index) => index ^ name.length)));
  const state = {};
  const slice = (from, to, isWhole = false) => ({
    size: to - from,
    type: "",
    slice: (start = 0, end = to - from) => slice(from + start, Math.min(to, from + end)),
    async arrayBuffer() {
      if (state.error && (isWhole || to > from)) throw state.error; // a browser does not open a file for no bytes
      return bytes.slice(from, Math.min(to, state.length ?? to)).buffer;
    },
  });
  return Object.assign(slice(0, size, true), {
    name,
    type,
    lastModified,
    bytes,
    change: () => (state.error = new DOMException("It was changed.", "NotReadableError")),
    delete: () => (state.error = new DOMException("It is gone.", "NotFoundError")),
    /** By a system that tells no error, and returns fewer bytes. */
    shorten: (length) => (state.length = length),
  });
}
