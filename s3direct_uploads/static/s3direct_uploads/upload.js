/**
 * Uploads a File directly to S3, by requests that Django signed: begin, send, confirm. A large file is sent in parts,
 * several at once. An interrupted upload can be resumed.
 *
 *     import {upload} from "s3direct-uploads";
 *
 *     const {id} = await upload(file, {endpoint: "/api/uploads/", destination: "photos"});
 *
 * @module
 *
 * @import {Calls} from "./batches.js"
 * @import {Network, Tries} from "./network.js"
 * @import {Begun, Clock, ErrorBody, Facts, Options, PresignedMultipart, PresignedPart, PresignedRequest, Progress, Send, Slice, Step, Upload, UploadFile, Uploading} from "./types.js"
 */

const ROUNDS = 5; // of parts that Django misses
const FIRST_DELAY = 1_000; // milliseconds
const SIGNED_AT_ONCE = 100; // parts; Django would sign a thousand, but most URLs would expire unused
const SMALLEST_MULTIPART = 5 * 1024 ** 2; // bytes: S3's smallest part
const NO_ANSWER = 0;

const loading = () => imported("network.js", import("./network.js"), "begin");
loading().catch(() => {}); // now, while the network is there; upload() tells it if it fails

/** The ids of the uploads that this page is sending. They must not be resumed a second time. @type {Set<string>} */
const running = new Set();

/** Why an upload did not complete. */
export class UploadError extends Error {
  name = "UploadError";

  /** @param {string} message @param {Facts} facts */
  constructor(message, {step, code, status = NO_ANSWER, body = null, upload, retryAfter = 0, cause}) {
    super(message, {cause});
    this.step = step;
    /** Django's `code`, S3's `<Code>`, or one of ours: docs/javascript.md has a table of them. */
    this.code = code;
    /** 0 if there was no answer. */
    this.status = status;
    /** Django's error; or the text of an answer that is not Django's; null if there was no answer. */
    this.body = body;
    /** The upload, if it had begun. */
    this.upload = upload;
    /** In seconds; 0 if the server did not ask for a wait. */
    this.retryAfter = retryAfter;
  }
}

/** Of the signals of UploadControllers. @type {WeakMap<AbortSignal, {gates: Set<Gate>, isPaused: boolean}>} */
const controls = new WeakMap();

/** An AbortController that can also pause. Give its `signal` to one upload, or to several. */
export class UploadController extends AbortController {
  /** @type {{gates: Set<Gate>, isPaused: boolean}} */
  #control = {gates: new Set(), isPaused: false};

