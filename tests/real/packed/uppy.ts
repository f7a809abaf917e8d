// The plugin in Uppy 5 and 6, which the project has installed by these names.
import {S3DirectUploads, type UppyOptions} from "s3direct-uploads/uppy.js";
import Uppy5 from "uppy-5";
import Uppy6 from "uppy-6";

const options: UppyOptions = {
  endpoint: "/api/uploads/",
  destination: "photos",
  context: (file) => ({name: file.name}),
  limit: 2,
};
export const older = new Uppy5().use(S3DirectUploads, options);
export const newer = new Uppy6<{album: number}, {id: string}>().use(S3DirectUploads, options);
newer.on("upload-success", (_, {body}) => body?.id.toUpperCase());
