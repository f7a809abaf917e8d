/** The types of node.js. */

import type {FileOnDisk, Transport} from "./types";

/**
 * Opens a file on disk for upload(). A Blob of fs.openAsBlob takes a third more time to send. You need not close the
 * file. Rejects if it does not exist, or is no regular file. If the file changes later, the upload rejects with
 * "file_unreadable".
 */
export declare function openFile(path: string | URL, options?: {type?: string; name?: string}): Promise<FileOnDisk>;

/** Only for upload.js. */
export declare const byNode: Transport["put"];