  constructor() {
    super();
    controls.set(this.signal, this.#control);
  }

  get isPaused() {
    return this.#control.isPaused;
  }

  /** Also holds uploads that begin later. */
  pause() {
    this.#control.isPaused = true;
    for (const gate of this.#control.gates) gate.shut();
  }

  resume() {
    this.#control.isPaused = false;
    for (const gate of this.#control.gates) gate.open();
  }
}

/**
 * Resolves when the upload is completed, or when a scan holds it (its `status` is then "verifying"). With `waitForScan`
 * it resolves only when the upload is completed. It outlasts failures of the network and of the servers, until the
 * upload's deadline. Rejects with an UploadError, or with `signal.reason`. While it is paused, nothing is sent to S3.
 *
 * @param {UploadFile} file
 * @param {Options} options
 * @returns {Uploading}
 */
export function upload(file, options) {
  return start(file, options);
}

/** upload() for all.js. @param {UploadFile} file @param {Options} options @param {Calls} [calls] @returns {Uploading} */
export function start(file, options, calls) {
  const gate = new Gate();
  const control = options.signal && controls.get(options.signal);
  control?.gates.add(gate);
  if (control?.isPaused) gate.shut();
  const uploaded = run(file, options, gate, calls).finally(() => control?.gates.delete(gate));
  return Object.assign(uploaded, {pause: () => gate.shut(), resume: () => gate.open()});
}

/** @param {UploadFile} file @param {Options} options @param {Gate} gate @param {Calls} [calls] @returns {Promise<Upload>} */
async function run(file, options, gate, calls) {
  const {destination, context, checksum, idempotencyKey, signal} = options;
  const isNamed = typeof checksum === "string";
  const algorithm = isNamed ? checksum : checksum?.algorithm;
  const {parallel = 4, resume, multipart = algorithm !== "SHA256"} = options;
  const {lastModified} = file; // now, because in Safari it changes with the file
  if (typeof file.slice !== "function") throw unsupported("This file has no slice().");
  const {XMLHttpRequest, process} = /** @type {any} */ (globalThis);
  const canSend = options.send || XMLHttpRequest || process?.getBuiltinModule;
  if (!canSend) throw unsupported("There is no XMLHttpRequest here, as in a service worker. Use the option send.");
  const {Network, byXhr, randomKey} = await loading();
  const send = options.send ?? (XMLHttpRequest ? byXhr : (await imported("node.js", import("./node.js"), "begin")).byNode);
  const network = new Network(options, {total: file.size, isPaused: () => gate.signal.aborted});
  const {time, progress} = network;
  const django = new Django(options, network);
  gate.onTurn = () => progress.rest();
  /** @type {Upload | undefined} */
  let begun;
  try {
    throwIfAborted(signal);
    progress.enter("begin");
    await assertReadable(file, "begin");
    const declared = {
      destination,
      filename: file.name,
      size: file.size,
      content_type: file.type,
      context,
      checksum: isNamed ? await computed(checksum, file, signal) : checksum,
      multipart,
    };
    const print = fingerprint([file.lastModified, declared]);
    // Two Blobs of the same name and size look the same: they have no lastModified.
    const isKnown = file.lastModified !== undefined && resume !== false;
    const mayResume = isKnown && multipart && file.size > SMALLEST_MULTIPART;
    const interrupted = mayResume && (await findInterrupted(django, declared, print, resume && file.lastModified));
    const key = {"Idempotency-Key": idempotencyKey ?? randomKey()};
    const ask = () => django.ask("begin", "", declared, key);
    /** @type {Begun} */
    const answer = interrupted || (await (calls?.begin(declared, ask, network) ?? ask()));
    // The signed URLs are kept apart from the upload: it may be in an error, and an error may be logged.
    const {request, multipart: inParts, ...upload} = answer;
    begun = upload;
    if (upload.visitor) django.token = upload.form_value;
    options.onBegun?.(upload);
    if (upload.status === "completed") return upload;
    running.add(upload.id);
    // By a duration, because the clocks of phones are wrong. After a resumption it is too late; but Django says 410.
    network.deadline = time.now() + Date.parse(upload.expires_at) - Date.parse(upload.created_at) || Infinity;
    const rest = {file, id: upload.id, django, network, send, time, gate, progress, signal, parallel, calls};
    const parts = inParts && new Parts(inParts, rest);
    if (parts) {
      if (!upload.visitor) memory("setItem", upload.id, print); // a visitor has no list to find it in
      // With the caller's idempotencyKey, the upload may have begun before.
      if (interrupted || idempotencyKey) await parts.leaveOutWhatIsThere();
    }
    for (let rounds = 1; ; rounds++) {
      progress.enter("send");
      if (request) await sendWhole(request, rest);
      await parts?.send();
      await assertUnchanged(file, lastModified);
      progress.enter("confirm");
      try {
        return await confirm(rest, options.waitForScan);
      } catch (error) {
        const missing = incompleteParts(error);
        if (!parts || !missing || rounds === ROUNDS) throw error;
        parts.waiting = missing;
      }
    }
  } catch (error) {
    if (signal?.aborted) {
      if (begun) django.cancel(begun.id);
      throwIfAborted(signal);
    }
    if (error instanceof UploadError) {
      error.upload ??= begun;
      // Nobody must resume a lost upload. Nobody must complete a file that changed while it was sent.
      const isLost = error.code === "multipart_gone" || (error.code === "file_unreadable" && error.step === "confirm");
      if (begun && isLost) await django.cancel(begun.id);
    }
    throw error;
  } finally {
    progress.end();
    if (begun) running.delete(begun.id);
  }
}

/** The parts that must be sent again; null for any other error. @param {unknown} error @returns {number[] | null} */
function incompleteParts(error) {
  if (!(error instanceof UploadError) || error.code !== "parts_incomplete") return null;
  return /** @type {ErrorBody} */ (error.body).errors.flatMap(({params}) => params.part_numbers);
}

/** @param {Rest} rest @param {boolean} [waitForScan] @returns {Promise<Upload>} */
async function confirm({id, django, network, time, progress, signal, calls}, waitForScan) {
  const ask = () => django.ask("confirm", `${id}/confirm/`, {});
  for (let times = 0; ; times++) {
    const upload = await (calls?.confirm(id, ask, network) ?? ask());
    const isHeld = upload.status === "verifying";
    if (isHeld || upload.status === "completed") memory("removeItem", id); // all is sent
    if (isHeld) network.deadline = Infinity; // the scan has one of its own
    if (isHeld && progress.phase !== "verifying") progress.enter("verifying");
    if (upload.status === "completed" || (isHeld && !waitForScan)) return upload;
    await time.pause(FIRST_DELAY + time.delay(times), signal);
  }
}

// Resuming

/**
 * The pending upload of this file, signed again; null if there is none, or if this page is sending it already.
 *
 * @param {Django} django
 * @param {{destination: string, filename: string, size: number, context?: object}} declared
 * @param {string} print
 * @param {number | false | undefined} lastModified a number: resume also an upload that this browser does not remember
 * @returns {Promise<Begun | null>}
 */
async function findInterrupted(django, declared, print, lastModified) {
  const {destination, filename, size, context = {}} = declared;
  const pending = async (/** @type {Record<string, string>} */ more) => {
    const query = new URLSearchParams({status: "pending", destination, size: `${size}`, ...more});
    const {results} = await django.ask("begin", `?${query}`).catch((error) => {
      if (error.status === 401 || error.status === 403) return {results: []}; // a visitor; if not, begin says so
      throw error;
    });
    return results.filter((/** @type {Upload} */ {id}) => !running.has(id));
  };
  // This browser remembers the file's fingerprint. The filename and the type are not compared, because Django may have
  // stored another form of them.
  let [found] = (await pending({})).filter((/** @type {Upload} */ {id}) => memory("getItem", id) === print);
  if (!found && typeof lastModified === "number") {
    // Only if the caller asks for it: two files may have all of this in common, and their parts would be mixed.
    [found] = (await pending({filename})).filter((/** @type {Upload} */ each) => {
      const isAsOld = lastModified <= Date.parse(each.created_at); // if not, S3's parts are from before the change
      return !memory("getItem", each.id) && isAsOld && sorted(each.context) === sorted(context);
    });
  }
  const answer = found && (await renew(found.id, django));
  return answer?.multipart ? answer : null;
}

/** JSON with sorted keys, because PostgreSQL changes the order of an object's keys. @param {unknown} value */
function sorted(value) {
  return JSON.stringify(value, (_, each) => {
    const isObject = each && typeof each === "object" && !Array.isArray(each);
    return isObject ? Object.fromEntries(Object.entries(each).sort()) : each;
  });
}

/** @param {unknown} value */
function fingerprint(value) {
  let hash = 0;
  for (const character of JSON.stringify(value)) hash = (31 * hash + character.charCodeAt(0)) | 0;
  return `${hash}`;
}

/** @param {"getItem" | "setItem" | "removeItem"} action @param {string} id @param {string} [print] */
function memory(action, id, print = "") {
  try {
    return localStorage[action](`s3direct-uploads:${id}`, print);
  } catch {
    return null; // localStorage is missing or full: then nothing is remembered
  }
}

// Sending

/**
 * @typedef {object} Rest
 * @property {UploadFile} file
 * @property {string} id
 * @property {Django} django
 * @property {Network} network
 * @property {Send} send
 * @property {Network["time"]} time
 * @property {Gate} gate
 * @property {Network["progress"]} progress
 * @property {AbortSignal} [signal]
 * @property {number} parallel
 * @property {Calls} [calls]
 */

/** A file in one PUT. @param {PresignedRequest} request @param {Rest} rest */
function sendWhole(request, rest) {
  const {file, id, django, time, progress, signal} = rest;
  /** @type {PresignedRequest | null | undefined} */
  let newest = request;
  const lives = (/** @type {PresignedRequest | null | undefined} */ it) => time.now() + (it?.expires_in ?? Infinity) * 900;
  let until = lives(request);
  // Chromium checks that the file is unchanged if it sends a slice, but not if it sends the whole file.
  return deliver(file.slice(0, file.size), {
    signed: async () => {
      if (newest && time.now() < until) return newest;
      newest = (await renew(id, django))?.request;
      until = lives(newest);
      return newest;
    },
    refused: () => (newest = null),
    onLoaded: (loaded) => progress.reach(loaded),
    onFailure: () => {},
    rest,
    signal,
  });
}

/** A file in parts, several at once. */
class Parts {
  /** @param {PresignedMultipart} multipart @param {Rest} rest */
  constructor({part_size, part_count, parts, expires_in}, rest) {
    this.rest = rest;
    this.partSize = part_size;
    /** The numbers of the parts that are not being sent yet. */
    this.waiting = Array.from({length: part_count}, (_, index) => index + 1);
    /** The parts that are being sent: their numbers, and how many bytes were sent. @type {Map<number, number>} */
    this.underway = new Map();
    this.atOnce = rest.parallel;
    this.successes = 0;
    this.sent = 0; // bytes
    this.over = false; // S3 accepts no more parts: they were joined, or the upload was aborted
    /** @type {Map<number, PresignedPart & {until: number}>} */
    this.urls = new Map();
    /** @type {Promise<void> | null} */
    this.signing = null;
    this.keep(parts, expires_in);
  }

  async leaveOutWhatIsThere() {
    const {id, django} = this.rest;
    const there = await ended(django.ask("renew", `${id}/parts/`));
    const sizes = new Map((there ?? []).map((/** @type {PresignedPart} */ part) => [part.part_number, part.size]));
    this.waiting = this.waiting.filter((number) => sizes.get(number) !== this.sizeOf(number));
    this.sent = this.rest.file.size - this.waiting.reduce((sum, number) => sum + this.sizeOf(number), 0);
    this.over = !there;
    this.rest.progress.reach(this.sent);
  }

  async send() {
    const {signal} = this.rest;
    throwIfAborted(signal);
    const failed = new AbortController();
    /** @type {unknown} */
    let failure;
    const fail = (/** @type {unknown} */ error) => {
      failure ??= error;
      failed.abort();
    };
    const abort = () => fail(signal?.reason);
    const lanes = new Set();
    signal?.addEventListener("abort", abort);
    while (this.waiting.length + lanes.size && !this.over && !failed.signal.aborted) {
      while (this.waiting.length && lanes.size < this.atOnce) {
        const number = /** @type {number} */ (this.waiting.shift());
        const lane = this.sendPart(number, failed.signal)
          .catch(fail) // this also stops the other parts
          .finally(() => lanes.delete(lane));
        lanes.add(lane);
      }
      await Promise.race(lanes);
    }
    await Promise.all(lanes);
    signal?.removeEventListener("abort", abort);
    if (failed.signal.aborted) throw failure;
  }

  /** @param {number} number @param {AbortSignal} signal */
  async sendPart(number, signal) {
    const {file, parallel} = this.rest;
    const start = (number - 1) * this.partSize;
    const size = this.sizeOf(number);
    this.load(number, 0);
    try {
      // A slice has no type. If it had one, the browser would send a header that nobody signed.
      await deliver(file.slice(start, start + size), {
        signed: () => this.signed(number),
        refused: () => this.urls.clear(), // all of them: they were signed together
        onLoaded: (loaded) => this.load(number, loaded),
        onFailure: () => {
          this.atOnce = Math.max(1, this.atOnce >> 1);
          this.successes = 0;
        },
        rest: this.rest,
        signal,
      });
      this.sent += size;
      if (++this.successes >= 2 * this.atOnce && this.atOnce < parallel) {
        this.atOnce++;
        this.successes = 0;
      }
    } catch (error) {
      if (!(error instanceof UploadError) || error.code !== "NoSuchUpload") throw error;
      this.over = true; // confirm finds out how it ended
    } finally {
      this.urls.delete(number);
      this.underway.delete(number);
    }
  }

  /** @param {number} number */
  sizeOf(number) {
    return Math.min(this.partSize, this.rest.file.size - (number - 1) * this.partSize);
  }

  /** @param {number} number @param {number} loaded */
  load(number, loaded) {
    this.underway.set(number, loaded);
    let all = this.sent;
    for (const each of this.underway.values()) all += each;
    this.rest.progress.reach(all);
  }

  /** @param {number} number @returns {Promise<PresignedRequest | null>} null if S3 accepts no more parts */
  async signed(number) {
    while (!this.over && !this.isSigned(number)) await this.sign();
    if (this.over) return null;
    const ahead = this.waiting[2 * this.atOnce];
    if (ahead && !this.isSigned(ahead)) this.sign().catch(() => {}); // if it fails, sendPart signs again
    return /** @type {PresignedRequest} */ (this.urls.get(number));
  }

  /** @param {number} number */
  isSigned(number) {
    return this.rest.time.now() < (this.urls.get(number)?.until ?? 0);
  }

  /** Signs the parts that are being sent, and the next ones. Several callers share one request. */
  sign() {
    const {id, django} = this.rest;
    const ask = async () => {
      const wanted = [...this.underway.keys(), ...this.waiting.slice(0, SIGNED_AT_ONCE)];
      const part_numbers = wanted.filter((number) => !this.isSigned(number)).slice(0, SIGNED_AT_ONCE);
      const answer = await ended(django.ask("renew", `${id}/parts/`, {part_numbers}));
      if (answer) this.keep(answer.parts, answer.expires_in);
      else this.over = true;
    };
    return (this.signing ??= ask().finally(() => (this.signing = null)));
  }

  /** @param {PresignedPart[]} parts @param {number} expiresIn */
  keep(parts, expiresIn) {
    // By durations, because the clocks of phones are wrong. After 90 %, because sending takes a moment, too.
    const until = this.rest.time.now() + expiresIn * 900;
    for (const part of parts) this.urls.set(part.part_number, {...part, until});
  }
}

/**
 * Sends a body to S3, until it is there: its URL may have expired, and the network or S3 may be away.
 *
 * @typedef {object} Delivery
 * @property {() => Promise<PresignedRequest | null | undefined>} signed null if there is nothing left to send
 * @property {() => void} refused the next signed() must sign again
 * @property {(loaded: number) => void} onLoaded
 * @property {() => void} onFailure
 * @property {Rest} rest
 * @property {AbortSignal} [signal]
 *
 * @param {Blob | Slice} body @param {Delivery} delivery
 */
async function deliver(body, {signed, refused, onLoaded, onFailure, rest, signal}) {
  const {network, gate} = rest;
  const tries = network.tries();
  let untried = false; // whether the URL is new: if a new URL is refused, signing again does not help
  for (;;) {
    await gate.passed(signal);
    const request = await network.unless(signal, signed()); // Django may be away for hours
    if (!request) return tries.end();
    if (gate.signal.aborted) continue; // paused while it was signed
    // Of a file that is gone, Firefox and Safari send nothing, and report no error.
    await assertReadable(body, "send");
    let loaded = 0;
    const count = (/** @type {number} */ now) => onLoaded((loaded = now));
    try {
      await put(request, body, count, [signal, gate.signal], tries, rest.send);
      return tries.end();
    } catch (error) {
      onLoaded(0);
      if (gate.signal.aborted) continue;
      throwIfAborted(signal);
      if (!(error instanceof UploadError)) throw error;
      /** @type {boolean} */
      const wasUntried = untried;
      untried = !wasUntried && error.status === 403; // S3 answers it if a URL has expired
      if (untried) {
        refused();
        continue;
      }
      onFailure();
      // If bytes were sent, the preflight was answered. If all of them were, perhaps the page may not read the answer.
      network.isReached ||= loaded > 0;
      const isOutage = network.knows(request.url) || (network.isReached && loaded < body.size);
      // Without an answer a page does not know why. A changed file looks the same as a failed network.
      const check = () => assertReadable(body, "send");
      const wasThere = await tries.outlast(error, {url: request.url, isOutage, check, signal, wake: gate.signal});
      // Ceph answers 403 already to the preflight, and without CORS headers. Then the page sees no answer. If S3 was away,
      // the URL is not the cause, and Django may still be away.
      untried = !wasUntried && wasThere && error.status === NO_ANSWER;
      if (untried) refused();
    }
  }
}

/** @param {string} id @param {Django} django @returns {Promise<Begun | null>} null if it was settled meanwhile */
function renew(id, django) {
  return ended(django.ask("renew", `${id}/renew/`, {}));
}

/** Returns null if Django answers 410: the upload has ended, and confirm finds out how. @param {Promise<any>} asked */
async function ended(asked) {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof UploadError && error.status === 410) return null;
    throw error;
  }
}

/** The gate is shut while the upload is paused. To shut it aborts the running requests to S3. */
class Gate {
  controller = new AbortController();
  onTurn = () => {};
  /** What waits before it. @type {Set<(value?: unknown) => void>} */
  waiting = new Set();

