// @ts-nocheck the types of Node.js are not installed, and no page loads this file
/**
 * For Node.js, Deno and Bun: files on disk, and how upload.js sends without XMLHttpRequest. Node's fetch is not used, because it needs
 * twice the time and three times the memory, and reports no progress.
 *
 *     import {openFile} from "s3direct-uploads/node.js";
 *
 *     const {id} = await upload(await openFile("film.mp4"), {endpoint, destination: "films", headers});
 *
 * @module
 *
 * @import {FileOnDisk as Opened, Send} from "./types.js"
 */

const BATCH = 512 * 1024; // bytes that go to the socket in one system call

// Loaded in this way, because bundlers for browsers fail on the names of these modules.
const node = (name) => process.getBuiltinModule(`node:${name}`);

/**
 * Opens a file on disk for upload(). A Blob of fs.openAsBlob also works, but it is read in pieces of 64 KiB, and takes a
 * third more time to send. You need not close the file. Rejects as fs.stat does, and if the path is no regular file. If
 * the file changes later, the upload rejects with "file_unreadable".
 *
 * @param {string | URL} path @param {{type?: string, name?: string}} [options]
 * @returns {Promise<Opened>}
 */
export async function openFile(path, {type = "", name} = {}) {
  const {basename, resolve} = node("path");
  const absolute = resolve(path instanceof URL ? node("url").fileURLToPath(path) : path);
  const stats = await node("fs/promises").stat(absolute);
  if (!stats.isFile()) throw new DOMException(`${absolute} is not a file.`, "NotReadableError");
  return new FileOnDisk(absolute, stats, {name: name ?? basename(absolute), type});
}

/** Bytes of a file on disk. The file is open only while they are read, so nobody has to close it. */
class Slice {
  type = "";

  constructor(path, stats, start, size) {
    Object.assign(this, {path, stats, start, size});
  }

  slice(start = 0, end = this.size) {
    const size = Math.max(0, Math.min(end, this.size) - start);
    return new Slice(this.path, this.stats, this.start + start, size);
  }

  async arrayBuffer() {
    const bytes = new Uint8Array(this.size);
    let at = 0;
    for await (const [piece] of this.batches()) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes.buffer;
  }

  /** Yields one piece at a time. Each one uses the memory of the one before. */
  async *batches() {
    const file = await this.opened();
    try {
      const buffer = Buffer.allocUnsafeSlow(Math.min(BATCH, this.size));
      let {start: at, size: left} = this;
      do {
        const {bytesRead} = await file.read(buffer, 0, Math.min(BATCH, left), at);
        at += bytesRead;
        left -= bytesRead;
        // Before the last piece is sent. So S3 never gets a whole object of which half is the old file, half the new.
        if (!left || !bytesRead) await this.check(file);
        if (bytesRead) yield [buffer.subarray(0, bytesRead)];
      } while (left);
    } finally {
      await file.close();
    }
  }

  async opened() {
    try {
      return await node("fs/promises").open(this.path);
    } catch (error) {
      const name = error.code === "ENOENT" ? "NotFoundError" : "NotReadableError"; // the names of a browser's File
      throw Object.assign(new DOMException(error.message, name), {cause: error});
    }
  }

  async check(file) {
    const stats = await file.stat();
    if (["size", "mtimeMs", "ino"].every((fact) => stats[fact] === this.stats[fact])) return;
    throw new DOMException(`${this.path} was changed since it was opened.`, "NotReadableError");
  }
}

class FileOnDisk extends Slice {
  constructor(path, stats, {name, type}) {
    super(path, stats, 0, stats.size);
    Object.assign(this, {name, type, lastModified: Math.trunc(stats.mtimeMs)});
  }
}

/** Only for upload.js. The same as its byXhr. Rejects if the body cannot be read. @type {Send} */
export function byNode({method, url, headers}, body, signal, onLoaded) {
  const {request} = node(url.startsWith("https:") ? "https" : "http");
  return new Promise((resolve, reject) => {
    const fail = () => resolve({status: 0, text: ""});
    const sending = request(url, {method, headers: {...headers, "Content-Length": body.size}, signal});
    sending.on("error", fail);
    sending.on("response", async (answer) => {
      try {
        const text = (await answer.setEncoding("utf8").toArray()).join("");
        resolve({status: answer.statusCode, text});
      } catch {
        fail();
      }
      if (!sending.writableEnded) sending.destroy(); // S3 refused it before everything was sent
    });
    feed(sending, body, onLoaded).catch((error) => {
      reject(Object.assign(new DOMException(error.message, "NotReadableError"), {cause: error}));
      sending.destroy();
    });
  });
}

async function feed(sending, body, onLoaded) {
  let loaded = 0;
  for await (const batch of body.batches?.() ?? batches(body)) {
    await written(sending, batch);
    if (sending.destroyed) return;
    for (const piece of batch) loaded += piece.length;
    onLoaded(loaded);
  }
  sending.end();
}

/** The pieces of a Blob, in batches for one system call. */
async function* batches(blob) {
  let batch = [];
  let size = 0;
  for await (const piece of blob.stream()) {
    batch.push(piece);
    size += piece.length;
    if (size < BATCH) continue;
    yield batch;
    for (const {buffer} of batch) buffer.transfer?.(0); // Node.js 22: free their memory now
    batch = [];
    size = 0;
  }
  if (size) yield batch;
}

/** Resolves when the pieces were sent, or when the connection is closed. */
function written(sending, pieces) {
  return new Promise((resolve) => {
    const end = () => {
      sending.off("close", end);
      resolve();
    };
    sending.on("close", end);
    sending.cork();
    for (const piece of pieces.slice(0, -1)) sending.write(piece);
    sending.write(pieces.at(-1), end);
    sending.uncork();
  });
}
