/**
 * Makes of Node.js what React Native 0.79 gives a script, and no more: AbortController by the package abort-controller,
 * a URL without an origin, a Blob without arrayBuffer(), and no crypto. The test in tests/real bundles for the real one.
 */
new Headers(); // Node.js loads what it belongs to only now, and that needs some of them

class AbortSignal {
  aborted = false;
  listeners = new Map();

  addEventListener(type, listener, {once = false} = {}) {
    if (type === "abort") this.listeners.set(listener, once);
  }

  removeEventListener(type, listener) {
    this.listeners.delete(listener);
  }
}

class AbortController {
  #signal = new AbortSignal();

  get signal() {
    return this.#signal;
  }

  abort() {
    if (this.#signal.aborted) return;
    this.#signal.aborted = true;
    for (const [listener, once] of [...this.#signal.listeners]) {
      if (once) this.#signal.listeners.delete(listener);
      listener({type: "abort"});
    }
  }
}

const NodeURL = URL;
class ReactNativeURL extends NodeURL {
  get origin() {
    throw new Error("URL.origin is not implemented");
  }
}

const {env, hrtime} = process;
Object.assign(globalThis, {AbortController, AbortSignal, URL: ReactNativeURL});
for (const [name, value] of Object.entries({performance: undefined, process: {env, hrtime}})) {
  Object.defineProperty(globalThis, name, {value, configurable: true, writable: true});
}
for (const name of ["EventTarget", "Event", "DOMException", "crypto", "localStorage", "location", "Worker", "structuredClone"]) {
  delete globalThis[name];
}
delete Blob.prototype.arrayBuffer;
delete Intl.ListFormat;
