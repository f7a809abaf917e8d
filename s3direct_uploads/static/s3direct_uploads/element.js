/**
 * `<s3-upload>`: a form field. It sends files straight to S3, and the form posts the `form_value` of each upload.
 *
 *     <s3-upload name="image" endpoint="/api/uploads/" destination="photos" accept="image/*"></s3-upload>
 *     <script type="module" src="/static/s3direct_uploads/element.js"></script>
 *
 * docs/forms.md has its attributes, properties and events.
 *
 * @module
 *
 * @import {Event as Change, Item} from "./files.js"
 * @import {Action} from "./row.js"
 * @import {Upload, Uploading} from "./types.js"
 *
 * @typedef {object} Job The upload of one file, while it runs.
 * @property {File | null} file null if the server rendered the upload with the page.
 * @property {AbortController} controller
 * @property {string} idempotencyKey
 * @property {Uploading} [going]
 * @property {string | null} [token] of a visitor's upload
 */
import {news, nextToSend, obstacle, reduce, room} from "./files.js";
import {make, Row} from "./row.js";
import {explain, inBytes, kindsOf, mayRetry, say} from "./texts.js";
import {upload} from "./upload.js";

const BUILT = ".s3-upload-zone, .s3-upload-files, .s3-upload-alert, .s3-upload-status";
const FIRST_LOOK = 2_000; // milliseconds, before it asks whether a scan has ended
const LONGEST_LOOK = 30_000;

let made = 0; // counts the elements of this page, for their ids

export class S3Upload extends HTMLElement {
  static observedAttributes = ["disabled", "required"];

  /**
   * Headers of the requests to Django, instead of the CSRF token: `() => ({Authorization: `Bearer ${token}`})`.
   *
   * @type {HeadersInit | (() => HeadersInit | Promise<HeadersInit>) | null}
   */
  headers = null;
  /** The context of each upload. @type {Record<string, unknown> | undefined} */
  context;

  /** @type {readonly Item[]} */
  #items = [];
  /** @type {Map<string, Job>} */
  #jobs = new Map();
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #isBuilt = false;

  /** The values that the form posts: one for each file that is ready. */
  get values() {
    return this.#items.filter(({phase}) => phase === "done").map(({value}) => value);
  }

