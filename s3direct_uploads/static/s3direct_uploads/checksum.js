/**
 * Checksums of files of any size, computed piece by piece: CRC32 and SHA-256, in base64 as for S3.
 * upload.js runs it as a worker, so that the page does not freeze. Without workers, upload.js imports it.
 *
 * @module
 *
 * @import {Slice} from "./types.js"
 */

const WORKER = "s3direct-uploads checksum";
const READY = "ready";
const PATIENCE = 10_000; // milliseconds, until a worker says that it is this module
const PIECE = 4 * 1024 ** 2; // bytes in memory at once

/**
 * Computes a checksum. Rejects if the file cannot be read, or is shorter than its size.
 *
 * @param {"CRC32" | "SHA256"} algorithm
 * @param {Blob | Slice} file
 * @param {AbortSignal} [signal]
 * @returns {Promise<{algorithm: string, value: string}>}
 */
export async function checksum(algorithm, file, signal) {
  const sum = algorithm === "CRC32" ? new Crc32() : new Sha256();
  for (let start = 0; start < file.size; start += PIECE) {
    if (signal?.aborted) throw signal.reason;
    const slice = /** @type {Blob} */ (file.slice(start, start + PIECE));
    const piece = new Uint8Array(await slice.arrayBuffer());
    const expected = Math.min(PIECE, file.size - start);
    if (piece.length !== expected) throw new DOMException("The file is shorter than it was.", "NotReadableError");
    sum.update(piece);
  }
  return {algorithm, value: btoa(String.fromCharCode(...sum.digest()))};
}

/**
 * Computes a checksum in a worker, or on the page if no worker loads. Also rejects if it is aborted.
 *
 * @param {"CRC32" | "SHA256"} algorithm @param {Blob | Slice} file @param {AbortSignal} [signal]
 * @returns {Promise<{algorithm: string, value: string}>}
 */
export async function inWorker(algorithm, file, signal) {
  let worker;
  try {
    worker = startWorker();
    const found = await answered(worker, {algorithm, file}, signal);
    if (found) return found;
  } catch {
    // There are no workers, or this module is from another host, or the file cannot be sent to a worker.
  } finally {
    worker?.terminate();
  }
  return checksum(algorithm, file, signal);
}

function startWorker() {
  // With hashed names (ManifestStaticFilesStorage), only the URL of this module is sure to exist. Bundlers rename the
  // module, and recognise a worker only by the second form.
  return /^http.*\/checksum\.[^/]*$/.test(import.meta.url)
    ? new Worker(import.meta.url, {type: "module", name: WORKER})
    : new Worker(new URL("./checksum.js", import.meta.url), {type: "module", name: WORKER});
}

/**
 * @param {Worker} worker @param {object} question @param {AbortSignal} [signal]
 * @returns {Promise<{algorithm: string, value: string} | null>} null if it did not load, failed, or was aborted
 */
function answered(worker, question, signal) {
  return new Promise((resolve) => {
    const end = (/** @type {any} */ event) => {
      clearTimeout(timer);
      if (event?.data === READY) return; // now it computes
      signal?.removeEventListener("abort", end);
      resolve(event?.type === "message" ? event.data : null);
    };
    // Of another module that a server or a bundler put in its place, nothing is heard.
    const timer = setTimeout(end, PATIENCE);
    if (signal?.aborted) return end({type: "abort"}); // its event will not come again
    signal?.addEventListener("abort", end);
    worker.onmessage = end;
    worker.onerror = end; // not found, no JavaScript, refused by the page's Content-Security-Policy …
    worker.onmessageerror = end;
    worker.postMessage(question);
  });
}

const CRC_TABLE = Uint32Array.from({length: 256}, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

class Crc32 {
  crc = -1;

  /** @param {Uint8Array} bytes */
  update(bytes) {
    let {crc} = this;
    for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ bytes[i]) & 0xff];
    this.crc = crc;
  }

  digest() {
    return bigEndian([~this.crc]);
  }
}

/** SHA-256 by FIPS 180-4. The browser's own function needs the whole file in memory, and https. */
class Sha256 {
  hash = Int32Array.from(fractions(8, 1 / 2));
  rest = new Uint8Array(0);
  length = 0;

  /** @param {Uint8Array} bytes */
  update(bytes) {
    this.length += bytes.length;
    if (this.rest.length) bytes = joined(this.rest, bytes);
    const whole = bytes.length - (bytes.length % 64);
    this.blocks(bytes.subarray(0, whole));
    this.rest = bytes.slice(whole);
  }

  digest() {
    const end = new Uint8Array(this.rest.length < 56 ? 64 : 128);
    end.set(this.rest);
    end[this.rest.length] = 0x80;
    const bits = new DataView(end.buffer);
    bits.setUint32(end.length - 8, Math.floor(this.length / 2 ** 29));
    bits.setUint32(end.length - 4, (this.length * 8) % 2 ** 32);
    this.blocks(end);
    return bigEndian([...this.hash]);
  }

  /** @param {Uint8Array} bytes a multiple of 64 */
  blocks(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const w = new Int32Array(64);
    let [h0, h1, h2, h3, h4, h5, h6, h7] = this.hash;
    for (let at = 0; at < bytes.length; at += 64) {
      for (let i = 0; i < 16; i++) w[i] = view.getInt32(at + 4 * i);
      for (let i = 16; i < 64; i++) {
        const x = w[i - 15];
        const y = w[i - 2];
        const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
        const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
        w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
      }
      let [a, b, c, d, e, f, g, h] = [h0, h1, h2, h3, h4, h5, h6, h7];
      for (let i = 0; i < 64; i++) {
        const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
        const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
        const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
        const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        h = g;
        g = f;
        f = e;
        e = (d + t1) | 0;
        d = c;
        c = b;
        b = a;
        a = (t1 + t2) | 0;
      }
      h0 = (h0 + a) | 0;
      h1 = (h1 + b) | 0;
      h2 = (h2 + c) | 0;
      h3 = (h3 + d) | 0;
      h4 = (h4 + e) | 0;
      h5 = (h5 + f) | 0;
      h6 = (h6 + g) | 0;
      h7 = (h7 + h) | 0;
    }
    this.hash.set([h0, h1, h2, h3, h4, h5, h6, h7]);
  }
}

/**
 * The constants of SHA-256: the first 32 bits of the fractional parts of the roots of the first primes.
 *
 * @param {number} count @param {number} power
 */
function fractions(count, power) {
  const found = [];
  for (let n = 2; found.length < count; n++) {
    let prime = true;
    for (let divisor = 2; divisor * divisor <= n; divisor++) prime &&= n % divisor > 0;
    if (prime) found.push(((n ** power % 1) * 2 ** 32) | 0);
  }
  return found;
}

const ROUNDS = Int32Array.from(fractions(64, 1 / 3));

/** @param {Uint8Array} one @param {Uint8Array} two */
function joined(one, two) {
  const both = new Uint8Array(one.length + two.length);
  both.set(one);
  both.set(two, one.length);
  return both;
}

/** @param {number[]} words */
function bigEndian(words) {
  const bytes = new DataView(new ArrayBuffer(4 * words.length));
  words.forEach((word, index) => bytes.setInt32(4 * index, word));
  return new Uint8Array(bytes.buffer);
}

if (/** @type {any} */ (globalThis).name === WORKER && typeof postMessage === "function") {
  postMessage(READY);
  addEventListener("message", async ({data: {algorithm, file}}) => {
    // null makes the page compute it again, and find the error: some browsers cannot send a DOMException from a worker.
    postMessage(await checksum(algorithm, file).catch(() => null));
  });
}
