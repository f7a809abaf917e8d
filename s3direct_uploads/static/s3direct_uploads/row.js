/**
 * Shows one file of an `<s3-upload>`, as a list item. The focus is kept when buttons appear and disappear.
 *
 * @module
 *
 * @import {Item} from "./files.js"
 */
import {explain, inBytes, inTime, mayRetry, say} from "./texts.js";

/** @typedef {"pause" | "retry" | "remove"} Action */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {string} className @param {Partial<HTMLElementTagNameMap[Tag]>} [properties]
 * @param {...Node} children
 */
export function make(tag, className, properties = {}, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

export class Row {
  image = make("img", "s3-upload-preview", {alt: "", hidden: true});
  filename = make("span", "s3-upload-filename");
  said = make("span", "s3-upload-said");
  progress = make("progress", "s3-upload-progress");
  value = make("input", "", {type: "hidden"});

  /** @param {Item} item @param {(action: Action) => void} onAction @param {string} [language] */
  constructor(item, onAction, language) {
    const {filename} = item;
    this.language = language;
    this.filename.append(make("bdi", "", {textContent: filename})); // its text may run from right to left
    this.progress.setAttribute("aria-label", say("progress", {filename}, language));
    this.buttons = Object.fromEntries(
      /** @type {const} */ (["pause", "retry", "remove"]).map((action) => {
        const button = make("button", "s3-upload-button", {type: "button"});
        button.addEventListener("click", () => onAction(action));
        return [action, button];
      }),
    );
    const actions = make("span", "s3-upload-actions", {}, ...Object.values(this.buttons));
    const text = make("div", "s3-upload-text", {}, this.filename, this.said, this.progress);
    this.element = make("li", "s3-upload-item", {}, this.image, text, actions, this.value);
  }

  /** @param {Blob} file */
  preview(file) {
    if (!file.type.startsWith("image/")) return;
    this.image.addEventListener("load", () => (this.image.hidden = false)); // many browsers cannot show HEIC
    this.image.src = URL.createObjectURL(file);
  }

  /** @param {Item} item @param {string} name The name of the posted value. */
  show(item, name) {
    const {phase, value, filename, size, loaded} = item;
    const isUnderWay = ["sending", "paused", "confirming"].includes(phase);
    this.element.dataset.phase = phase;
    this.element.dataset.trouble = item.trouble;
    this.said.textContent = this.#words(item);
    this.progress.hidden = !isUnderWay;
    this.progress.max = size || 1;
    this.progress.value = loaded;
    this.value.name = name;
    this.value.value = value;
    this.value.disabled = phase !== "done" && phase !== "checking";
    Object.assign(this.value.dataset, {filename, size, status: phase === "checking" ? "verifying" : "completed"});
    const isFinal = phase === "done" || phase === "failed";
    this.#label("pause", phase === "paused" ? "resume" : "pause", filename);
    this.#label("retry", "retry", filename);
    this.#label("remove", isFinal || phase === "checking" ? "remove" : "cancel", filename);
    this.#hide("pause", !["sending", "paused"].includes(phase) || loaded === size);
    this.#hide("retry", phase !== "failed" || !mayRetry(item.error));
  }

  focus() {
    const first = Object.values(this.buttons).find(({hidden}) => !hidden);
    first?.focus();
  }

  remove() {
    URL.revokeObjectURL(this.image.src);
    this.element.remove();
  }

  /** @param {Action} action @param {"pause" | "resume" | "retry" | "remove" | "cancel"} name @param {string} filename */
  #label(action, name, filename) {
    const button = this.buttons[action];
    if (button.dataset.says === name) return; // an equal text, set again, may be read aloud again
    button.dataset.says = name;
    const words = say(name, {}, this.language);
    button.textContent = words;
    button.setAttribute("aria-label", say("button", {action: words, filename}, this.language));
  }

  /** @param {Action} action @param {boolean} hidden */
  #hide(action, hidden) {
    const button = this.buttons[action];
    const had = button === document.activeElement;
    button.hidden = hidden;
    if (had && hidden) this.buttons.remove.focus();
  }

  /** @param {Item} item */
  #words(item) {
    const {phase, trouble, loaded, size, bytesPerSecond, secondsLeft, error} = item;
    const {language} = this;
    const sizes = {loaded: inBytes(loaded, language), size: inBytes(size, language)};
    if (phase === "failed") return explain(error, item, language);
    if (trouble && phase !== "paused") return say(trouble, sizes, language);
    if (phase !== "sending") return say(phase, sizes, language);
    if (!loaded) return say("preparing", {}, language);
    if (secondsLeft === null || loaded === size) return say(loaded === size ? "confirming" : "sending", sizes, language);
    const pace = {speed: inBytes(bytesPerSecond, language), time: inTime(secondsLeft, language)};
    return say("sending_speed", {...sizes, ...pace}, language);
  }
}
