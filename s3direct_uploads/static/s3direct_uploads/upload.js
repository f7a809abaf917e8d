/**
 * Uploads a File straight to S3, by a request that Django signed: begin, send, confirm.
 *
 *     import {upload} from "s3direct-uploads";
 *
 *     const {id} = await upload(file, {
 *       endpoint: "/api/uploads/",
 *       destination: "photos",
 *       headers: {"X-CSRFToken": token},
 *       onProgress: ({loaded, total}) => { bar.value = loaded / (total || 1); },
 *     });
 *
 * @module
 *
 * @typedef {"begin" | "send" | "renew" | "confirm"} Step
 *
 * @typedef {{method: string, url: string, headers: Record<string, string>, expires_in: number}} PresignedRequest
 *
 * @typedef {{
 *   id: string, status: string, destination: string, filename: string, content_type: string, size: number,
 *   context: Record<string, unknown>, created_at: string, expires_at: string, completed_at: string | null,
 *   reason: string | null,
 * }} Upload what Django says of it; a status you do not know is not final
 *
 * @typedef {{step: Step, code: string, status?: number, body?: any, upload?: Upload, retryAfter?: number,
 *   cause?: unknown}} Facts
 *
 * @typedef {object} Progress
 * @property {number} loaded bytes that have left; never runs backward, not even when sending starts over
 * @property {number} total
 * @property {"begin" | "send" | "confirm"} phase
 *
 * @typedef {object} Options
 * @property {string} endpoint where Django has the uploads, such as "/api/uploads/"
 * @property {string} destination
 * @property {Record<string, unknown>} [context]
 * @property {HeadersInit | (() => HeadersInit | Promise<HeadersInit>)} [headers] for Django, never for S3;
 *   a function is called anew for each request, so that a token may change under way
 * @property {RequestCredentials} [credentials] for Django, never for S3
 * @property {(progress: Progress) => void} [onProgress]
 * @property {AbortSignal} [signal] aborting cancels the upload at Django too
 * @property {{algorithm: string, value: string} | "SHA256"} [checksum] value in base64; "SHA256" is computed
 *   here, which reads the whole file into memory and needs https or localhost
 * @property {string} [idempotencyKey] at most 64 characters; a failed upload's takes it up where it failed
 */

const ATTEMPTS = 5;
const FIRST_DELAY = 1_000;
const LONGEST_DELAY = 30_000;
const LONGEST_RETRY_AFTER = 300; // seconds; a server that asks for more means "not now"

const NO_ANSWER = 0;
const PASSING_STATUSES = new Set([NO_ANSWER, 408, 429, 500, 502, 503, 504]);
const LASTING_CODES = new Set(["storage_not_s3", "misconfigured"]); // although 503
const PASSING_S3_CODES = new Set(["RequestTimeout", "ConditionalRequestConflict"]); // although 400 and 409

/** Why an upload did not complete. */
export class UploadError extends Error {
  name = "UploadError";

  /** @param {string} message @param {Facts} facts */
  constructor(message, {step, code, status = NO_ANSWER, body = null, upload, retryAfter = 0, cause}) {
    super(message, {cause});
    this.step = step;
    /** Django's `code`, S3's `<Code>`, or "network_error" when there was no answer. */
    this.code = code;
    /** 0 when there was no answer. */
    this.status = status;
    /** The answer: JSON, parsed, or text. */
    this.body = body;
    this.upload = upload;
    /** In seconds; 0 when the server did not ask for a wait. */
    this.retryAfter = retryAfter;
  }
}

/**
 * Resolves when the upload is completed; rejects with an UploadError, or with `signal.reason`. What is safe to
 * repeat has been repeated by then.
 *
 * @param {File} file
 * @param {Options} options
 * @returns {Promise<Upload>}
 */
