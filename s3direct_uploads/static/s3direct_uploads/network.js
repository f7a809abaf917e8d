/**
 * What is between a page and the servers: when to ask again, how long to wait, and what to tell of it meanwhile.
 * upload.js loads it.
 *
 * @module
 *
 * @import {Clock, Options, Progress, Send, UploadError} from "./types.js"
 */

const ATTEMPTS = 5; // at what may be a mistake in the settings; an outage counts none
const FIRST_DELAY = 1_000;
const LONGEST_DELAY = 30_000;
const LONGEST_RETRY_AFTER = 300_000; // milliseconds; if a server asks for more before the upload has a deadline, give up
const STALL_TIMEOUT = 30_000; // milliseconds
const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds; a browser takes a longer one for none
const TICK = 1_000; // milliseconds
const SPEED_OVER = 8_000; // milliseconds over which the speed is measured; then it is stalled

const NO_ANSWER = 0;
const PASSING_STATUSES = new Set([NO_ANSWER, 408, 429, 500, 502, 503, 504]);
// Never retried, although the status is 503 or there was no answer: a later attempt fails too.
const LASTING_CODES = new Set(["storage_not_s3", "misconfigured", "file_unreadable", "module_not_loaded"]);
// Retried, although the status is 400 or 409.
const PASSING_S3_CODES = new Set(["RequestTimeout", "ConditionalRequestConflict"]);

/** The servers that have answered this page. If one gives no answer later, it is not a mistake in its settings. */
const known = new Set();

/** The network as one upload meets it. */
export class Network {
  /** When the upload ends, in the time of `time`; null before it has begun. @type {number | null} */
  deadline = null;
  /** Whether the storage took any bytes, which it does only if its CORS rules allow this page. */
  isReached = false;

  /**
   * @param {Options} options
   * @param {{total: number, isPaused: () => boolean}} sending the size of the file, and whether the user paused it
   */
  constructor({endpoint, stallTimeout = STALL_TIMEOUT, clock = CLOCK, onProgress, fetch = FETCH}, sending) {
    this.endpoint = endpoint.endsWith("/") ? endpoint : `${endpoint}/`;
    this.stallTimeout = stallTimeout;
    this.fetch = fetch;
    this.time = new Time(clock);
    this.progress = new ForwardProgress(sending, onProgress, this.time);
  }

  /** A server has answered. @param {string} url */
  heard(url) {
    known.add(originOf(url));
  }

  /** Whether a server has ever answered. @param {string} url */
  knows(url) {
    return known.has(originOf(url));
  }

  /** Whether Django is on another origin than the page. */
  get isElsewhere() {
    return globalThis.location !== undefined && originOf(this.endpoint) !== location.origin;
  }

  tries() {
    return new Tries(this);
  }

  /** Rejects as soon as it is aborted, although the work goes on. @template T @param {AbortSignal | undefined} signal @param {Promise<T>} work */
  async unless(signal, work) {
    let abort = () => {};
    /** @type {Promise<never>} */
    const aborted = new Promise((_, reject) => (abort = () => reject(signal?.reason)));
    signal?.addEventListener("abort", abort);
    try {
      return await Promise.race([work, aborted]);
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }
}

/** The attempts to send one request. Between them it waits until the server is there, so that nothing is sent in vain. */
export class Tries {
  failed = 0;
  counted = 0; // of the failed ones, those that a mistake in the settings may explain
  stalled = 0;

  /** @param {Network} network */
  constructor(network) {
    this.network = network;
  }

  end() {
    this.network.progress.wait(this, false);
  }

  /**
   * Resolves when it is time for the next attempt: with false if the server was away. Rejects if there should be none.
   *
   * @param {UploadError} error
   * @param {object} facts
   * @param {string} facts.url
   * @param {boolean} facts.isOutage whether the settings are known to be right
   * @param {() => Promise<void>} [facts.check] rejects if there is nothing left to send
   * @param {AbortSignal} [facts.signal]
   * @param {AbortSignal} [facts.wake] ends the wait
   * @returns {Promise<boolean>}
   */
  async outlast(error, {url, isOutage, check, signal, wake}) {
    if (!mayPass(error)) throw error;
    const {network} = this;
    const isProbed = error.status === NO_ANSWER && !(isOutage && url === network.endpoint); // Django is just asked again
    for (let waited = false; ; waited = true) {
      if (isProbed) await check?.();
      const isThere = !isProbed || (await this.answers(url, signal));
      if (isThere && waited) {
        this.failed = 0; // the next outage is another one
        return false;
      }
      const counts = !isOutage && (isThere || (await this.isOnline(url, signal)));
      if (counts && ++this.counted === ATTEMPTS) throw error;
      if (!isThere || this.failed) network.progress.wait(this, true);
      await this.pause(error, signal, wake);
      if (isThere || wake?.aborted) return isThere;
    }
  }