  connectedCallback() {
    document.addEventListener("submit", this.#onSubmit, {capture: true});
    if (this.#isBuilt) return; // The element was moved.
    if (document.readyState !== "loading") this.#build();
    else document.addEventListener("DOMContentLoaded", () => this.#build(), {once: true}); // wait for its children
  }

  disconnectedCallback() {
    document.removeEventListener("submit", this.#onSubmit, {capture: true});
    setTimeout(() => {
      if (this.isConnected) return;
      // A formset's form was removed. Uploads that are ready stay, because they may have been posted.
      for (const {key, phase} of this.#items) if (phase !== "done") this.#dispatch({type: "remove", key});
    });
  }

  attributeChangedCallback() {
    if (this.#isBuilt) this.#show();
  }

  // The parts of the element

  /** Uses what the server rendered, or what a cloned element brings with it, and makes the rest. */
  #build() {
    if (this.#isBuilt || !this.isConnected) return;
    this.#isBuilt = true;
    /** @type {HTMLInputElement} */
    const input = this.querySelector("input[type=file]") ?? make("input", "", {type: "file"});
    /** @type {HTMLInputElement[]} */
    const posted = [...this.querySelectorAll("input")].filter(({type}) => type === "hidden");
    for (const each of posted.slice(1)) each.remove();
    // The first one stays, without a value. Scripts that renumber the forms of a formset change its name.
    this.carrier = posted[0] ?? make("input", "", {type: "hidden", name: this.getAttribute("name") ?? ""});
    const kept = posted.filter(({value}) => value).map(({value, dataset}) => ({...dataset, value}));
    this.carrier.value = "";
    for (const name of ["data-filename", "data-size", "data-status", "data-visitor"]) this.carrier.removeAttribute(name);
    this.carrier.disabled = false;
    input.remove();
    this.carrier.remove();
    for (const old of this.querySelectorAll(BUILT)) old.remove();

    this.input = input;
    input.classList.add("s3-upload-input");
    input.hidden = false;
    input.multiple = this.multiple;
    input.accept = this.getAttribute("accept") ?? "";
    const take = () => {
      this.add(input.files ?? []);
      input.value = ""; // so that the same file can be chosen again
    };
    input.addEventListener("change", (event) => {
      event.stopPropagation(); // This element sends its own `change` when a file is ready.
      take();
    });
    input.addEventListener("invalid", () => this.#complain(input.validationMessage));
    this.prompt = make("span", "s3-upload-prompt", {id: `s3-upload-prompt-${++made}`});
    const hint = make("span", "s3-upload-hint", {id: `s3-upload-hint-${made}`, textContent: this.#hint()});
    this.zone = make("div", "s3-upload-zone", {}, input, this.prompt, hint);
    this.#listenForDrops(this.zone);
    this.list = make("ul", "s3-upload-files");
    this.alert = make("p", "s3-upload-alert");
    this.alert.setAttribute("role", "alert");
    this.status = make("p", "s3-upload-status");
    this.status.setAttribute("role", "status");
    this.append(this.carrier, this.zone, this.alert, this.list, this.status);
    this.#describe(hint);
    for (const each of kept) this.#restore(each);
    this.#show();
    if (input.files?.length && !this.hasAttribute("disabled")) take(); // chosen before this script had come
  }

  /** @param {HTMLElement} hint */
  #describe(hint) {
    const input = /** @type {HTMLInputElement} */ (this.input);
    const others = (input.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => !id.startsWith("s3-upload-"));
    input.setAttribute("aria-describedby", [...others, this.prompt?.id, hint.id].filter(Boolean).join(" "));
    if (!input.labels?.length) input.setAttribute("aria-label", this.getAttribute("label") ?? this.#say("choose"));
  }

  #hint() {
    const types = (this.getAttribute("accept") ?? "").split(",").filter(Boolean);
    const most = Number(this.getAttribute("max-size"));
    const sizes = {size: inBytes(most, this.language), kinds: kindsOf(types, this.language)};
    const limit = most ? this.#say(types.length ? "limit_kinds" : "limit", sizes) : "";
    const files = this.multiple && this.hasAttribute("max-files") ? this.#say("limit_files", {count: this.maxFiles}) : "";
    return `${limit} ${files}`.trim();
  }

  /** @param {HTMLElement} zone */
  #listenForDrops(zone) {
    const over = (/** @type {DragEvent} */ event) => {
      if (this.hasAttribute("disabled") || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      zone.classList.toggle("s3-upload-over", event.type === "dragover");
      if (event.type === "drop") this.add(event.dataTransfer.files);
    };
    zone.addEventListener("dragover", over);
    zone.addEventListener("drop", over);
    zone.addEventListener("dragleave", () => zone.classList.remove("s3-upload-over"));
  }

  // Attributes

  get multiple() {
    return this.hasAttribute("multiple");
  }

  get maxFiles() {
    return Number(this.getAttribute("max-files")) || Infinity;
  }

  get language() {
    return this.closest("[lang]")?.getAttribute("lang") || undefined;
  }

  /** In the language of the element. @type {typeof say} */
  #say = (name, parameters) => say(name, parameters, this.language);

  get endpoint() {
    const said = this.getAttribute("endpoint") ?? "";
    return said.endsWith("/") ? said : `${said}/`;
  }

  /** Uploads these files, as if they were chosen. @param {Iterable<File>} files */
  add(files) {
    const all = [...files];
    const chosen = all.slice(0, room(this.#items, this));
    this.#complain(
      all.length === chosen.length ? "" : this.#say(this.multiple ? "no_room" : "one_only", {count: this.maxFiles}),
    );
    if (!chosen.length) return;
    for (const box of this.querySelectorAll("input")) if (box.type === "checkbox") box.checked = false; // "Clear"
    const keyed = chosen.map((file) => ({key: randomKey(), file}));
    for (const {key, file} of keyed) {
      this.#jobs.set(key, {file, controller: new AbortController(), idempotencyKey: randomKey()});
    }
    const named = keyed.map(({key, file}) => ({key, filename: file.name, size: file.size}));
    this.#dispatch({type: "choose", files: named, multiple: this.multiple});
  }

  /** Adds an upload that the server rendered with the page. @param {{value: string, filename?: string, size?: string, status?: string, visitor?: string}} posted */
  #restore({value, filename = "", size = "0", status = "completed", visitor}) {
    const key = randomKey();
    const [id] = value.split(":");
    this.#jobs.set(key, {file: null, controller: new AbortController(), idempotencyKey: "", token: visitor && value});
    this.#items = reduce(this.#items, {type: "restore", file: {key, value, id, filename, size: Number(size), status}});
    if (status !== "completed") this.#watch(key, id);
  }

  /** @param {Change} change */
  #dispatch(change) {
    const before = this.#items;
    const values = `${this.values}`;
    this.#items = reduce(before, change);
    const told = news(before, this.#items);
    for (const {item, what} of told) if (what === "removed") this.#stop(item);
    this.#show();
    const said = told.map(({item, what}) => this.#say(`said_${what}`, {...item, error: this.#why(item)}));
    if (said.length && this.status) this.status.textContent = said.join(" ");
    if (`${this.values}` !== values) this.dispatchEvent(new Event("change", {bubbles: true}));
    const [next] = nextToSend(this.#items);
    if (next) this.#send(next.key); // It dispatches "start", which sends the next file.
  }

  /** @param {Item} item */
  #why(item) {
    return item.phase === "failed" ? explain(item.error, item, this.language) : "";
  }

  // Uploading

  /** @param {string} key */
  async #send(key) {
    const job = this.#jobs.get(key);
    if (!job?.file) return;
    delete job.going;
    const {signal} = (job.controller = new AbortController());
    this.#dispatch({type: "start", key});
    try {
      job.going = upload(job.file, {
        endpoint: this.endpoint,
        destination: this.getAttribute("destination") ?? "",
        context: this.context,
        checksum: /** @type {"CRC32" | undefined} */ (this.getAttribute("checksum") ?? undefined),
        headers: () => this.#headers(),
        idempotencyKey: job.idempotencyKey,
        signal,
        onProgress: (progress) => this.#dispatch({type: "progress", key, ...progress}),
      });
      const {id, status, form_value: value, visitor} = await job.going;
      job.token = visitor ? value : null;
      if (status !== "verifying") return this.#dispatch({type: "complete", key, id, value: value ?? id});
      this.#dispatch({type: "hold", key, id});
      this.#watch(key, id);
    } catch (error) {
      if (signal.aborted) return;
      const {code, status, upload} = /** @type {any} */ (error);
      job.token = upload?.visitor ? upload.form_value : null;
      const isOver = status === 410 || status === 422 || code === "deadline_passed";
      if (isOver) job.idempotencyKey = randomKey(); // this upload has ended, so a retry needs a new one
      this.#dispatch({type: "fail", key, error, id: upload?.id ?? ""});
    }
  }

  /** Asks again and again until the scan has accepted or rejected the upload. @param {string} key @param {string} id */
  async #watch(key, id) {
    const job = this.#jobs.get(key);
    const signal = job?.controller.signal;
    for (let wait = FIRST_LOOK; !signal?.aborted; wait = Math.min(2 * wait, LONGEST_LOOK)) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      const upload = await this.#ask("GET", id, job?.token);
      if (signal?.aborted || !upload || upload.status === "verifying" || upload.status === "pending") continue;
      const isReady = upload.status === "completed";
      if (isReady) this.#dispatch({type: "complete", key, id, value: upload.form_value ?? id});
      else this.#dispatch({type: "fail", key, id, error: {code: upload.status, upload}});
      return;
    }
  }

  /** @param {"GET" | "DELETE"} method @param {string} id @param {string | null} [token] @returns {Promise<Upload | null>} null if there was no answer */
  async #ask(method, id, token) {
    try {
      // keepalive: the user may leave the page right after removing a file.
      const keepalive = method === "DELETE";
      const headers = new Headers(await this.#headers());
      if (token) headers.set("Upload-Token", token);
      const answer = await fetch(`${this.endpoint}${id}/`, {method, headers, keepalive, credentials: "same-origin"});
      return answer.ok && method === "GET" ? await answer.json() : null;
    } catch {
      return null;
    }
  }

  /** Deletes the upload of a file that was removed from the form, because nothing uses it. @param {Item} item */
  #stop({key, id, phase}) {
    const job = this.#jobs.get(key);
    job?.controller.abort(); // Then upload.js cancels the upload.
    this.#jobs.delete(key);
    this.#remove(key);
    if (id && ["done", "failed", "checking"].includes(phase)) this.#ask("DELETE", id, job?.token);
  }

  async #headers() {
    if (this.headers) return typeof this.headers === "function" ? this.headers() : this.headers;
    // Read again each time, because signing in in another tab changes the token.
    const cookie = this.getAttribute("csrf-cookie") ?? "csrftoken";
    const found = cookie && document.cookie.split("; ").find((each) => each.startsWith(`${cookie}=`));
    /** @type {HTMLInputElement | null} */
    const field = (this.closest("form") ?? document).querySelector("input[name=csrfmiddlewaretoken]");
    const token = found ? decodeURIComponent(found.slice(cookie.length + 1)) : field?.value;
    return /** @type {HeadersInit} */ (token ? {[this.getAttribute("csrf-header") ?? "X-CSRFToken"]: token} : {});
  }

  // Showing

  #show() {
    const {input, list, zone, prompt} = this;
    if (!input || !list || !zone || !prompt) return;
    const name = this.carrier?.name ?? "";
    for (const item of this.#items) {
      const row = this.#rows.get(item.key) ?? this.#newRow(item);
      if (row.element.parentNode !== list) list.append(row.element);
      row.show(item, name);
    }
    const isDisabled = this.hasAttribute("disabled");
    const isEmpty = !this.#items.length;
    zone.hidden = isDisabled;
    input.disabled = isDisabled;
    input.required = this.hasAttribute("required") && isEmpty;
    prompt.textContent = this.#say(this.multiple ? "choose_several" : isEmpty ? "choose" : "replace");
    const blocking = this.#blocking();
    input.setCustomValidity(blocking);
    if (!blocking && this.#isBlocked) this.#complain("");
  }

  /** @param {Item} item */
  #newRow(item) {
    const row = new Row(item, (action) => this.#act(item.key, action), this.language);
    const file = this.#jobs.get(item.key)?.file;
    if (file) row.preview(file);
    this.#rows.set(item.key, row);
    return row;
  }

  /** @param {string} key @param {Action} action */
  #act(key, action) {
    if (action !== "pause") return this.#dispatch({type: action, key});
    const isPaused = this.#items.find((item) => item.key === key)?.phase === "paused";
    const going = this.#jobs.get(key)?.going;
    if (isPaused) going?.resume();
    else going?.pause();
    this.#dispatch({type: isPaused ? "resume" : "pause", key});
  }

  /** Removes a row. If it had the focus, the next row gets it. @param {string} key */
  #remove(key) {
    const row = this.#rows.get(key);
    if (!row) return;
    const hadFocus = row.element.contains(document.activeElement);
    const keys = [...this.#rows.keys()];
    const at = keys.indexOf(key);
    const next = this.#rows.get(keys[at + 1] ?? keys[at - 1] ?? "");
    row.remove();
    this.#rows.delete(key);
    if (hadFocus) (next ?? this.input)?.focus();
  }

  // The form

  #isBlocked = false;

  #blocking() {
    const item = obstacle(this.#items);
    if (!item) return "";
    const {phase, error} = item;
    if (phase === "failed") return this.#say(mayRetry(error) ? "blocked_failed" : "blocked_refused", item);
    return this.#say(phase === "checking" || phase === "paused" ? `blocked_${phase}` : "blocked_sending", item);
  }

  /** @param {string} text */
  #complain(text) {
    this.#isBlocked = text !== "" && text === this.#blocking();
    if (this.alert) this.alert.textContent = text;
  }

  /**
   * Stops a form whose files are not ready. Forms with `novalidate`, such as the admin's, would leave these files out.
   *
   * @param {Event} event
   */
  #onSubmit = (event) => {
    const {target, submitter} = /** @type {SubmitEvent} */ (event);
    const form = this.closest("form");
    // A button with formnovalidate, such as "Cancel", submits without a check.
    if (target !== form || !form || /** @type {any} */ (submitter)?.formNoValidate) return;
    const fields = [...form.querySelectorAll("s3-upload")].filter((each) => each instanceof S3Upload);
    const first = fields.find((each) => obstacle(each.#items)); // the first on the page; each element of the form has this listener
    if (!first) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    first.#complain(first.#blocking());
    first.#rows.get(obstacle(first.#items)?.key ?? "")?.focus();
  };
}

/** A random text. crypto.randomUUID does not exist on pages that use http instead of https. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

if (!customElements.get("s3-upload")) customElements.define("s3-upload", S3Upload);
