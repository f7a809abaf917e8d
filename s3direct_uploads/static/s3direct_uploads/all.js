/**
 * Uploads several files, a few at a time, with one progress for all of them.
 *
 *     import {uploadAll} from "s3direct-uploads/all.js";
 *
 *     const results = await uploadAll(input.files, {endpoint: "/api/uploads/", destination: "photos"});
 *     for (const {file, upload, error} of results) console.log(file.name, upload?.id ?? error.message);
 *
 * @module
 *
 * @import {Options, Progress, Upload, UploadFile, Uploading} from "./types.js"
 */
import {Batches, Group} from "./batches.js";
import {start} from "./upload.js";

const AT_ONCE = 3;
const PARALLEL = 2; // parts of each file: with HTTP/1.1 a browser has six connections to S3
const SPEED_OVER = 8_000; // milliseconds over which the speed is measured
const SMALL = 5 * 1024 ** 2; // bytes: S3's smallest part, so that the file is sent by one PUT
const FIRST = 10; // files that the first call begins, so that the first bytes are sent early
const MOST = 100; // files that may have begun and are not completed
const AHEAD = 32 * 1024 ** 2; // bytes that are begun ahead: with a slow line, the URLs of more would expire

/**
 * @typedef {object} AllProgress
 * @property {number} loaded Bytes that are sent, and those of files that failed. The number never decreases.
 * @property {number} total Bytes of all files.
 * @property {number} files How many there are.
 * @property {number} completed How many of them were completed, or are held by a scan.
 * @property {number} failed How many of them failed, or were cancelled.
 * @property {number} bytesPerSecond The speed of all files together during the last seconds; 0 if it is not known.
 * @property {number | null} secondsLeft How long the rest takes at this speed; null if it is not known.
 *
 * @typedef {object} Result How one file ended. Either `upload` or `error` is null.
 * @property {UploadFile} file
 * @property {Upload | null} upload
 * @property {any} error An UploadError; if it was cancelled, `signal.reason`.
 *
 * @typedef {object} More
 * @property {number} [atOnce] How many files are sent at once. The default is 3.
 * @property {(file: UploadFile, index: number) => Partial<Options>} [each] The options of one file, which
 *   replace the common ones. Its `onProgress` gets the progress of this file.
 * @property {(progress: AllProgress) => void} [onProgress]
 * @property {(result: Result, index: number) => void} [onResult] Called when a file has ended, while others are sent.
 *
 * @typedef {Omit<Options, "onProgress" | "idempotencyKey"> & More} AllOptions The options of upload(), and more. The
 *   default of `parallel` is 2. If `signal` is aborted, all files are cancelled that are not completed yet.
 */

/**
 * Resolves when every file has ended, with one result for each, in the order of the files. A file that fails stops no
 * other. Rejects only if `onResult` throws. Throws a RangeError or a TypeError if the options are wrong.
 *
 * @param {Iterable<UploadFile> | ArrayLike<File>} files an input's `files`, or any list
 * @param {AllOptions} options
 * @returns {Promise<Result[]> & {pause: () => void, resume: () => void}}
 */
export function uploadAll(files, options) {
  const {atOnce = AT_ONCE} = options;
  if (!Number.isInteger(atOnce) || atOnce < 1) throw new RangeError(`atOnce must be 1 or more; it is ${atOnce}.`);
  if ("idempotencyKey" in options) throw new TypeError("Each file needs a key of its own: return idempotencyKey from each().");
  if (!(Symbol.iterator in files || "length" in files)) throw new TypeError("files must be a list.");
  const all = new All(Array.from(files), options, atOnce);
  return Object.assign(all.run(), {pause: () => all.pause(), resume: () => all.resume()});
}

class All {
  /** The files that are being sent, and those that Django was asked for ahead. @type {Set<Uploading>} */
  running = new Set();
  next = 0;
  /** By index: those that have begun, or that Django was asked for ahead. @type {Map<number, Turn>} */
  turns = new Map();
  /** @type {Promise<void>[]} */
  ends = [];
  /** What a callback of the page threw. @type {{thrown: unknown} | null} */
  broken = null;
  /** How many uploads may be pending because of batches. */
  room = FIRST;
  pending = 0; // because of batches
  confirming = 0; // of them, sent ones after which the next file has begun
  isBeginning = false;
  /** Resolves when it is resumed. @type {Promise<void> | null} */
  paused = null;
  resumed = () => {};