  /** @param {UploadError} error @param {AbortSignal} [signal] @param {AbortSignal} [wake] */
  async pause(error, signal, wake) {
    const {time, deadline} = this.network;
    const left = (deadline ?? time.now() + LONGEST_RETRY_AFTER) - time.now();
    const asked = 1_000 * error.retryAfter;
    if (left <= 0) {
      error.message = `The upload's deadline has passed. ${error.message}`;
      error.code = "deadline_passed";
    }
    if (left <= 0 || asked > left) throw error;
    await time.pause(Math.min(left, asked + time.delay(this.failed++)), signal, wake);
  }

  /**
   * Whether a server can be reached, even if this page may not read its answer.
   *
   * @param {string} url @param {AbortSignal} [signal]
   */
  async answers(url, signal) {
    if (globalThis.crossOriginIsolated) return true; // such a page cannot ask in this way
    const watch = this.watch([signal], 0);
    watch.allow();
    try {
      const init = /** @type {RequestInit} */ ({method: "HEAD", mode: "no-cors", credentials: "omit", cache: "no-store"});
      const {endpoint} = this.network;
      await this.network.fetch(url === endpoint ? url : `${originOf(url)}/`, {...init, signal: watch.signal});
      return true;
    } catch {
      if (signal?.aborted) throw signal.reason;
      return false;
    } finally {
      watch.end();
    }
  }

  /** Whether only this one server is away. @param {string} url @param {AbortSignal} [signal] */
  async isOnline(url, signal) {
    const {endpoint} = this.network;
    if (url !== endpoint) return this.answers(endpoint, signal);
    return !known.has(originOf(url)) && globalThis.navigator?.onLine !== false;
  }

  /**
   * Aborts a request that makes no progress. It gets twice the time in the next attempt, because a line may be slow, and
   * what is on its way may be in the buffers of this machine.
   *
   * @param {(AbortSignal | undefined)[]} signals abort it, too @param {number} doublings at most
   */
  watch(signals, doublings) {
    const {time: {clock}, stallTimeout} = this.network;
    const aborted = new AbortController();
    const abort = () => aborted.abort();
    /** @type {unknown} */
    let timer;
    for (const signal of signals) {
      if (signal?.aborted) abort();
      signal?.addEventListener("abort", abort);
    }
    const stall = () => {
      if (doublings) this.stalled++;
      abort();
    };
    return {
      signal: aborted.signal,
      allow: (more = 0) => {
        clock.clearTimeout(timer);
        timer = clock.setTimeout(stall, Math.min(LONGEST_TIMER, stallTimeout * 2 ** Math.min(doublings, this.stalled) + more));
      },
      end: () => {
        clock.clearTimeout(timer);
        for (const signal of signals) signal?.removeEventListener("abort", abort);
      },
    };
  }
}

/** By XMLHttpRequest, because fetch does not report the progress of sending. @type {Send} */
export function byXhr({method, url, headers}, body, signal, onLoaded) {
  return new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    xhr.open(method, url);
    xhr.withCredentials = false;
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    xhr.upload.onprogress = ({loaded}) => onLoaded(loaded);
    xhr.onloadend = () => resolve({status: xhr.status, text: xhr.responseText});
    signal.addEventListener("abort", () => xhr.abort());
    xhr.send(/** @type {Blob} */ (body));
  });
}

/** Read each time, because a page may replace it. @type {NonNullable<Options["fetch"]>} */
const FETCH = (url, init) => fetch(url, init);

/** The clock without options.clock. @type {Clock} */
const CLOCK = {
  now: () => (globalThis.performance ?? Date).now(),
  setTimeout: (callback, milliseconds) => setTimeout(callback, milliseconds),
  clearTimeout: (timer) => clearTimeout(timer),
  random: () => Math.random(),
};

class Time {
  /** @param {Clock} clock */
  constructor(clock) {
    this.clock = clock;
  }

  /** In milliseconds. */
  now() {
    return this.clock.now();
  }