  get signal() {
    return this.controller.signal;
  }

  shut() {
    this.onTurn();
    this.controller.abort();
  }

  open() {
    if (!this.signal.aborted) return;
    this.onTurn();
    this.controller = new AbortController();
    for (const wake of this.waiting) wake();
    this.waiting.clear();
  }

  /** @param {AbortSignal} [signal] */
  async passed(signal) {
    while (this.signal.aborted && !signal?.aborted) {
      await new Promise((resolve) => {
        this.waiting.add(resolve);
        signal?.addEventListener("abort", resolve, {once: true});
      });
    }
    throwIfAborted(signal);
  }
}

export class Django {
  /** Of a visitor's upload. @type {string | null} */
  token = null;

  /** @param {Options} options @param {Network} network */
  constructor({headers, credentials = "same-origin", signal}, network) {
    this.headers = async () => {
      const all = new Headers(await (typeof headers === "function" ? headers() : headers));
      if (this.token) all.set("Upload-Token", this.token);
      return all;
    };
    this.credentials = credentials;
    this.signal = signal;
    this.network = network;
  }

  /**
   * Asks Django until it answers. Every call may be repeated: begin has an Idempotency-Key, the others are idempotent.
   *
   * @param {Step} step @param {string} path @param {object} [body] to POST @param {Record<string, string>} [extra]
   */
  async ask(step, path, body, extra = {}) {
    const {signal, network} = this;
    const tries = network.tries();
    for (;;) {
      throwIfAborted(signal);
      try {
        const answer = await this.once(step, path, body, extra, tries);
        tries.end();
        return answer;
      } catch (error) {
        throwIfAborted(signal);
        if (!(error instanceof UploadError)) throw error;
        await tries.outlast(error, {url: network.endpoint, isOutage: network.deadline !== null, signal});
      }
    }
  }

