/**
 * The types of upload.js, for editors and compilers. The JSDoc of the modules uses them, and `npm pack` makes the
 * declarations of the modules from it. No browser loads this file.
 */

export type Step = "begin" | "send" | "renew" | "confirm";

// The DOM's names of these types are unknown to the types of Node.js.
type HeaderFields = NonNullable<RequestInit["headers"]>;

export interface Options {
  /** The URL of Django's endpoint, such as "/api/uploads/". */
  endpoint: string;
  destination: string;
  context?: Record<string, unknown>;
  /** Sent to Django, never to S3. A function is called for each request, because a token may change meanwhile. */
  headers?: HeaderFields | (() => HeaderFields | Promise<HeaderFields>);
  /** Used for requests to Django, never to S3. */
  credentials?: "omit" | "same-origin" | "include";
  onProgress?: (progress: Progress) => void;
  /** Called when Django has answered begin: the upload has its `id`, and is usually still "pending". */
  onBegun?: (upload: Upload) => void;
  /** If it is aborted, the upload is also cancelled in Django. That of an UploadController can also pause. */
  signal?: AbortSignal;
  /**
   * The checksum of the whole file. If you only name the algorithm, it is computed in a worker, or on the page if no
   * worker loads. S3 has no SHA256 of a file in parts: with SHA256 the file is sent by one PUT, of 5 GiB at most.
   */
  checksum?: Checksum | "CRC32" | "SHA256";
  /** If it is false, the file is never sent in parts. */
  multipart?: boolean;
  /** How many parts are sent at once. The default is 4; after errors there are fewer. */
  parallel?: number;
  /**
   * Whether to resume an interrupted upload of this file. By default, only if this browser remembers it. false: never.
   * true: also if it is not remembered, but has the same name, size and context, and the file was not modified since.
   * Node.js remembers no uploads.
   */
  resume?: boolean;
  /**
   * What to do when a scan holds the upload. false (the default): resolve at once, with the status "verifying". true:
   * ask Django now and then, and resolve when the upload is completed. If the scan rejects it, you get an UploadError with
   * the code "object_mismatch", and `upload.reason` says why. A scan may take long. `signal` cancels the upload meanwhile.
   */
  waitForScan?: boolean;
  /**
   * In milliseconds; the default is 30 000. A request that makes no progress for so long is given up and sent again. Each
   * attempt that ends in this way doubles the time for the next one: up to 16 times the time for S3, and up to 4 times for Django.
   */
  stallTimeout?: number;
  /** At most 64 characters. With the key of a failed upload, that upload continues where it failed. */
  idempotencyKey?: string;
  /** Sends the bytes to S3, on a platform where upload.js cannot. */
  send?: Send;
  /** Sends the requests to Django, and asks S3 by HEAD whether it is there. By default the global fetch. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
  /** For tests. */
  clock?: Clock;
}

/**
 * Sends one request to S3, with exactly these headers. Resolves with S3's answer, whatever its status. Rejects if there
 * was no answer, or if `signal` aborted it; the status 0 means the same. An error with the name "NotReadableError" says that
 * the body cannot be read, and ends the upload.
 *
 * `body` is what the `slice` of the file returned: a whole file, or a part. Call `progress` with the number of bytes that
 * were sent. If no call comes for `stallTimeout`, the request is aborted and sent again.
 */
export type Send = (
  request: {method: string; url: string; headers: Record<string, string>},
  body: any,
  signal: AbortSignal,
  progress: (loaded: number) => void,
) => Promise<{status: number; text?: string}>;

/** Time and random numbers. */
export interface Clock {
  /** In milliseconds since any moment. It never runs backward. */
  now(): number;
  setTimeout(callback: () => void, milliseconds: number): unknown;
  clearTimeout(timer: any): void;
  /** A random number from 0 to 1. A retry waits for this part of its longest delay. */
  random(): number;
}

export interface Progress {
  /** Sent bytes. The number never decreases, even if the file is sent again from its beginning. */
  loaded: number;
  total: number;
  /**
   * - "waiting": the network, S3 or Django does not answer. The upload continues by itself.
   * - "stalled": no byte was sent for 8 seconds. After `stallTimeout` the request is sent again.
   * - "verifying": everything is sent, and a scan holds the upload.
   */
  phase: "begin" | "send" | "waiting" | "stalled" | "confirm" | "verifying";
  /** The speed during the last seconds; 0 if it is not known. */
  bytesPerSecond: number;
  /** How long the rest takes at this speed; null if it is not known. */
  secondsLeft: number | null;
}

