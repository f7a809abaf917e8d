/**
 * All texts of an `<s3-upload>` in English, and functions that turn numbers and errors into words.
 *
 * A text of the project (`texts`) comes first, then the one of Django's JavaScript catalogue (`gettext`), if the page has
 * it, then the one of `languages`. docs/languages.md says how a project adds a language, or replaces texts.
 *
 * @module
 */
import {KOREAN} from "./korean.js";

/** Marks a text for `makemessages -d djangojs`. @param {string} text */
const gettext = (text) => text;

const ENGLISH = {
  choose: gettext("Choose a file, or drop it here"),
  choose_several: gettext("Choose files, or drop them here"),
  replace: gettext("Choose another file, or drop it here"),
  limit: gettext("At most %(size)s."),
  limit_kinds: gettext("%(kinds)s, at most %(size)s."),
  limit_files: gettext("At most %(count)s files."),
  no_room: gettext("At most %(count)s files can be added. Some were left out."),
  one_only: gettext("Only one file can be added. The others were left out."),
  preview: gettext("Preview of %(filename)s"),
  progress: gettext("Progress of %(filename)s"),

  cancel: gettext("Cancel"),
  pause: gettext("Pause"),
  resume: gettext("Resume"),
  retry: gettext("Try again"),
  remove: gettext("Remove"),
  button: gettext("%(action)s: %(filename)s"),

  waiting: gettext("Waiting"),
  preparing: gettext("Preparing"),
  sending: gettext("%(loaded)s of %(size)s"),
  sending_speed: gettext("%(loaded)s of %(size)s, %(speed)s per second, %(time)s left"),
  paused: gettext("Paused at %(loaded)s of %(size)s"),
  offline: gettext("No connection: %(loaded)s of %(size)s. It continues by itself"),
  stalled: gettext("Nothing moves at the moment: %(loaded)s of %(size)s"),
  confirming: gettext("Sent. Waiting for the answer"),
  checking: gettext("Being checked"),
  done: gettext("Ready, %(size)s"),

  said_added: gettext("%(filename)s was added."),
  said_offline: gettext("There is no connection. %(filename)s continues by itself when it is back."),
  said_paused: gettext("%(filename)s is paused."),
  said_checking: gettext("%(filename)s is being checked."),
  said_done: gettext("%(filename)s is ready."),
  said_failed: gettext("%(filename)s: %(error)s"),
  said_removed: gettext("%(filename)s was removed."),

  blocked_sending: gettext("%(filename)s has not been sent yet. Wait for it, or cancel it."),
  blocked_paused: gettext("%(filename)s is paused. Resume it, or cancel it."),
  blocked_checking: gettext("%(filename)s is still being checked. Wait for it, or remove it."),
  blocked_failed: gettext("%(filename)s could not be added. Try again, or remove it."),
  blocked_refused: gettext("%(filename)s cannot be added. Remove it."),

  kind: gettext("%(kind)s files cannot be added. %(instead)s"),
  kind_unknown: gettext("This kind of file cannot be added. %(instead)s"),
  instead_image: gettext("Choose a %(kinds)s photo."),
  instead_video: gettext("Choose a film: %(kinds)s."),
  instead_audio: gettext("Choose a recording: %(kinds)s."),
  instead_file: gettext("Choose a file: %(kinds)s."),
  instead_any_image: gettext("Choose a photo."),
  instead_any_video: gettext("Choose a film."),
  instead_any_audio: gettext("Choose a recording."),
  instead: gettext("Choose another file."),
  any_image: gettext("Photos"),
  any_video: gettext("Films"),
  any_audio: gettext("Recordings"),
  too_large: gettext("This file is too large: %(size)s. The most is %(max)s."),
  too_small: gettext("This file is too small: %(size)s. The least is %(min)s."),
  filename: gettext("The name of this file cannot be used. Rename the file, and choose it again."),
  invalid: gettext("This file cannot be added. %(detail)s"),
  no_room_left: gettext("There is no room for this file: %(left)s are left. Delete other files first."),
  too_many: gettext("Too many files are being sent. Try again in a moment."),
  signed_out: gettext("You are signed out. Sign in again in another tab, then try again here."),
  denied: gettext("You may not add this file here."),
  unavailable: gettext("The storage does not answer now. Try again in a moment."),
  misconfigured: gettext("Files cannot be added here now. Tell the people who run this site."),
  network: gettext("There is no connection. Check your network, then try again. If that does not help, tell the people who run this site."),
  unreadable: gettext("This file was changed, moved or deleted. Choose it again. A folder cannot be added."),
  page: gettext("A part of this page is missing. Reload the page, then choose the file again."),
  refused: gettext("This file was refused. %(reason)s"),
  over: gettext("This took too long, or it was cancelled elsewhere. Try again."),
  in_use: gettext("This file has been saved already. Choose it again to add it once more."),
  unknown: gettext("This file could not be added. Try again."),
};

