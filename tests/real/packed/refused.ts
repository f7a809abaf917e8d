// What TypeScript must refuse, and why.
import {upload, UploadError, type Upload} from "s3direct-uploads";

declare const file: File;
declare const done: Upload;
declare const failed: UploadError;
const options = {endpoint: "/api/uploads/", destination: "photos"};

upload(file, {endpoint: "/api/uploads/"}); // 'destination' is missing
upload(new Blob([]), options); // is not assignable to parameter of type 'UploadFile'
upload(file, {...options, checksum: "MD5"}); // '"MD5"' is not assignable
const number: number = done.status; // is not assignable to type 'number'
failed.body?.errors; // Property 'errors' does not exist on type 'string'