  /** @param {Step} step @param {string} path @param {object | undefined} body @param {Record<string, string>} extra @param {Tries} tries */
  async once(step, path, body, extra, tries) {
    const {credentials, signal, network} = this;
    const headers = await this.headers().catch((cause) => {
      // A function that asks for a new token needs the network, too. Once the upload has begun, the function is known to work.
      throw cause instanceof TypeError && network.deadline !== null ? unreachable(step, "The server", "", cause) : cause;
    });
    const ours = {Accept: "application/json", ...(body && {"Content-Type": "application/json"}), ...extra};
    for (const [name, value] of Object.entries(ours)) headers.set(name, value);
    const watch = tries.watch([signal], 2);
    const init = {method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), credentials, signal: watch.signal};
    watch.allow();
    try {
      return await answered(step, network, () => network.fetch(network.endpoint + path, init));
    } finally {
      watch.end();
    }
  }

  /** @param {string} id */
  async cancel(id) {
    memory("removeItem", id);
    try {
      const {credentials, network} = this;
      const headers = await this.headers();
      // keepalive, because the page is often closed at this moment.
      await network.fetch(`${network.endpoint}${id}/`, {method: "DELETE", headers, credentials, keepalive: true});
    } catch {
      // The upload expires in Django after some time.
    }
  }
}