  /** @param {UploadFile[]} files @param {AllOptions} options @param {number} atOnce */
  constructor(files, {each, onProgress, onResult, atOnce: _, ...common}, atOnce) {
    this.files = files;
    this.common = common;
    this.atOnce = atOnce;
    this.each = each;
    this.onResult = onResult;
    this.progress = new Total(files, onProgress, common.clock ?? globalThis.performance ?? Date);
    this.batches = new Batches(common);
    /** @type {Partial<Options>[]} */
    this.own = [];
    /** @type {Result[]} */
    this.results = [];
  }

  async run() {
    this.progress.tell();
    await Promise.all(Array.from({length: Math.min(this.atOnce, this.files.length)}, () => this.work()));
    await Promise.all(this.ends);
    this.batches.end();
    if (this.broken) throw this.broken.thrown;
    return this.results;
  }

  /** One file after the other. */
  async work() {
    while (this.next < this.files.length) {
      const index = this.next++;
      await this.isResumed();
      this.beginAhead(index);
      const turn = this.turns.get(index) ?? this.start(index);
      turn.come();
      await turn.over;
    }
  }

  /** The options of this file alone. @param {number} index */
  ownOf(index) {
    return (this.own[index] ??= this.each?.(this.files[index], index) ?? {});
  }

  /** Whether its begin can be one of a batch. @param {number} index */
  isForBatch(index) {
    if (this.turns.has(index) || !isSmall(this.files[index])) return false;
    try {
      const own = this.ownOf(index);
      const {checksum} = {...this.common, ...own};
      if (typeof checksum === "string") return false; // to compute a hundred at once would be too much for a phone
      return !own.idempotencyKey && !["endpoint", "headers", "credentials", "fetch"].some((name) => name in own);
    } catch {
      return false; // it is thrown again when its turn comes
    }
  }

  /** Begins small files by one call, if few are left that are begun. @param {number} from an index */
  beginAhead(from) {
    const isEarly = this.isBeginning || this.pending > this.room / 4 || this.paused || this.common.signal?.aborted;
    if (isEarly || !this.batches.canBegin || from >= this.files.length || !isSmall(this.files[from])) return;
    /** @type {number[]} */
    const chosen = [];
    let bytes = 0;
    for (let index = from; index < this.files.length && this.pending + chosen.length < this.room; index++) {
      bytes += this.files[index].size;
      if (bytes > AHEAD) break;
      if (this.isForBatch(index)) chosen.push(index);
    }
    if (chosen.length < 2) return;
    this.isBeginning = true;
    const group = new Group(this.batches, chosen.length, (refused) => {
      this.isBeginning = false;
      // Django allows only few pending uploads: half of them are left to others, and to the files that were refused.
      this.room = refused ? (this.pending - refused) >> 1 : this.room === FIRST ? MOST : this.room;
      this.beginAhead(this.next);
    });
    for (const index of chosen) this.start(index, group);
  }

  /** @param {number} index @param {Group} [group] */
  start(index, group) {
    const turn = new Turn();
    this.turns.set(index, turn);
    if (group) this.pending++;
    const end = async () => {
      const result = await this.send(index, turn, group);
      if (group) this.pending--;
      if (turn.isOver) this.confirming--;
      turn.end();
      this.results[index] = result;
      try {
        this.progress.end(index, result);
        this.onResult?.(result, index);
      } catch (thrown) {
        this.broken ??= {thrown}; // the other files are sent all the same
      }
    };
    this.ends.push(end());
    return turn;
  }