/** @typedef {Partial<Record<keyof typeof ENGLISH, string>>} Texts By the names above. */

/** The project's own texts, in whatever language the page has. @type {Texts} */
export const texts = {};
/** The texts by language, as the `lang` attribute names it: "ko", or "pt-br". @type {Record<string, Texts>} */
export const languages = {ko: KOREAN};

/** The text for the `code` of an error. @type {Record<string, keyof typeof ENGLISH>} */
const BY_CODE = {
  not_authenticated: "signed_out",
  authentication_failed: "signed_out",
  owner_unknown: "signed_out",
  permission_denied: "denied",
  quota_exceeded: "no_room_left",
  too_many_pending: "too_many",
  throttled: "too_many",
  bucket_unavailable: "unavailable",
  hook_failed: "unavailable",
  storage_not_s3: "misconfigured",
  not_supported: "misconfigured",
  misconfigured: "misconfigured",
  not_found: "misconfigured",
  network_error: "network",
  file_unreadable: "unreadable",
  module_not_loaded: "page",
  object_mismatch: "refused",
  rejected: "refused",
  object_missing: "unknown",
  parts_incomplete: "unknown",
  not_pending: "over",
  multipart_gone: "over",
  deadline_passed: "over",
  already_attached: "in_use",
};
/** The text for an `invalid` declaration, by the field and the code. @type {Record<string, keyof typeof ENGLISH>} */
const BY_FIELD = {
  "content_type.not_allowed": "kind",
  "size.too_large": "too_large",
  "size.multipart_required": "too_large",
  "size.too_small": "too_small",
  filename: "filename",
};
const NAMES = {"image/jpeg": "JPG", "image/svg+xml": "SVG", "audio/mpeg": "MP3", "video/quicktime": "MOV", "text/plain": "TXT"};

/** The language of the page; undefined if it names none. @returns {string | undefined} */
export const pageLanguage = () => globalThis.document?.documentElement?.lang || undefined;

/** The texts in this language, or in the one that it is a kind of. @param {string} [language] @returns {Texts} */
function textsIn(language = "") {
  const name = language.toLowerCase();
  return languages[name] ?? languages[name.split("-")[0]] ?? {};
}

/**
 * The text of this name, with its %(parameters)s.
 *
 * @param {keyof typeof ENGLISH} name @param {Record<string, unknown>} [parameters] @param {string} [language]
 */
export function say(name, parameters = {}, language = pageLanguage()) {
  const english = ENGLISH[name];
  const catalogue = /** @type {any} */ (globalThis).gettext;
  const found = typeof catalogue === "function" ? catalogue(english) : english;
  const text = texts[name] ?? (found === english ? textsIn(language)[name] ?? english : found);
  return text.replace(/%\((\w+)\)s/g, (/** @type {string} */ _, /** @type {string} */ key) => `${parameters[key] ?? ""}`).trim();
}

/**
 * "20 MB", "1.5 kB", "1 byte". 1 kB is 1,024 bytes. The server's format_size writes the same.
 *
 * @param {number} bytes @param {string} [language] @param {number} [largest] the largest unit: 0 for bytes, 4 for TB
 */
