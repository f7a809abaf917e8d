/**
 * Begins and confirms many small files by few calls, if the server has the calls for it. all.js loads it.
 *
 * @module
 *
 * @import {Begun, Options, Step, Upload} from "./types.js"
 */
import {Network, randomKey} from "./network.js";
import {Django, UploadError, answered} from "./upload.js";

const MOST = 100; // uploads in one call
const PATIENCE = 100; // milliseconds that the first file of a call waits for the others

/**
 * @typedef {object} Calls What one file does instead of upload.js's own begin and confirm. `ask` is upload.js's own.
 * @property {(declared: object, ask: () => Promise<Begun>, network: Network) => Promise<Begun>} begin
 * @property {(id: string, ask: () => Promise<Upload>, network: Network) => Promise<Upload> | null} confirm null: by `ask`
 *
 * @typedef {{status: number, upload: Begun | null, error: {code: string} | null}} Answer What Django says of one upload.
 *
 * @typedef {object} Member One file of a call. It gets null if it must be asked for alone.
 * @property {any} asked What the call says of it.
 * @property {Network} network
 * @property {AbortSignal | undefined} signal
 * @property {(answer: Answer | null) => void} resolve
 * @property {(error: unknown) => void} reject
 */

/** The calls of one uploadAll(). */
export class Batches {
  /** Whether the server has the calls, and lets this client use them. */
  canBegin = true;
  canConfirm = true;
  /** What was sent while the last confirm is under way. @type {Member[]} */
  sent = [];
  isConfirming = false;
  /** What ends when a signal is aborted. @type {Map<AbortSignal, {aborted: Promise<never>, forget: () => void}>} */
  signals = new Map();

  /** @param {Options} options */
  constructor({signal: _, onProgress: __, ...options}) {
    this.options = options; // a call ends when all of its files are cancelled, and not before
  }

  /**
   * By at most one call at a time: what is sent meanwhile is confirmed by the next one.
   *
   * @param {Omit<Member, "resolve" | "reject">} member @returns {Promise<Answer | null>}
   */
  confirm(member) {
    return new Promise((resolve, reject) => {
      this.sent.push({...member, resolve, reject});
      if (!this.isConfirming) this.confirmWhatIsSent();
    });
  }

  async confirmWhatIsSent() {
    this.isConfirming = true;
    while (this.sent.length) {
      const members = this.sent.splice(0, MOST);
      if (this.canConfirm) this.canConfirm = !!(await this.ask("confirm", "batch/confirm/", "ids", members));
      else for (const {resolve} of members) resolve(null);
    }
    this.isConfirming = false;
  }

  /**
   * Resolves when each of the members has its answer: with the answers; with null if the server refuses the call.
   *
   * @param {Step} step @param {string} path @param {string} name @param {Member[]} all @param {Record<string, string>} [extra]
   */
  async ask(step, path, name, all, extra = {}) {
    const members = all.filter(({signal}) => !signal?.aborted); // the others have been told
    try {
      const body = {[name]: members.map(({asked}) => asked)};
      const answers = members.length ? await this.results(step, path, body, members, extra) : [];
      members.forEach(({resolve}, place) => resolve(answers[place]));
      return answers;
    } catch (error) {
      const isRefused = error instanceof UploadError && error.status !== 0 && !mayPass(error.status);
      for (const {resolve, reject} of members) {
        if (isRefused) resolve(null);
        // Each has an error of its own, because upload() adds its upload to it.
        else reject(error instanceof UploadError ? new UploadError(error.message, {...error, cause: error.cause}) : error);
      }
      return isRefused ? null : [];
    }
  }

  /** @param {Step} step @param {string} path @param {object} body @param {Member[]} members @param {Record<string, string>} extra @returns {Promise<Answer[]>} */
  async results(step, path, body, members, extra) {
    const network = new Network(this.options, {total: 0, isPaused: () => false});
    if (step === "confirm") network.deadline = Math.max(...members.map((each) => Number(each.network.deadline)));
    network.progress.wait = (tries, isWaiting) => {
      for (const each of members) each.network.progress.wait(tries, isWaiting);
    };
    const django = new Django(this.options, network);
    const tries = network.tries();
    const left = new AbortController();
    const leave = () => members.every(({signal}) => signal?.aborted) && left.abort();
    for (const {signal} of members) signal?.addEventListener("abort", leave);
    try {
      for (;;) {
        try {
          const {results} = await django.once(step, path, body, extra, tries);
          if (results?.length === members.length) return results;
          throw new UploadError("The server did not answer for each upload.", {step, code: "unexpected_answer", status: 200});
        } catch (error) {
          if (left.signal.aborted || !(error instanceof UploadError)) throw error;
          const isOutage = network.deadline !== null;
          await tries.outlast(error, {url: network.endpoint, isOutage, signal: left.signal});
        }
      }
    } finally {
      tries.end();
      for (const {signal} of members) signal?.removeEventListener("abort", leave);
    }
  }

