/** What an <s3-upload> says: each error in a person's words, and whose words win. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {readFileSync} from "node:fs";
import {test} from "node:test";
import {KOREAN} from "../../s3direct_uploads/static/s3direct_uploads/korean.js";
import {explain, inBytes, inTime, kindsOf, languages, mayRetry, say, texts} from "../../s3direct_uploads/static/s3direct_uploads/texts.js";

const MIB = 1024 ** 2;
const PDF = {filename: "offer.pdf", size: 3 * MIB};
const invalid = (field, code, params = {}, detail = "No.") => ({
  code: "invalid",
  status: 400,
  step: "begin",
  body: {errors: [{field, code, params, detail}]},
});
const notAllowed = (...content_types) => invalid("content_type", "not_allowed", {content_types});

for (const [error, said] of [
  [notAllowed("image/jpeg", "image/png"), "PDF files cannot be added. Choose a JPG or PNG photo."],
  [notAllowed("image/*"), "PDF files cannot be added. Choose a photo."],
  [notAllowed("video/mp4", "video/quicktime"), "PDF files cannot be added. Choose a film: MP4 or MOV."],
  [notAllowed("audio/*"), "PDF files cannot be added. Choose a recording."],
  [notAllowed("text/csv", "application/zip"), "PDF files cannot be added. Choose a file: CSV or ZIP."],
  [notAllowed("image/*", "video/*"), "PDF files cannot be added. Choose another file."],
  [invalid("size", "too_large", {max_size: 2 * MIB}), "This file is too large: 3 MB. The most is 2 MB."],
  [invalid("size", "too_small", {min_size: 4 * MIB}), "This file is too small: 3 MB. The least is 4 MB."],
  [
    invalid("size", "too_large", {max_size: 3 * MIB - 1}),
    "This file is too large: 3,145,728 bytes. The most is 3,145,727 bytes.",
  ],
  [invalid("filename", "path"), "The name of this file cannot be used. Rename the file, and choose it again."],
  [invalid("context", "no_album", {}, "Which album?"), "This file cannot be added. Which album?"],
  [
    {code: "quota_exceeded", status: 403, body: {errors: [{params: {left: 2048}}]}},
    "There is no room for this file: 2 kB are left. Delete other files first.",
  ],
  [{code: "too_many_pending", status: 429}, "Too many files are being sent. Try again in a moment."],
  [{code: "not_authenticated", status: 403}, "You are signed out. Sign in again in another tab, then try again here."],
  [{code: "permission_denied", status: 403, step: "begin"}, "You may not add this file here."],
  [{code: "unexpected_answer", status: 403, step: "begin"}, "You may not add this file here."],
  [{code: "AccessDenied", status: 403, step: "send"}, "This file could not be added. Try again."],
  [{code: "bucket_unavailable", status: 503}, "The storage does not answer now. Try again in a moment."],
  [{code: "misconfigured", status: 503}, "Files cannot be added here now. Tell the people who run this site."],
  [{code: "not_supported", status: 0}, "Files cannot be added here now. Tell the people who run this site."],
  [{code: "network_error", status: 0}, "There is no connection. Check your network, then try again. If that does not help, tell the people who run this site."],
  [{code: "file_unreadable"}, "This file was changed, moved or deleted. Choose it again. A folder cannot be added."],
  [{code: "object_mismatch", status: 422, upload: {reason: "It has a virus."}}, "This file was refused. It has a virus."],
  [{code: "rejected", upload: {reason: ""}}, "This file was refused."],
  [{code: "deadline_passed", status: 0}, "This took too long, or it was cancelled elsewhere. Try again."],
  [{code: "not_pending", status: 410}, "This took too long, or it was cancelled elsewhere. Try again."],
  [new TypeError("a mistake of ours"), "A part of this page is missing. Reload the page, then choose the file again."],
]) {
  test(said, () => assert.equal(explain(error, PDF, "en"), said));
}

test("a file without an extension is of an unknown kind", () => {
  assert.equal(explain(notAllowed("image/*"), {filename: "offer", size: 1}, "en"), "This kind of file cannot be added. Choose a photo.");
});

test("every code that Django or upload.js may give has words of its own", () => {
  const schema = readFileSync(new URL("../../docs/openapi.yaml", import.meta.url), "utf8");
  const codes = new Set([...schema.matchAll(/^ +code: ([a-z0-9_]+)$/gm)].map(([, code]) => code));
  const ofDeclarations = ["out_of_range", "multipart_required", "not_for_multipart", "not_inline", "invalid_choice", "too_large"];
  const ofCallsThatItNeverMakes = ["parse_error", "unsupported_media_type", "request_too_large", "not_multipart",
    "not_completed", "idempotency_key_reused", "missing", "wrong_size", "replaced", "object_missing", "parts_incomplete", "not_in_batch", "max_length"];
  for (const code of [...ofDeclarations, ...ofCallsThatItNeverMakes, "invalid"]) codes.delete(code);
  assert.ok(codes.size > 8, [...codes].join());
  const unknown = explain({code: "never heard of"}, PDF);
  for (const code of codes) assert.notEqual(explain({code}, PDF), unknown, code);
});

test("what the same file cannot do better another time is not tried again", () => {
  const never = [notAllowed(), {code: "file_unreadable"}, {code: "object_mismatch"}, {code: "rejected"}, {code: "module_not_loaded"}, {code: "not_supported"}];
  for (const error of never) assert.equal(mayRetry(error), false);
  for (const code of ["network_error", "bucket_unavailable", "not_pending", "quota_exceeded"]) assert.equal(mayRetry({code}), true);
});

test("a host's own text comes before Django's catalogue, and that before English", () => {
  assert.equal(say("cancel"), "Cancel");
  globalThis.gettext = (text) => (text === "Cancel" ? "Abbrechen" : text);
  try {
    assert.equal(say("cancel"), "Abbrechen");
    assert.equal(say("pause"), "Pause");
    texts.cancel = "Nicht senden";
    assert.equal(say("cancel"), "Nicht senden");
    texts.said_added = "%(filename)s: %(missing)s!";
    assert.equal(say("said_added", {filename: "$& %(size)s"}), "$& %(size)s: !");
  } finally {
    delete globalThis.gettext;
    delete texts.cancel;
    delete texts.said_added;
  }
});

test("Korean has every text, with the same parameters", () => {
  const source = readFileSync(new URL("../../s3direct_uploads/static/s3direct_uploads/texts.js", import.meta.url), "utf8");
  const english = Object.fromEntries([...source.matchAll(/^  (\w+): gettext\("(.*)"\),$/gm)].map(([, name, text]) => [name, text]));
  const parameters = (text) => [...text.matchAll(/%\((\w+)\)s/g)].map(([, name]) => name).sort();
  assert.deepEqual(Object.keys(KOREAN), Object.keys(english));
  for (const [name, text] of Object.entries(KOREAN)) {
    assert.deepEqual(parameters(text), parameters(english[name]), name);
    if (parameters(text).length < 2) assert.match(text, /[가-힣]/, name);
    assert.doesNotMatch(text, /%\(\w+\)s(을|를|은|는|이|가|과|와|로|으로)(?![가-힣])/, `${name}: a particle follows a parameter`);
  }
});

test("texts are in the language that is named, or in that of the page; otherwise in English", () => {
  assert.equal(say("cancel", {}, "ko"), "취소");
  assert.equal(say("cancel", {}, "ko-KR"), "취소");
  assert.equal(say("cancel", {}, "fr"), "Cancel");
  globalThis.document = {documentElement: {lang: "ko"}};
  try {
    assert.equal(say("cancel"), "취소");
    assert.equal(say("cancel", {}, "en"), "Cancel");
    globalThis.gettext = (text) => (text === "Cancel" ? "그만" : text);
    assert.deepEqual([say("cancel"), say("pause")], ["그만", "일시정지"]);
  } finally {
    delete globalThis.document;
    delete globalThis.gettext;
  }
});

test("a host adds a language, and what it leaves out is in English", () => {
  languages["pt-br"] = {cancel: "Cancelar"};
  try {
    assert.deepEqual([say("cancel", {}, "pt-BR"), say("pause", {}, "pt-BR"), say("cancel", {}, "pt")], ["Cancelar", "Pause", "Cancel"]);
  } finally {
    delete languages["pt-br"];
  }
});

test("an error in Korean has no English in it", () => {
  assert.equal(explain(notAllowed("image/jpeg", "image/png"), PDF, "ko"), "PDF 파일은 추가할 수 없습니다. JPG 또는 PNG 사진을 선택하십시오.");
  assert.equal(
    explain({code: "invalid", body: {errors: [{field: "size", code: "too_large", params: {max_size: MIB}}]}}, {filename: "a.png", size: 2 * MIB}, "ko"),
    "파일이 너무 큽니다: 2MB. 최대 크기는 1MB입니다.",
  );
});

test("a size is told as the server tells it", () => {
  const told = JSON.parse(readFileSync(new URL("sizes.json", import.meta.url), "utf8"));
  for (const [size, english, korean] of told) {
    assert.deepEqual([inBytes(size, "en"), inBytes(size, "ko")], [english, korean]);
  }
});

test("numbers are told in the page's language", () => {
  assert.equal(inBytes(1.5 * MIB, "de"), "1,5 MB");
  assert.deepEqual([0.2, 40, 90, 7200].map((seconds) => inTime(seconds, "en")), ["1 second", "40 seconds", "2 minutes", "2 hours"]);
});

test("kinds of files have the names that people know", () => {
  assert.equal(kindsOf(["image/jpeg", "image/svg+xml", "application/x-tar"], "en"), "JPG, SVG, or TAR");
  assert.equal(kindsOf(["image/*", "application/pdf"], "en"), "Photos or PDF");
  assert.equal(kindsOf([], "en"), "");
});