export function inBytes(bytes, language, largest = 4) {
  const power = Math.min(largest, Math.floor(Math.log2(bytes || 1) / 10));
  const count = bytes / 1024 ** power;
  const unit = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"][power];
  const unitDisplay = power ? "short" : "long";
  const options = /** @type {const} */ ({style: "unit", unit, unitDisplay, maximumFractionDigits: count < 100 ? 1 : 0});
  return new Intl.NumberFormat(language, options).format(count);
}

/** @param {number} seconds @param {string} [language] */
export function inTime(seconds, language) {
  const [count, unit] = seconds < 90 ? [seconds, "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  const options = /** @type {const} */ ({style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0});
  return new Intl.NumberFormat(language, options).format(Math.max(1, Math.round(count)));
}

/** "image/jpeg" → "JPG"; "application/x-tar" → "TAR". @param {string} type */
function kindOf(type) {
  const known = /** @type {Record<string, string>} */ (NAMES)[type];
  return known ?? type.split("/")[1].replace(/^(x-|vnd\.)/, "").split(/[.+]/).slice(-1)[0].toUpperCase();
}

/** What is allowed, as a list of names: "JPG or PNG". @param {readonly string[]} types @param {string} [language] */
export function kindsOf(types, language) {
  const names = types.map((type) => {
    const any = /^(image|video|audio)\/\*$/.exec(type);
    return any ? say(/** @type {keyof typeof ENGLISH} */ (`any_${any[1]}`), {}, language) : kindOf(type);
  });
  if (!Intl.ListFormat) return [...new Set(names)].join(", "); // in React Native
  return new Intl.ListFormat(language, {type: "disjunction"}).format([...new Set(names)]);
}

/** "Choose a JPG or PNG photo." @param {readonly string[]} types @param {string} [language] */
function instead(types, language) {
  const [family, ...others] = new Set(types.map((type) => type.split("/")[0]));
  const isMedia = ["image", "video", "audio"].includes(family) && !others.length;
  if (!types.length || types.some((type) => type.endsWith("/*"))) {
    return say(/** @type {keyof typeof ENGLISH} */ (isMedia ? `instead_any_${family}` : "instead"), {}, language);
  }
  const name = /** @type {keyof typeof ENGLISH} */ (isMedia ? `instead_${family}` : "instead_file");
  return say(name, {kinds: kindsOf(types, language)}, language);
}

/**
 * Why this file was not added, and what to do.
 *
 * @param {any} error an UploadError, or whatever was thrown
 * @param {{filename: string, size: number}} file
 * @param {string} [language]
 */
export function explain(error, {filename, size}, language) {
  const {code, body, upload, message = ""} = error ?? {};
  const [first] = body?.errors ?? [];
  const params = first?.params ?? {};
  const limits = [params.max_size, params.min_size, params.left].filter((limit) => limit !== undefined);
  const isClose = limits.some((limit) => inBytes(limit, language) === inBytes(size, language)); // or it would say "12 MB. The most is 12 MB."
  const inWords = (/** @type {number | undefined} */ bytes) => (bytes === undefined ? "" : inBytes(bytes, language, isClose ? 0 : 4));
  const extension = /\.([A-Za-z0-9]{1,10})$/.exec(filename)?.[1].toUpperCase();
  const name =
    code === "invalid" && first
      ? BY_FIELD[`${first.field}.${first.code}`] ?? BY_FIELD[first.field] ?? "invalid"
      : BY_CODE[code] ?? (error?.status === 403 && error.step !== "send" ? "denied" : code ? "unknown" : "page");
  const parameters = {
    kind: extension,
    instead: instead(params.content_types ?? [], language),
    size: inWords(size),
    max: inWords(params.max_size),
    min: inWords(params.min_size),
    left: inWords(params.left),
    detail: first?.detail ?? message,
    reason: upload?.reason ?? body?.upload?.reason ?? "",
  };
  return say(name === "kind" && !extension ? "kind_unknown" : name, parameters, language);
}

/** Whether it can help to send the same file again. @param {any} error */
export function mayRetry(error) {
  const isRule = error?.code === "invalid" && error.status === 400;
  return !isRule && !["file_unreadable", "object_mismatch", "rejected", "module_not_loaded", "not_supported"].includes(error?.code);
}
