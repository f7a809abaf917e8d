// A client whose types openapi-typescript made of docs/openapi.yaml. Uploads the file at PATH; prints the upload.
//   node client.js SITE AUTHORIZATION PATH
import {openAsBlob} from "node:fs";
import {basename} from "node:path";
import createClient from "openapi-fetch";
import type {components, paths} from "./schema.js";

type Schemas = components["schemas"];

const [site, authorization, path] = process.argv.slice(2) as [string, string, string];
const django = createClient<paths>({baseUrl: site, headers: {Authorization: authorization}});

/** Of every answer: all errors have one type. */
function answered<Data>({data, error}: {data?: Data; error?: Schemas["DirectUploadError"]}): Data {
  if (data) return data;
  throw new Error(error && `${error.code}: ${error.detail}`);
}

async function put(url: string, headers: Record<string, string>, body: Blob): Promise<void> {
  const {status} = await fetch(url, {method: "PUT", headers, body});
  if (status !== 200) throw new Error(`S3 answered ${status}.`);
}

async function upload(file: Blob, filename: string): Promise<Schemas["DirectUpload"]> {
  const body = {destination: "photos", filename, size: file.size, multipart: true};
  const {id, request, multipart} = answered(await django.POST("/api/uploads/", {body}));
  if (request) await put(request.url, request.headers, file);
  let at = 0;
  for (const {url, headers, size} of multipart?.parts ?? []) {
    await put(url, headers, file.slice(at, at + size));
    at += size;
  }
  return answered(await django.POST("/api/uploads/{id}/confirm/", {params: {path: {id}}}));
}

const refused = await django.POST("/api/uploads/", {body: {destination: "photos", filename: "a.png", size: -1}});
const {status, ...uploaded} = await upload(await openAsBlob(path), basename(path));
const isCompleted: boolean = status === "completed";
console.log(JSON.stringify({...uploaded, isCompleted, refused: refused.error?.errors.map(({code}) => code)}));