/** @param {Step} step @param {Network} network @param {() => Promise<Response>} ask */
export async function answered(step, network, ask) {
  let response, text;
  try {
    response = await ask();
    text = await response.text();
  } catch (cause) {
    throw unreachable(step, "The server", network.isElsewhere ? "the API's CORS settings do" : "", cause);
  }
  network.heard(network.endpoint);
  const body = parsed(text);
  if (response.ok && body && typeof body === "object") return body; // not the HTML of a login page after a redirect
  const {status, headers} = response;
  throw new UploadError(body?.detail ?? `The server gave an unexpected answer (${status}).`, {
    step,
    code: body?.code ?? "unexpected_answer",
    status,
    body: typeof body?.code === "string" && Array.isArray(body.errors) ? body : text,
    upload: body?.upload,
    retryAfter: Number(body?.retry_after ?? headers.get("Retry-After")) || 0,
  });
}

/**
 * @param {PresignedRequest} request @param {Blob | Slice} body @param {(loaded: number) => void} onLoaded
 * @param {(AbortSignal | undefined)[]} signals @param {Tries} tries @param {Send} send
 */
async function put(request, body, onLoaded, signals, tries, send) {
  const {time} = tries.network;
  const watch = tries.watch(signals, 4);
  const started = time.now();
  let left = -1;
  const count = (/** @type {number} */ loaded) => {
    // A proxy may begin to pass it on when it has everything. That takes as long again.
    if (loaded > left) watch.allow(loaded === body.size ? time.now() - started : 0);
    left = loaded;
    onLoaded(loaded);
  };
  watch.allow();
  try {
    let cause;
    const sent = (async () => send({method: "PUT", ...request}, body, watch.signal, count))();
    const {status, text = ""} = await sent.catch((/** @type {any} */ thrown) => {
      if (/^Not(Readable|Found)Error$/.test(thrown?.name)) throw unreadable("send", thrown);
      cause = thrown;
      return {status: NO_ANSWER, text: ""};
    });
    if (status !== NO_ANSWER) tries.network.heard(request.url);
    // 412: an object is there already. Probably this PUT arrived, and its answer was lost. Confirm finds out.
    if ((status >= 200 && status < 300) || status === 412) return onLoaded(body.size);
    if (status !== NO_ANSWER) throw refusal(status, text);
    const isLost = left > 0 && left < body.size;
    throw unreachable("send", "The storage", isLost ? null : "the bucket's CORS rules do", cause);
  } finally {
    watch.end();
  }
}

