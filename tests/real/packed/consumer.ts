// The npm package in Node.js: uploads the file at PATH in three ways, and prints the names of the uploads.
//   node consumer.js SITE AUTHORIZATION PATH
import {openAsBlob} from "node:fs";
import {upload, UploadController, UploadError, type Options, type Upload, type UploadFile} from "s3direct-uploads";
import {checksum} from "s3direct-uploads/checksum.js";
import {openFile} from "s3direct-uploads/node.js";

const [site, authorization, path] = process.argv.slice(2) as [string, string, string];
const options: Options = {
  endpoint: `${site}/api/uploads/`,
  destination: "photos",
  headers: () => ({Authorization: authorization}),
};

/** Without a controller, nobody could pause it: the promise of an async function has no pause(). */
async function uploadChecked(file: UploadFile, signal: AbortSignal): Promise<Upload> {
  return upload(file, {...options, checksum: await checksum("CRC32", file), signal});
}

const blob = await openAsBlob(path, {type: "image/png"});
const controller = new UploadController();
controller.pause();
const uploading = [
  uploadChecked(new File([blob], "file.png", {type: "image/png"}), controller.signal),
  uploadChecked(Object.assign(blob, {name: "blob.png"}), controller.signal),
  uploadChecked(await openFile(path, {type: "image/png", name: "disk.png"}), controller.signal),
];
const isPaused: boolean = controller.isPaused;
controller.resume();
const uploaded = await Promise.all(uploading);

let refused: string[] = [];
try {
  await upload(Object.assign(new Blob([]), {name: "page.html"}), {...options, destination: "nowhere"});
} catch (error) {
  if (!(error instanceof UploadError) || !error.body || typeof error.body === "string") throw error;
  refused = error.body.errors.map(({field, code}) => `${field}: ${code}`);
}

/** A switch over the statuses needs a default, because a newer server may have others. */
function isOver({status}: Upload): boolean {
  switch (status) {
    case "completed":
    case "rejected":
      return true;
    default:
      return false;
  }
}

console.log(JSON.stringify({names: uploaded.filter(isOver).map(({filename}) => filename), isPaused, refused}));