/** What upload() takes: a File, a Blob with a name, the result of openFile in node.js, or an object of your own. */
export type UploadFile = File | NamedBlob | FileLike;

/** For example `Object.assign(blob, {name: "drawing.png"})`. Without `lastModified` it is not resumed after a reload. */
export type NamedBlob = Blob & {readonly name: string; readonly lastModified?: number};

/** A file of a platform that has no File. Only your `send` reads the slices, so they may have properties of your own. */
export interface FileLike extends Slice {
  readonly name: string;
  /** In milliseconds since 1970. Without it, the file is not resumed after a reload. */
  readonly lastModified?: number;
}

/** The result of openFile in node.js. */
export interface FileOnDisk extends FileLike {
  readonly lastModified: number;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** A part of a file: what upload() needs of a Blob. */
export interface Slice {
  /** In bytes. */
  readonly size: number;
  /** Such as "image/png"; "" if it is not known. */
  readonly type: string;
  /** The bytes from `start` up to, but without, `end`. `end` may be greater than the size. */
  slice(start?: number, end?: number): Slice;
  /**
   * Rejects if the file was changed meanwhile, and with a NotFoundError if it was deleted.
   *
   * **Warning**: Without `arrayBuffer`, upload() does not notice that a file changed while it was sent. S3 then may have
   * half of the old file and half of the new one, and the old content is lost.
   */
  arrayBuffer?(): Promise<ArrayBuffer>;
}

/** Treat a status that you do not know as not final. */
export type Status =
  | "pending"
  | "verifying"
  | "completed"
  | "rejected"
  | "expired"
  | "cancelled"
  | "deleted"
  | (string & {});

/** An upload as Django returns it. */
export interface Upload {
  id: string;
  status: Status;
  destination: string;
  filename: string;
  content_type: string;
  size: number;
  context: Record<string, unknown>;
  created_at: string;
  expires_at: string;
  completed_at: string | null;
  reason: string | null;
  /**
   * What a form posts for this upload. A secret of its owner. For a visitor's upload it is also the header Upload-Token,
   * which upload.js sends.
   */
  form_value: string | null;
  /** Whether it was begun without a login. */
  visitor: boolean;
}

/** The promise that upload() returns. While it is paused, nothing is sent to S3. */
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
  /** In seconds. */
  expires_in?: number;
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

/** An upload that must be sent, by `request` or by `multipart`. */
export type Begun = Upload & {request: PresignedRequest | null; multipart: PresignedMultipart | null};

/** An error as Django returns it. docs/openapi.yaml lists the codes. */
export interface ErrorBody {
  code: string;
  detail: string;
  /** Each thing that is wrong with the request. */
  errors: ErrorItem[];
  upload?: Upload;
  /** In seconds. */
  retry_after?: number;
}

export interface ErrorItem {
  /** A nested field has dots in its name: "checksum.value". */
  field: string | null;
  code: string;
  detail: string;
  /** What would be right, such as `{max_size: 20971520}`. */
  params: Record<string, any>;
}

/**
 * Django's `code`, S3's `<Code>`, or one of these:
 * - "network_error": there was no answer, several times.
 * - "file_unreadable": the file was changed, moved or deleted after the user chose it. The user must choose it again.
 *   A dropped folder has this error, too. `cause` has the original error. With the step "confirm", the file changed
 *   while it was sent, and the upload is cancelled.
 * - "module_not_loaded": checksum.js (or in Node.js node.js) could not be loaded from the folder of upload.js.
 * - "not_supported": upload.js cannot do this on this platform. The message says what is missing.
 * - "unexpected_answer": the answer did not come from Django, or not from S3.
 */
export type ErrorCode = "network_error" | "deadline_passed" | "file_unreadable" | "module_not_loaded" | "not_supported" | "unexpected_answer" | (string & {});

/** The facts for an UploadError. */
export interface Facts {
  step: Step;
  code: ErrorCode;
  status?: number;
  body?: ErrorBody | string | null;
  upload?: Upload;
  retryAfter?: number;
  cause?: unknown;
}

export {UploadController, UploadError, upload} from "./upload.js";
