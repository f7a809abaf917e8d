/**
 * An uploader for Uppy 5 and 6: Uppy keeps its files and its Dashboard, and upload.js sends.
 *
 *     import Uppy from "@uppy/core";
 *     import {S3DirectUploads} from "s3direct-uploads/uppy.js";
 *
 *     const uppy = new Uppy().use(S3DirectUploads, {endpoint: "/api/uploads/", destination: "photos"});
 *
 * It imports nothing of Uppy, so that a page needs no bundler.
 *
 * @module
 *
 * @import {Options, Progress, Uploading} from "./types.js"
 */
import {randomKey} from "./network.js";
import {explain, inBytes, pageLanguage, say} from "./texts.js";
import {upload, UploadError} from "./upload.js";

const LIMIT = 3; // files
const PARALLEL = 2; // parts of each file: with HTTP/1.1 a browser has six connections to S3

/**
 * @typedef {object} Own
 * @property {string} [id] In Uppy. The default is "S3DirectUploads".
 * @property {string} [destination] For files without a `meta.destination`.
 * @property {Record<string, unknown> | ((file: any) => Record<string, unknown>)} [context] For files without a
 *   `meta.context`. A function gets Uppy's file.
 * @property {number} [limit] How many files are sent at once. The default is 3; 0: all. A paused file counts.
 *
 * @typedef {"destination" | "context" | "onProgress" | "onBegun" | "signal" | "idempotencyKey"} Replaced
 * @typedef {Omit<Options, Replaced> & Own} UppyOptions The options of upload(), except those that Uppy gives for each
 *   file. The default of `parallel` is 2.
 *
 * @typedef {{controller: AbortController, phase: string, uploading?: Uploading}} Job
 */

/** What Uppy asks of a plugin: `id`, `type`, install, uninstall, update and setOptions. */
class Uploader {
  type = "uploader";
  /** The files that are being sent, and those that wait for their turn, by Uppy's ids. @type {Map<string, Job>} */
  #jobs = new Map();
  #sending = 0;
  /** @type {(() => void)[]} */
  #waiting = [];
  /** @param {any} uppy @param {UppyOptions} opts */
  constructor(uppy, opts) {
    this.uppy = uppy;
    this.opts = opts;
    this.id = opts.id ?? "S3DirectUploads";
  }

