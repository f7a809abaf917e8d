/**
 * The state of the files of an `<s3-upload>`. It does not use the page: element.js shows the state and uploads.
 *
 * @module
 */

/**
 * @typedef {"waiting" | "sending" | "paused" | "confirming" | "checking" | "done" | "failed"} Phase
 *
 * @typedef {object} Item One file that was chosen.
 * @property {string} key A random name of the file in this element.
 * @property {string} filename
 * @property {number} size In bytes.
 * @property {Phase} phase
 * @property {"" | "offline" | "stalled"} trouble Why nothing moves at the moment; "" if it moves.
 * @property {number} loaded In bytes.
 * @property {number} bytesPerSecond
 * @property {number | null} secondsLeft
 * @property {string} value What the form posts; "" until it is done.
 * @property {string} id The id of the upload; "" while it is not known.
 * @property {any} error The error, if the upload failed; otherwise null.
 *
 * @typedef {{key: string, filename: string, size: number}} Chosen
 *
 * @typedef {{type: "choose", files: Chosen[], multiple: boolean}
 *   | {type: "restore", file: Chosen & {value: string, id: string, status: string}}
 *   | {type: "start" | "pause" | "resume" | "retry" | "remove", key: string}
 *   | {type: "progress", key: string, loaded: number, bytesPerSecond: number, secondsLeft: number | null, phase: string}
 *   | {type: "hold", key: string, id: string}
 *   | {type: "complete", key: string, value: string, id: string}
 *   | {type: "fail", key: string, error: any, id: string}} Event
 */

/** How many files one element sends at the same time. */
export const AT_ONCE = 3;

const NEW = {trouble: /** @type {Item["trouble"]} */ (""), loaded: 0, bytesPerSecond: 0, secondsLeft: null, value: "", id: "", error: null};
/** @type {Record<string, Phase>} */
const PHASES = {begin: "sending", send: "sending", confirm: "confirming", verifying: "checking"};
/** @type {Record<string, Item["trouble"]>} upload.js's phases in which nothing moves; a file's own phase stays. */
const TROUBLES = {waiting: "offline", stalled: "stalled"};
/** @type {Record<string, Phase[]>} The phases in which an event is applied. In another phase the event came too late. */
const ONLY_IN = {
  start: ["waiting"],
  progress: ["sending", "paused", "confirming", "checking"],
  pause: ["sending"],
  resume: ["paused"],
  hold: ["sending", "paused", "confirming", "checking"],
  complete: ["sending", "paused", "confirming", "checking"],
  fail: ["waiting", "sending", "paused", "confirming", "checking"],
  retry: ["failed"],
};

/** @param {readonly Item[]} items @param {Event} event @returns {readonly Item[]} */
export function reduce(items, event) {
  if (event.type === "choose") {
    const chosen = event.files.map((file) => ({...NEW, ...file, phase: /** @type {Phase} */ ("waiting")}));
    return event.multiple ? [...items, ...chosen] : chosen.slice(-1);
  }
  if (event.type === "restore") {
    const {status, ...file} = event.file;
    const phase = /** @type {Phase} */ (status === "completed" ? "done" : "checking");
    return [...items, {...NEW, ...file, phase, loaded: file.size}];
  }
  if (event.type === "remove") return items.filter(({key}) => key !== event.key);
  const isTime = (/** @type {Item} */ {key, phase}) => key === event.key && ONLY_IN[event.type].includes(phase);
  return items.map((item) => (isTime(item) ? {...item, ...change(item, event)} : item));
}

/** @param {Item} item @param {Event} event @returns {Partial<Item>} */
function change(item, event) {
  switch (event.type) {
    case "start":
    case "resume":
      return {phase: "sending", trouble: "", bytesPerSecond: 0, secondsLeft: null};
    case "pause":
      return {phase: "paused", trouble: ""};
    case "retry":
      return {...NEW, phase: "waiting"};
    case "progress": {
      const {loaded, bytesPerSecond, secondsLeft} = event;
      const trouble = TROUBLES[event.phase] ?? "";
      // After a pause, requests that had begun still report progress.
      const isStill = trouble || (item.phase === "paused" && event.phase === "send");
      return {phase: isStill ? item.phase : PHASES[event.phase], trouble, loaded, bytesPerSecond, secondsLeft};
    }
    case "hold":
      return {phase: "checking", trouble: "", loaded: item.size, id: event.id};
    case "complete":
      return {phase: "done", trouble: "", loaded: item.size, value: event.value, id: event.id, error: null};
    case "fail":
      return {phase: "failed", trouble: "", error: event.error, id: event.id || item.id};
    default:
      return {};
  }
}

/** The files that may be sent now. @param {readonly Item[]} items */
export function nextToSend(items) {
  const busy = items.filter(({phase}) => ["sending", "paused", "confirming"].includes(phase)).length;
  return items.filter(({phase}) => phase === "waiting").slice(0, Math.max(0, AT_ONCE - busy));
}

/**
 * The first file that keeps the form from being submitted.
 *
 * @param {readonly Item[]} items
 */
export function obstacle(items) {
  return items.find(({phase}) => phase === "failed") ?? items.find(({phase}) => phase !== "done") ?? null;
}

/** How many more files may be chosen. @param {readonly Item[]} items @param {{multiple: boolean, maxFiles: number}} limits */
export function room(items, {multiple, maxFiles}) {
  return multiple ? Math.max(0, maxFiles - items.length) : 1;
}

/**
 * The changes that a screen reader should say: which file, and what happened to it.
 *
 * @param {readonly Item[]} before @param {readonly Item[]} after
 * @returns {{item: Item, what: "added" | "offline" | "paused" | "checking" | "done" | "failed" | "removed"}[]}
 */
export function news(before, after) {
  const earlier = new Map(before.map((item) => [item.key, item]));
  const now = new Set(after.map(({key}) => key));
  const told = /** @type {const} */ (["paused", "checking", "done", "failed"]);
  /** @type {ReturnType<typeof news>} */
  const found = before.filter(({key}) => !now.has(key)).map((item) => ({item, what: "removed"}));
  for (const item of after) {
    const was = earlier.get(item.key);
    const isLost = was && item.trouble === "offline" && was.trouble !== "offline";
    const what = isLost ? "offline" : was ? told.find((phase) => phase === item.phase && phase !== was.phase) : "added";
    if (what) found.push({item, what});
  }
  return found;
}
