// In Chromium: sends the chosen file by one of the clients, and tells how long that took and by how many requests.
import AwsS3 from "@uppy/aws-s3";
import Uppy from "@uppy/core";
import S3FileFieldClient from "django-s3-file-field";
import {upload} from "/static/s3direct_uploads/upload.js";
import {S3DirectUploads} from "/static/s3direct_uploads/uppy.js";

async function byUppy(file, uploader, options) {
  const uppy = new Uppy().use(uploader, options);
  uppy.addFile({name: file.name, type: file.type, data: file});
  const {failed} = await uppy.upload();
  if (failed.length) throw new Error(failed[0].error);
}

const clients = {
  ours: (file, {headers, parallel}) =>
    upload(file, {endpoint: "/api/uploads/", destination: "films", headers, parallel}),

  oursInUppy: (file, {headers, parallel}) =>
    byUppy(file, S3DirectUploads, {endpoint: "/api/uploads/", destination: "films", headers, parallel}),

  uppy(file, {partSize, parallel}) {
    const signRequest = async (request) => {
      const body = JSON.stringify({...request, type: file.type});
      const answer = await fetch("/uppy/", {method: "POST", body});
      return answer.json();
    };
    return byUppy(file, AwsS3, {signRequest, shouldUseMultipart: true, getChunkSize: () => partSize, limit: parallel});
  },

  s3ff: (file) => new S3FileFieldClient({baseUrl: `${location.origin}/s3ff/`}).uploadFile(file, "film"),
};

window.run = async (name, options) => {
  const [file] = document.querySelector("input").files;
  performance.setResourceTimingBufferSize(10_000);
  performance.clearResourceTimings();
  const start = performance.now();
  await clients[name](file, options);
  const seconds = (performance.now() - start) / 1_000;
  const entries = performance.getEntriesByType("resource");
  const toDjango = entries.filter((entry) => entry.name.startsWith(location.origin)).length;
  return {seconds, toDjango, toS3: entries.length - toDjango};
};