export async function upload(file, options) {
  const {destination, context, checksum, idempotencyKey, onProgress, signal} = options;
  const django = new Django(options);
  const progress = new ForwardProgress(file.size, onProgress);
  /** @type {Upload | undefined} */
  let begun;
  try {
    signal?.throwIfAborted();
    progress.enter("begin");
    const declared = {
      destination,
      filename: file.name,
      size: file.size,
      content_type: file.type,
      context,
      checksum: checksum === "SHA256" ? await sha256(file) : checksum,
    };
    const answer = await django.ask("begin", "", declared, {"Idempotency-Key": idempotencyKey ?? randomKey()});
    // Kept apart: an upload may end up in an error, and an error in a log, which is no place for a signature.
    const {request, ...upload} = answer;
    begun = upload;
    if (upload.status === "completed") return upload;
    if (request) {
      progress.enter("send");
      await send(file, request, () => renew(upload.id, django), progress, signal);
    }
    progress.enter("confirm");
    return await confirm(upload.id, django, signal);
  } catch (error) {
    if (signal?.aborted) {
      if (begun) django.cancel(begun.id);
      throw signal.reason;
    }
    if (error instanceof UploadError) error.upload ??= begun;
    throw error;
  }
}

/**
 * @param {File} file
 * @param {PresignedRequest} request
 * @param {() => Promise<PresignedRequest | null>} renewed
 * @param {ForwardProgress} progress
 * @param {AbortSignal} [signal]
 */
async function send(file, request, renewed, progress, signal) {
  /** @type {PresignedRequest | null} */
  let newest = request;
  let untried = false; // a URL signed just now and refused at once will do no better signed anew
  /** @returns {Promise<void>} */
  const attempt = async () => {
    try {
      if (newest) await put(file, newest, progress, signal);
    } catch (error) {
      const mayRenew = !untried && error instanceof UploadError && mayHaveExpired(error);
      untried = false;
      if (!mayRenew) throw error;
      newest = await renewed();
      untried = true;
      if (error.status === NO_ANSWER) throw error; // a broken network wants a pause
      await attempt();
    }
  };
  await persist(attempt, signal);
}

/**
 * 403 is how S3 says that a URL has expired. Ceph says it to the preflight already, and without CORS headers: then a
 * page sees no answer.
 *
 * @param {UploadError} error
 */
function mayHaveExpired({status}) {
  return status === 403 || status === NO_ANSWER;
}

/**
 * @param {string} id @param {Django} django
 * @returns {Promise<PresignedRequest | null>} null when the upload was settled meanwhile: confirm tells how
 */
async function renew(id, django) {
  try {
    return (await django.ask("renew", `${id}/renew/`, {})).request;
  } catch (error) {
    if (error instanceof UploadError && error.code === "not_pending") return null;
    throw error;
  }
}

/** @param {string} id @param {Django} django @param {AbortSignal} [signal] */
async function confirm(id, django, signal) {
  for (let times = 0; ; times++) {
    const upload = await django.ask("confirm", `${id}/confirm/`, {});
    if (upload.status === "completed") return upload;
    await pause(FIRST_DELAY + delay(times), signal);
  }
}

class Django {
  /** @param {Options} options */
  constructor({endpoint, headers, credentials = "same-origin", signal}) {
    this.endpoint = endpoint.endsWith("/") ? endpoint : `${endpoint}/`;
    this.headers = async () => new Headers(await (typeof headers === "function" ? headers() : headers));
    this.credentials = credentials;
    this.signal = signal;
  }

  /**
   * Whatever is asked may be asked again: begin thanks to its Idempotency-Key, the others by nature.
   *
   * @param {Step} step @param {string} path @param {object} body @param {Record<string, string>} [extra]
   */
  ask(step, path, body, extra = {}) {
    return persist(async () => {
      const {credentials, signal} = this;
      const headers = await this.headers();
      const ours = {Accept: "application/json", "Content-Type": "application/json", ...extra};
      for (const [name, value] of Object.entries(ours)) headers.set(name, value);
      const init = {method: "POST", headers, body: JSON.stringify(body), credentials, signal};
      return answered(step, () => fetch(this.endpoint + path, init));
    }, this.signal);
  }

  /** @param {string} id */
  async cancel(id) {
    try {
      const {credentials} = this;
      const headers = await this.headers();
      // keepalive: aborting is often the last thing a page does.
      await fetch(`${this.endpoint}${id}/`, {method: "DELETE", headers, credentials, keepalive: true});
    } catch {
      // Django gives the upload up by itself in time.
    }
  }
}