/** @param {string} what */
function unsupported(what) {
  const message = `${what} docs/clients.md says how upload.js runs here: "Other runtimes".`;
  return new UploadError(message, {step: "begin", code: "not_supported"});
}

/** @param {number} status @param {string} body */
function refusal(status, body) {
  const code = /<Code>([^<]+)/.exec(body)?.[1] ?? "unexpected_answer";
  return new UploadError(`The storage answered ${status} ${code}.`, {step: "send", code, status, body});
}

/** @param {Step} step @param {string} who @param {string | null} rules null: they are not the cause @param {unknown} [cause] */
function unreachable(step, who, rules, cause) {
  const why = rules && ` Either the network failed, or ${rules} not allow this page. The browser's console says which.`;
  const message = rules === null ? "The connection to the storage was lost." : `${who} could not be reached.${why}`;
  return new UploadError(message, {step, code: "network_error", cause});
}

/**
 * Reads the last byte, because a file that became shorter does not have it. An empty file is opened as a whole: a
 * browser reads nothing for an empty slice, and a dropped folder may have the size 0.
 *
 * @param {Slice} body @param {Step} step
 */
async function assertReadable(body, step) {
  if (!body.arrayBuffer) return; // a Blob of React Native has none
  const last = body.size ? body.slice(body.size - 1) : body;
  const bytes = await /** @type {Blob} */ (last).arrayBuffer().catch((cause) => {
    throw unreadable(step, cause);
  });
  if (bytes.byteLength !== Math.min(1, body.size)) throw unreadable(step);
}

