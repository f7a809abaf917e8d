/** The types of node.js. */

import type {FileOnDisk, Transport} from "./types";

/**
 * A file on Node.js's disk, for upload(): what fs.openAsBlob opens takes a third more time to send. Nothing is to be
 * closed. Rejects when it is no regular file, or is not there. An upload rejects with "file_unreadable" when the file
 * was changed since.
 */
export declare function openFile(path: string | URL, options?: {type?: string; name?: string}): Promise<FileOnDisk>;

/** For upload.js alone. */
export declare const byNode: Transport["put"];
