// What React Native 0.79 adds to Hermes, of what upload.js uses: these are the packages that it takes them from. Its URL has
// no origin. crypto, EventTarget, DOMException, localStorage and location are missing there, too.
import {AbortController, AbortSignal} from "abort-controller/dist/abort-controller";
import {Headers} from "whatwg-fetch";

class URL {
  get origin() {
    throw new Error("URL.origin is not implemented");
  }
}

Object.assign(globalThis, {AbortController, AbortSignal, Headers, URL, performance: {now: Date.now}});