  install() {
    this.#allowPause(true);
    this.uppy.addUploader(this.#upload);
    for (const [event, listener] of Object.entries(this.#listeners)) this.uppy.on(event, listener);
  }

  /** Cancels what is being sent. */
  uninstall() {
    for (const {controller} of this.#jobs.values()) controller.abort();
    for (const [event, listener] of Object.entries(this.#listeners)) this.uppy.off(event, listener);
    this.uppy.removeUploader(this.#upload);
    this.#allowPause(false);
  }

  update() {}
  /** For files that are begun later. @param {Partial<UppyOptions>} opts */
  setOptions(opts) {
    this.opts = {...this.opts, ...opts};
  }

  /** @param {boolean} resumableUploads Whether the Dashboard has its buttons for pauses. */
  #allowPause(resumableUploads) {
    this.uppy.setState({capabilities: {...this.uppy.getState().capabilities, resumableUploads}});
  }

  /** Uppy also removes each file if all are cancelled. @type {Record<string, (file: any, isPaused: boolean) => void>} */
  #listeners = {
    "file-removed": ({id, s3direct}) => {
      const job = this.#jobs.get(id);
      if (job) job.controller.abort();
      else if (s3direct?.id) this.#cancel(s3direct.id);
    },
    "upload-pause": ({id}, isPaused) => this.#jobs.get(id)?.uploading?.[isPaused ? "pause" : "resume"](),
    "pause-all": () => this.#jobs.forEach(({uploading}) => uploading?.pause()),
    "resume-all": () => this.#jobs.forEach(({uploading}) => uploading?.resume()),
  };

  /** @param {string[]} ids */
  #upload = async (ids) => {
    /** @type {any[]} */
    const files = this.uppy.getFilesByIds(ids).filter((/** @type {any} */ file) => !file.error && !file.progress.uploadComplete);
    // Golden Retriever's files keep their progress.
    this.uppy.emit("upload-start", files.filter(({isRestored, progress}) => !isRestored || !progress.uploadStarted));
    await Promise.all(files.map(({id}) => this.#run(id)));
  };

  /** @param {string} id */
  async #run(id) {
    const job = {controller: new AbortController(), phase: ""};
    this.#jobs.set(id, job);
    const limit = (this.opts.limit ?? LIMIT) || Infinity;
    while (this.#sending >= limit) await new Promise((resolve) => this.#waiting.push(() => resolve(null)));
    this.#sending++;
    try {
      const file = this.#fileOf(id, job);
      if (!file) return;
      // What a listener of the page throws is no error of the upload.
      const {body, error} = await this.#send(file, job).then((body) => ({body, error: null}), (error) => ({body: null, error}));
      if (!this.#fileOf(id, job)) return body && (await this.#cancel(body.id));
      if (!body) return this.#fail(id, error);
      // Forgotten, because a completed upload stays: Uppy also removes its files when the page is done with them.
      this.uppy.setFileState(id, {s3direct: undefined});
      this.uppy.emit("upload-success", this.uppy.getFile(id), {status: 200, body});
    } finally {
      if (this.#jobs.get(id) === job) this.#jobs.delete(id); // the file may have been added again
      this.#sending--;
      this.#waiting.shift()?.();
    }
  }

  /** Uppy's file; undefined if the upload is cancelled. uppy.clear() removes files without an event. @param {string} id @param {Job} job */
  #fileOf(id, {controller}) {
    const file = this.uppy.getFile(id);
    if (!file) controller.abort();
    return controller.signal.aborted ? undefined : file;
  }

  /** @param {any} file @param {Job} job */
  async #send({id, data, meta, type, isPaused, s3direct}, job) {
    const {context, destination, ...opts} = this.opts;
    if (!(data instanceof Blob)) {
      throw new UploadError("Uppy has no content of this file. Those of its Companion cannot be sent.", {step: "begin", code: "file_unreadable"});
    }
    // Golden Retriever keeps it as well. With the same key, the same upload continues.
    const idempotencyKey = s3direct?.key ?? randomKey();
    const know = (/** @type {string} */ upload) => {
      if (this.#fileOf(id, job)) this.uppy.setFileState(id, {s3direct: {key: idempotencyKey, id: upload}});
    };
    know(s3direct?.id);
    const {lastModified} = /** @type {File} */ (data);
    job.uploading = upload(Object.assign(data.slice(0, data.size, type), {name: meta.name, lastModified}), {
      parallel: PARALLEL,
      ...opts,
      destination: meta.destination ?? destination,
      context: meta.context ?? (typeof context === "function" ? context(this.uppy.getFile(id)) : context),
      resume: s3direct ? false : opts.resume, // the key is surer than a comparison of files
      idempotencyKey,
      signal: job.controller.signal,
      onBegun: (begun) => know(begun.id),
      onProgress: (progress) => this.#show(this.#fileOf(id, job), progress, job),
    });
    if (isPaused) job.uploading.pause();
    return job.uploading;
  }

  /** @param {any} file @param {Progress} progress @param {Job} job */
  #show(file, progress, job) {
    if (!file) return;
    const {loaded, total, phase} = progress;
    const {uploadStarted} = file.progress;
    const told = {...progress, uploadStarted, bytesUploaded: loaded, bytesTotal: total};
    if (phase !== "begin") this.uppy.emit("upload-progress", file, told);
    if (phase === job.phase) return;
    job.phase = phase;
    const words = {filename: file.meta.name, loaded: inBytes(loaded, pageLanguage()), size: inBytes(total, pageLanguage())};
    if (phase === "waiting") this.uppy.emit("upload-stalled", {message: say("said_offline", words)}, [file]);
    if (phase === "stalled") this.uppy.emit("upload-stalled", {message: say("stalled", words)}, [file]);
    if (phase === "verifying") this.uppy.info(say("said_checking", words));
  }

  /** @param {string} id @param {any} error */
  #fail(id, error) {
    const file = this.uppy.getFile(id);
    const {status, code, body} = error;
    const isOver = status === 410 || status === 422 || code === "deadline_passed" || code === "idempotency_key_reused";
    if (isOver) this.uppy.setFileState(id, {s3direct: undefined}); // this upload has ended, so a retry needs a new one
    const message = explain(error, {filename: file.meta.name, size: file.size ?? 0}, pageLanguage());
    // Uppy keeps the response. What S3 says may contain a signature, so only Django's error is told.
    const response = {status, body: typeof body === "object" ? body : null};
    this.uppy.emit("upload-error", file, new Error(message, {cause: error}), response);
  }

  /** @param {string} id of the upload */
  async #cancel(id) {
    const {endpoint, headers: given, credentials = "same-origin"} = this.opts;
    try {
      const headers = new Headers(await (typeof given === "function" ? given() : given));
      await fetch(`${endpoint.replace(/\/?$/, "/")}${id}/`, {method: "DELETE", headers, credentials, keepalive: true});
    } catch {} // the upload expires in Django after some time
  }
}

/** For `uppy.use()`. Uppy's types want all methods of BasePlugin, of which Uppy calls only some. @type {new (uppy: any, opts: UppyOptions) => any} */
export const S3DirectUploads = Uploader;