/**
 * A browser checks whether a file has changed only when it begins to read. So S3 may have half of the old file and
 * half of the new one. A file that was deleted after it was read is no problem: Chromium then says NotFoundError, and
 * Firefox AbortError. Safari says NotFoundError also of a changed file. But there lastModified is another one, too.
 *
 * @param {UploadFile} file @param {number} [lastModified] when the upload began
 */
async function assertUnchanged(file, lastModified) {
  try {
    await assertReadable(file.slice(0, file.size), "confirm");
  } catch (error) {
    const {cause} = /** @type {{cause?: any}} */ (error);
    const isGone = ["NotFoundError", "AbortError"].includes(cause?.name);
    if (!isGone || file.lastModified !== lastModified) throw error;
  }
}

/** @param {Step} step @param {unknown} [cause] */
function unreadable(step, cause) {
  const message = "The file was changed, moved or deleted after it was chosen. Choose it again. A folder cannot be uploaded.";
  return new UploadError(message, {step, code: "file_unreadable", cause});
}

/** @param {"CRC32" | "SHA256"} algorithm @param {UploadFile} file @param {AbortSignal} [signal] */
async function computed(algorithm, file, signal) {
  const {inWorker} = await imported("checksum.js", import("./checksum.js"), "begin");
  // package.json leaves checksum.js out of bundles for React Native, because Hermes refuses import.meta.
  if (!inWorker || !file.arrayBuffer) throw unsupported("No checksum can be computed here. Give its value in the option checksum.");
  try {
    return await inWorker(algorithm, file, signal);
  } catch (cause) {
    throw unreadable("begin", cause);
  }
}

/** @template T @param {string} name @param {Promise<T>} module @param {Step} step */
async function imported(name, module, step) {
  try {
    return await module;
  } catch (cause) {
    const message = `${name} could not be loaded from the folder of upload.js. ${cause}`;
    throw new UploadError(message, {step, code: "module_not_loaded", cause});
  }
}

/**
 * Safari before 15.4 and React Native have no signal.throwIfAborted(), and no signal.reason.
 *
 * @param {AbortSignal} [signal]
 */
function throwIfAborted(signal) {
  if (signal?.aborted) throw signal.reason ?? Object.assign(new Error("The upload was aborted."), {name: "AbortError"});
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