  /**
   * Exponential, with full jitter, so that a thousand browsers do not retry at the same moment.
   *
   * @param {number} times
   */
  delay(times) {
    return this.clock.random() * Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** times);
  }

  /**
   * Also ends when the network returns, or when it is woken.
   *
   * @param {number} milliseconds @param {AbortSignal} [signal] @param {AbortSignal} [wake] @returns {Promise<void>}
   */
  pause(milliseconds, signal, wake) {
    const {clock} = this;
    const page = /** @type {Partial<EventTarget>} */ (globalThis);
    return new Promise((resolve, reject) => {
      const end = () => {
        clock.clearTimeout(timer);
        for (const each of [signal, wake]) each?.removeEventListener("abort", end);
        page.removeEventListener?.("online", end);
        if (signal?.aborted) reject(signal.reason);
        else resolve();
      };
      const timer = clock.setTimeout(end, signal?.aborted || wake?.aborted ? 0 : milliseconds);
      for (const each of [signal, wake]) each?.addEventListener("abort", end);
      page.addEventListener?.("online", end);
    });
  }
}

class ForwardProgress {
  loaded = 0;
  /** What is sent or under way now: less than `loaded` after a failure. */
  current = 0;
  /** All the bytes that were sent, some of them again. */
  moved = 0;
  phase = /** @type {Progress["phase"]} */ ("begin");
  /** @type {{at: number, moved: number}[]} */
  marks = [];
  /** What waits for a server. @type {Set<Tries>} */
  waiting = new Set();
  movedAt = 0;
  /** @type {unknown} */
  timer;

  /** @param {{total: number, isPaused: () => boolean}} sending @param {Options["onProgress"]} listener @param {Time} time */
  constructor({total, isPaused}, listener, time) {
    this.total = total;
    this.isPaused = isPaused;
    this.listener = listener;
    this.time = time;
  }

  /** So that the speed falls when nothing moves. */
  tick() {
    this.timer = this.time.clock.setTimeout(() => {
      if (!this.isPaused()) this.reach(this.current);
      this.tick();
    }, TICK);
  }

  end() {
    this.time.clock.clearTimeout(this.timer);
  }

  /** @param {Progress["phase"]} phase */
  enter(phase) {
    this.phase = phase;
    this.end();
    if (this.listener && phase === "send") this.tick();
    this.rest();
    this.reach(phase === "confirm" || phase === "verifying" ? this.total : this.current);
  }

  /** Begin to measure the speed again. */
  rest() {
    this.marks = [];
    this.waiting.clear();
    this.movedAt = this.time.now();
  }

  /** @param {Tries} tries @param {boolean} isWaiting */
  wait(tries, isWaiting) {
    const {size} = this.waiting;
    if (isWaiting) this.waiting.add(tries);
    else this.waiting.delete(tries);
    if (size !== this.waiting.size) this.reach(this.current);
  }

  /** @param {number} loaded */
  reach(loaded) {
    const at = this.time.now();
    const current = Math.min(loaded, this.total);
    if (current > this.current) {
      this.moved += current - this.current;
      this.movedAt = at;
      this.waiting.clear();
    }
    this.current = current;
    this.loaded = Math.max(this.loaded, current);
    this.marks.push({at, moved: this.moved});
    while (at - this.marks[0].at > SPEED_OVER) this.marks.shift();
    const [oldest] = this.marks;
    const passed = at - oldest.at; // may be 0: some browsers' clocks have steps of 100 ms
    const bytesPerSecond = passed ? (1_000 * (this.moved - oldest.moved)) / passed : 0;
    const secondsLeft = bytesPerSecond ? (this.total - current) / bytesPerSecond : null;
    const isStalled = this.phase === "send" && at - this.movedAt >= SPEED_OVER;
    const phase = this.waiting.size ? "waiting" : isStalled ? "stalled" : this.phase;
    this.listener?.({loaded: this.loaded, total: this.total, phase, bytesPerSecond, secondsLeft});
  }
}

/** @param {UploadError} error */
function mayPass({step, code, status}) {
  if (LASTING_CODES.has(code)) return false;
  return PASSING_STATUSES.has(status) || (step === "send" && PASSING_S3_CODES.has(code));
}

/** @param {string} url */
function originOf(url) {
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href ?? "http://localhost").origin;
  } catch {
    return /^[^/]*\/\/[^/?#]*/.exec(url)?.[0] ?? ""; // in React Native a URL has no origin
  }
}

/**
 * A random key. crypto.randomUUID does not exist on a page that came by plain http, and React Native has no crypto. A
 * user's key is no secret, because it counts only among this user's uploads. A visitor's key is one, and needs crypto.
 */
export function randomKey() {
  const bytes = new Uint8Array(16);
  if (globalThis.crypto) crypto.getRandomValues(bytes);
  else bytes.forEach((_, index) => (bytes[index] = 256 * Math.random()));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
