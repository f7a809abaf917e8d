/** A page that sends what is chosen, and says how each file ended. `?by=token` logs in by a token. */
import {uploadAll} from "s3direct-uploads/all.js";
import {options as bySession} from "./by-session.js";
import {options as byToken} from "./by-token.js";

const $ = (selector) => document.querySelector(selector);
const query = new URLSearchParams(location.search);
const login = query.get("by") === "token" ? byToken : bySession;

$("#photos").addEventListener("change", async ({target}) => {
  const controller = new AbortController();
  $("button").onclick = () => controller.abort();
  const sending = uploadAll(target.files, {
    ...login,
    checksum: query.get("checksum") ?? undefined,
    signal: controller.signal,
    onProgress: ({loaded, total}) => ($("progress").value = loaded / total),
    onResult({file, upload, error}) {
      const said = document.createElement("li");
      said.textContent = `${file.name}: ${upload?.status ?? error.message}`;
      $("ul").append(said);
    },
  });
  target.value = ""; // so that the same file can be chosen again
  await sending;
});
