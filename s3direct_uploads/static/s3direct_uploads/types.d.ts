/** The types of upload.js, for editors and compilers: no browser loads this file. */

export type Step = "begin" | "send" | "renew" | "confirm";

export interface Options {
  /** Where Django has the uploads, such as "/api/uploads/". */
  endpoint: string;
  destination: string;
  context?: Record<string, unknown>;
  /** For Django, never for S3. A function is called anew for each request: a token may change under way. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /** For Django, never for S3. */
  credentials?: RequestCredentials;
  onProgress?: (progress: Progress) => void;
  /** Aborting cancels the upload at Django too. */
  signal?: AbortSignal;
  /**
   * Of the whole file; what is only named is computed in a worker, or on the page where no worker loads. S3 knows no
   * SHA256 of a file in parts: with it there is one PUT, of 5 GiB at most.
   */
  checksum?: Checksum | "CRC32" | "SHA256";
  /** false: never in parts. */
  multipart?: boolean;
  /** Parts at once: 4 unless given, and fewer while there are errors. */
  parallel?: number;
  /**
   * Whether to go on with an upload of this file that was interrupted: false never, true also with one that this
   * browser does not remember, if it was of a file of this name, size and context, and the file was not modified
   * since. Node.js remembers none.
   */
  resume?: boolean;
  /** At most 64 characters. A failed upload's takes it up where it failed. */
  idempotencyKey?: string;
  /** For tests, and for where there is neither a browser nor Node.js. */
  transport?: Transport;
  /** For tests. */
  clock?: Clock;
}

/** How requests are sent: all of upload()'s go by these two. */
export interface Transport {
  /** To Django, as by the global fetch. */
  fetch(url: string, init: RequestInit): Promise<Response>;
  /**
   * To S3: exactly these headers. Resolves with S3's answer, and with status 0 when there was none, or when it was
   * aborted. Rejects when the body cannot be read, and only then. `onLoaded` is told the bytes that have left.
   */
  put(
    request: PresignedRequest,
    body: Blob | Slice,
    signal: AbortSignal,
    onLoaded: (loaded: number) => void,
  ): Promise<{status: number; text: string}>;
}

/** How time passes, and chance decides. */
export interface Clock {
  /** In milliseconds, since whenever; never runs backward. */
  now(): number;
  setTimeout(callback: () => void, milliseconds: number): unknown;
  clearTimeout(timer: any): void;
  /** From 0 to 1: which part of the longest delay a retry waits. */
  random(): number;
}

export interface Progress {
  /** Bytes that have left. Never runs backward, not even when sending starts over. */
  loaded: number;
  total: number;
  /** "verifying": everything is sent, and a scan holds the upload. */
  phase: "begin" | "send" | "confirm" | "verifying";
  /** Of the last seconds; 0 while nothing is known. */
  bytesPerSecond: number;
  /** Until all has left, at this speed; null while nothing is known. */
  secondsLeft: number | null;
}

/** What openFile of node.js makes: to upload() as good as a File. */
export interface FileOnDisk extends Slice {
  readonly name: string;
  /** In milliseconds since 1970. */
  readonly lastModified: number;
}

/** Some of its bytes: what upload() needs of a Blob. */
export interface Slice {
  readonly size: number;
  readonly type: string;
  slice(start?: number, end?: number): Slice;
  /** Rejects when the file was changed meanwhile, and with a NotFoundError when it is gone. */
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** What Django says of an upload. A status that you do not know is not final. */
export interface Upload {
  id: string;
  status: string;
  destination: string;
  filename: string;
  content_type: string;
  size: number;
  context: Record<string, unknown>;
  created_at: string;
  expires_at: string;
  completed_at: string | null;
  reason: string | null;
  /** What a form posts for this upload. A secret of its owner; null if nobody owns it. */
  form_value: string | null;
}

/** Paused, nothing is sent to S3. */
export type Uploading = Promise<Upload> & {pause: () => void; resume: () => void};

export interface Checksum {
  algorithm: string;
  /** In base64. */
  value: string;
}

export interface PresignedRequest {
  method?: string;
  url: string;
  headers: Record<string, string>;
}

export interface PresignedPart extends PresignedRequest {
  part_number: number;
  size: number;
}

export interface PresignedMultipart {
  part_size: number;
  part_count: number;
  parts: PresignedPart[];
  expires_in: number;
}

/** An upload that is to be sent, by one of the two. */
export type Begun = Upload & {request: PresignedRequest | null; multipart: PresignedMultipart | null};

/** What an UploadError is made of. */
export interface Facts {
  step: Step;
  code: string;
  status?: number;
  body?: any;
  upload?: Upload;
  retryAfter?: number;
  cause?: unknown;
}

/** Why an upload did not complete. */
export declare class UploadError extends Error {
  constructor(message: string, facts: Facts);
  step: Step;
  /**
   * Django's `code`, S3's `<Code>`, or one of these:
   * - "network_error": there was no answer, several times.
   * - "file_unreadable": the file was changed, moved or deleted after it was chosen; it has to be chosen again. A folder
   *   that was dropped is this as well. `cause` has the error of who read it. With the step "confirm" it changed while it was sent, and the upload is cancelled.
   * - "module_not_loaded": checksum.js (or in Node.js node.js) could not be loaded from the folder of upload.js.
   * - "unexpected_answer": what answered is not Django, or not S3.
   */
  code: string;
  /** 0 when there was no answer. */
  status: number;
  /** The answer: JSON, parsed, or text. */
  body: any;
  upload?: Upload;
  /** In seconds; 0 when the server did not ask for a wait. */
  retryAfter: number;
}

/**
 * Resolves when the upload is completed; rejects with an UploadError, or with `signal.reason`. What is safe to
 * repeat has been repeated by then.
 */
export declare function upload(file: File | FileOnDisk, options: Options): Uploading;