/** @param {Step} step @param {() => Promise<Response>} ask */
async function answered(step, ask) {
  let response, text;
  try {
    response = await ask();
    text = await response.text();
  } catch (cause) {
    throw new UploadError("The server could not be reached.", {step, code: "network_error", cause});
  }
  const body = parsed(text);
  if (response.ok && body?.id) return body; // the login page that a redirect led to is "ok" as well
  const {status, headers} = response;
  throw new UploadError(body?.detail ?? `The server gave an unexpected answer (${status}).`, {
    step,
    code: body?.code ?? "unexpected_answer",
    status,
    body,
    upload: body?.upload,
    retryAfter: Number(body?.retry_after ?? headers.get("Retry-After")) || 0,
  });
}

/**
 * By XMLHttpRequest, because fetch does not tell how much has left.
 *
 * @param {File} file @param {PresignedRequest} request
 * @param {ForwardProgress} progress @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function put(file, {method, url, headers}, progress, signal) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    const abort = () => xhr.abort();
    xhr.open(method, url);
    xhr.withCredentials = false;
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    xhr.upload.onprogress = ({loaded}) => progress.reach(loaded);
    xhr.onloadend = () => {
      signal?.removeEventListener("abort", abort);
      // 412: something is there already, most likely ours, its answer lost. Confirm tells.
      if ((xhr.status >= 200 && xhr.status < 300) || xhr.status === 412) resolve();
      else reject(xhr.status === NO_ANSWER ? unreachable(progress) : refused(xhr));
    };
    signal?.addEventListener("abort", abort);
    xhr.send(file);
  });
}

/** @param {XMLHttpRequest} xhr */
function refused({status, responseText: body}) {
  const code = /<Code>([^<]+)/.exec(body)?.[1] ?? "unexpected_answer";
  return new UploadError(`The storage answered ${status} ${code}.`, {step: "send", code, status, body});
}

/** @param {ForwardProgress} progress */
function unreachable({loaded}) {
  const message = loaded
    ? "The connection to the storage broke off."
    : "The storage could not be reached. It may be the network, or the bucket's CORS configuration " +
      "does not allow this page: a page is not told which, the browser's console is.";
  return new UploadError(message, {step: "send", code: "network_error"});
}

/** @template T @param {() => Promise<T>} attempt @param {AbortSignal} [signal] */
async function persist(attempt, signal) {
  for (let failed = 0; ; failed++) {
    signal?.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof UploadError) || !mayPass(error) || failed + 1 === ATTEMPTS) throw error;
      await pause(error.retryAfter * 1_000 + delay(failed), signal);
    }
  }
}

/** @param {UploadError} error */
function mayPass({step, code, status, retryAfter}) {
  if (retryAfter > LONGEST_RETRY_AFTER || LASTING_CODES.has(code)) return false;
  return PASSING_STATUSES.has(status) || (step === "send" && PASSING_S3_CODES.has(code));
}

/**
 * Exponential, with full jitter: a thousand browsers shall not come back at the same moment.
 *
 * @param {number} times
 */
function delay(times) {
  return Math.random() * Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** times);
}

/** @param {number} milliseconds @param {AbortSignal} [signal] @returns {Promise<void>} */
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, signal?.aborted ? 0 : milliseconds);
    signal?.addEventListener("abort", end);
  });
}

class ForwardProgress {
  loaded = 0;
  phase = /** @type {Progress["phase"]} */ ("begin");

  /** @param {number} total @param {Options["onProgress"]} listener */
  constructor(total, listener) {
    this.total = total;
    this.listener = listener;
  }

  /** @param {Progress["phase"]} phase */
  enter(phase) {
    this.phase = phase;
    this.reach(phase === "confirm" ? this.total : 0);
  }

  /** @param {number} loaded */
  reach(loaded) {
    this.loaded = Math.max(this.loaded, loaded);
    this.listener?.({loaded: this.loaded, total: this.total, phase: this.phase});
  }
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** @param {File} file */
async function sha256(file) {
  if (!crypto.subtle) {
    const message = "A checksum can be computed only on a page that came by https, or from localhost.";
    throw new UploadError(message, {step: "begin", code: "insecure_context"});
  }
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return {algorithm: "SHA256", value: btoa(String.fromCharCode(...new Uint8Array(digest)))};
}

/** Not by crypto.randomUUID, which a page that came by plain http lacks. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