  /** @param {number} index @param {Turn} turn @param {Group} [group] @returns {Promise<Result>} */
  async send(index, turn, group) {
    const file = this.files[index];
    /** @type {Uploading | undefined} */
    let uploading;
    let leave = () => {};
    try {
      const own = this.ownOf(index);
      const options = {
        parallel: PARALLEL,
        ...this.common,
        ...own,
        onProgress: (/** @type {Progress} */ progress) => {
          if (!turn.isCome) return; // for the page it has not begun
          this.progress.reach(index, progress);
          own.onProgress?.(progress);
        },
      };
      const onSent = () => {
        if (turn.isOver || this.confirming + 1 > this.room / 2) return;
        this.confirming++;
        turn.end(); // the next file is sent while this one is confirmed
      };
      const admitted = group?.admit(options.signal, {coming: turn.coming, onSent});
      if (admitted) leave = admitted.leave;
      uploading = start(file, options, admitted?.calls);
      this.running.add(uploading);
      return {file, upload: await uploading, error: null};
    } catch (error) {
      return {file, upload: null, error};
    } finally {
      leave();
      if (uploading) this.running.delete(uploading);
    }
  }

  /** Also ends when all are cancelled: upload() then rejects at once. */
  async isResumed() {
    const {signal} = this.common;
    while (this.paused && !signal?.aborted) {
      /** @type {() => void} */
      let end = () => {};
      const aborted = new Promise((resolve) => signal?.addEventListener("abort", (end = () => resolve(null))));
      await Promise.race([this.paused, aborted]);
      signal?.removeEventListener("abort", end);
    }
  }

  pause() {
    this.paused ??= new Promise((resolve) => (this.resumed = resolve));
    this.progress.rest();
    for (const each of this.running) each.pause();
  }

  resume() {
    this.paused = null;
    this.resumed();
    this.progress.rest();
    for (const each of this.running) each.resume();
  }
}

/** When a file is sent. */
class Turn {
  isCome = false;
  isOver = false;
  resolveComing = () => {};
  resolveOver = () => {};
  /** @type {Promise<void>} */
  coming = new Promise((resolve) => (this.resolveComing = resolve));
  /** The next file may be sent. @type {Promise<void>} */
  over = new Promise((resolve) => (this.resolveOver = resolve));

  come() {
    this.isCome = true;
    this.resolveComing();
  }

  end() {
    this.isOver = true;
    this.resolveOver();
  }
}

/** @param {UploadFile} file */
function isSmall({size}) {
  return size <= SMALL;
}

/** The progress of all files. */
class Total {
  completed = 0;
  failed = 0;
  moved = 0; // bytes that were sent: not those of a file that failed, nor what S3 had before
  /** @type {{at: number, moved: number}[]} */
  marks = [];

  /** @param {UploadFile[]} files @param {AllOptions["onProgress"]} listener @param {{now: () => number}} clock */
  constructor(files, listener, clock) {
    this.sizes = files.map(({size}) => size);
    this.total = sum(this.sizes);
    /** What is known of each file. */
    this.known = files.map(() => ({loaded: 0, isSent: false}));
    this.listener = listener;
    this.clock = clock;
  }

  /** @param {number} index @param {Progress} progress */
  reach(index, {loaded, phase}) {
    const {loaded: before, isSent} = this.known[index];
    // Until a file is sent, nothing moves: parts that S3 has already are only counted.
    if (isSent) this.moved += loaded - before;
    this.known[index] = {loaded, isSent: isSent || phase === "send"};
    this.tell();
  }

  /** @param {number} index @param {Result} result */
  end(index, {error}) {
    this.known[index] = {loaded: this.sizes[index], isSent: true};
    if (error) this.failed++;
    else this.completed++;
    this.tell();
  }

  /** Begin to measure the speed again. */
  rest() {
    this.marks = [];
  }

  tell() {
    const {total, completed, failed} = this;
    const loaded = sum(this.known.map((each) => each.loaded));
    const at = this.clock.now();
    this.marks.push({at, moved: this.moved});
    while (at - this.marks[0].at > SPEED_OVER) this.marks.shift();
    const [oldest] = this.marks;
    const passed = at - oldest.at;
    const bytesPerSecond = passed ? (1_000 * (this.moved - oldest.moved)) / passed : 0;
    const secondsLeft = loaded === total ? 0 : bytesPerSecond ? (total - loaded) / bytesPerSecond : null;
    this.listener?.({loaded, total, files: this.sizes.length, completed, failed, bytesPerSecond, secondsLeft});
  }
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((all, each) => all + each, 0);
}