  /**
   * Rejects as soon as it is aborted. A hundred files may wait with one signal, and Node.js warns of a hundred listeners.
   *
   * @template T @param {AbortSignal | undefined} signal @param {Promise<T>} work @returns {Promise<T>}
   */
  async unless(signal, work) {
    if (!signal) return work;
    if (!this.signals.has(signal)) {
      let abort = () => {};
      /** @type {Promise<never>} */
      const aborted = new Promise((_, reject) => (abort = () => reject(signal.reason)));
      aborted.catch(() => {});
      signal.addEventListener("abort", abort);
      this.signals.set(signal, {aborted, forget: () => signal.removeEventListener("abort", abort)});
      if (signal.aborted) abort();
    }
    return Promise.race([work, /** @type {Promise<never>} */ (this.signals.get(signal)?.aborted)]);
  }

  /** When all files have ended. */
  end() {
    for (const {forget} of this.signals.values()) forget();
  }

  /** It was begun for a file that is cancelled. @param {Answer | null} answer */
  cancel(answer) {
    const id = answer?.upload?.id;
    if (id) new Django(this.options, new Network(this.options, {total: 0, isPaused: () => false})).cancel(id);
  }
}

/** Files that are begun by one call. */
export class Group {
  /** @type {Member[]} */
  members = [];
  isOpen = true;
  /** @type {() => void} */
  stopWaiting = () => {};

  /** @param {Batches} batches @param {number} size @param {(refused: number) => void} onEnd gets how many had no room */
  constructor(batches, size, onEnd) {
    this.batches = batches;
    this.missing = size;
    this.onEnd = onEnd;
  }

  /** One of them has come, or will not come. */
  count() {
    if (!--this.missing && this.isOpen) this.begin();
  }

  /** @param {Omit<Member, "resolve" | "reject">} member @returns {Promise<Answer | null>} */
  join(member) {
    return new Promise((resolve, reject) => {
      if (!this.isOpen) return resolve(null); // it took long to read the file, or to compute its checksum
      const {clock} = member.network.time;
      if (!this.members.length) {
        const timer = clock.setTimeout(() => this.begin(), PATIENCE);
        this.stopWaiting = () => clock.clearTimeout(timer);
      }
      this.members.push({...member, resolve, reject});
      this.count();
    });
  }

  async begin() {
    this.isOpen = false;
    this.stopWaiting();
    const {batches} = this;
    // The key makes that the call can be repeated: nothing begins twice.
    const answers = await batches.ask("begin", "batch/", "uploads", this.members, {"Idempotency-Key": randomKey()});
    // A file in parts is not for batches. If so small a file is one, the bucket takes no file by one PUT.
    const isForAll = answers?.every(({error}) => error?.code !== "not_in_batch");
    if (!isForAll) batches.canBegin = batches.canConfirm = false;
    this.onEnd((answers ?? []).filter(({error}) => error?.code === "too_many_pending").length);
  }

  /**
   * The calls of one of the files. It begins when its turn has come, but Django was asked before.
   *
   * @param {AbortSignal | undefined} signal @param {{coming: Promise<void>, onSent: () => void}} turn
   * @returns {{calls: Calls, leave: () => void}} `leave` when it has ended
   */
  admit(signal, {coming, onSent}) {
    const {batches} = this;
    let isCounted = false;
    const leave = () => {
      if (!isCounted) this.count();
      isCounted = true;
    };
    /** @type {Calls["begin"]} */
    const begin = async (declared, ask, network) => {
      isCounted = true;
      const joined = this.join({asked: declared, network, signal});
      try {
        const answer = await batches.unless(signal, joined);
        const answeredAt = network.time.now();
        await batches.unless(signal, coming);
        // What may pass, or is not for batches, is asked for alone: upload.js knows how long to try.
        if (!answer || isForAlone(answer)) return await ask();
        const begun = await answered("begin", network, () => response(answer));
        const waited = (network.time.now() - answeredAt) / 1_000;
        const {request} = begun;
        return {...begun, request: request && {...request, expires_in: request.expires_in - waited}};
      } catch (error) {
        if (signal?.aborted) joined.then((answer) => batches.cancel(answer)).catch(() => {});
        throw error;
      }
    };
    /** @param {string} id @param {() => Promise<Upload>} ask @param {Network} network */
    const confirm = async (id, ask, network) => {
      const tries = network.tries();
      for (;;) {
        const answer = await batches.unless(signal, batches.confirm({asked: id, network, signal}));
        if (!answer || answer.error?.code === "not_in_batch") return ask();
        try {
          const upload = await answered("confirm", network, () => response(answer));
          tries.end();
          return upload;
        } catch (error) {
          await tries.outlast(/** @type {UploadError} */ (error), {url: network.endpoint, isOutage: true, signal});
        }
      }
    };
    return {
      leave,
      calls: {
        begin,
        confirm: (id, ask, network) => {
          if (!batches.canConfirm) return null;
          onSent();
          return confirm(id, ask, network);
        },
      },
    };
  }
}

/** @param {Answer} answer */
function isForAlone({status, error}) {
  return mayPass(status) || error?.code === "not_in_batch";
}

/** @param {number} status */
function mayPass(status) {
  return status === 408 || status === 429 || status >= 500;
}

/** As Django would answer the call for this upload alone. @param {Answer} answer */
async function response({status, upload, error}) {
  const text = JSON.stringify(upload ?? error);
  return /** @type {Response} */ ({ok: status < 300, status, headers: new Headers(), text: async () => text});
}
