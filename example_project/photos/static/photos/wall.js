/** The photo wall: it uploads files, and makes a photo of each upload. */
import {upload} from "s3direct-uploads";
import {explain, mayRetry, say as text} from "s3direct-uploads/texts.js";

const AT_ONCE = 3;
const PART_SIZE = 16 * 1024 ** 2; // the same as in the destination: only larger files are sent in parts
const {uploads: UPLOADS, photos: PHOTOS} = document.body.dataset;

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector) => document.querySelectorAll(selector);

// Talking to Django

/** Read each time, because a login in another tab changes it. */
const csrf = () => ({"X-CSRFToken": /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1] ?? ""});

async function ask(method, url, body) {
  const headers = {...csrf(), Accept: "application/json", "Content-Type": "application/json"};
  const response = await fetch(url, {method, headers, body: body && JSON.stringify(body)}).catch((cause) => {
    throw Object.assign(new Error("The server could not be reached.", {cause}), {code: "network_error"});
  });
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  const details = Object.values(answer ?? {}).flat().join(" ") || `The server answered ${response.status}.`;
  throw Object.assign(new Error(details), {status: response.status, body: answer});
}

/** What a person should know of an error. The console has the rest, for developers. */
function inWords(error, file = {name: "", size: 0}) {
  if (error.code === "cancelled") return "Cancelled.";
  console.warn(error);
  if (isSessionEnded(error)) return explain({code: "not_authenticated"}, {});
  if (!error.code && error.status) return error.message; // of the photo: it is made for people
  return explain(error, {filename: file.name, size: file.size}, "en");
}

/** Errors of the uploads have a code. Django's own 403, for the photos, has none. */
const isSessionEnded = ({code, status}) =>
  code === "not_authenticated" || code === "authentication_failed" || (!code && status === 403);

function complain(error) {
  $("#session-ended").hidden = !isSessionEnded(error);
  $("#notice").hidden = isSessionEnded(error);
  $("#notice").textContent = inWords(error);
}

function say(text) {
  $("#announcer").textContent = text;
}

// Words for numbers

function inBytes(count) {
  const power = Math.min(3, Math.floor(Math.log2(count || 1) / 10));
  const unit = ["byte", "kilobyte", "megabyte", "gigabyte"][power];
  const style = {style: "unit", unit, unitDisplay: count < 1024 ? "long" : "short", maximumFractionDigits: power > 1 ? 1 : 0};
  return new Intl.NumberFormat("en", style).format(count / 1024 ** power);
}

function inTime(seconds) {
  const [count, unit] = seconds < 90 ? [seconds, "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  const style = {style: "unit", unit, unitDisplay: "narrow"};
  return `${new Intl.NumberFormat("en", style).format(Math.max(1, Math.round(count)))} left`;
}

const SECONDS = {year: 31_557_600, month: 2_629_800, day: 86_400, hour: 3_600, minute: 60};

function ago(date) {
  const seconds = (Date.now() - new Date(date)) / 1000;
  const unit = Object.keys(SECONDS).find((unit) => seconds >= SECONDS[unit]);
  if (!unit) return "just now";
  const relative = new Intl.RelativeTimeFormat("en", {numeric: "auto"});
  return relative.format(-Math.floor(seconds / SECONDS[unit]), unit);
}

function tellTime(element, date) {
  element.dateTime = date;
  element.title = new Date(date).toLocaleString();
  element.textContent = ago(date);
}

setInterval(() => {
  for (const element of document.querySelectorAll("time")) element.textContent = ago(element.dateTime);
}, 30_000);

// Lists

function newItem(id) {
  return $(`#${id}-item`).content.firstElementChild.cloneNode(true);
}

/** A list in pages: the first page, and a button for older items. */
function pages(section, url, toItem) {
  const list = $("ul", section);
  const older = $(".older", section);
  let next = url;

  async function load(from) {
    try {
      const page = await ask("GET", from);
      const items = page.results.map(toItem);
      if (from === url) list.replaceChildren(...items);
      else list.append(...items);
      next = page.next;
      older.hidden = !next;
      $("#session-ended").hidden = true;
      showEmptiness();
    } catch (error) {
      complain(error);
    }
  }
  const showEmptiness = () => {
    $(".empty", section).hidden = list.children.length > 0;
  };
  older.addEventListener("click", () => load(next));
  return {list, showEmptiness, reload: () => load(url)};
}

const wall = pages($("#wall"), PHOTOS, photoItem);
const records = pages($("#uploads"), UPLOADS, uploadItem);

function uploadItem({filename, size, status, reason, created_at}) {
  const item = newItem("uploads");
  $(".filename", item).textContent = filename;
  $(".said", item).textContent = [inBytes(size), reason].filter(Boolean).join(" · ");
  tellTime($("time", item), created_at);
  $(".status", item).textContent = status;
  $(".status", item).classList.add(status);
  return item;
}

let reloading;
function reloadRecords() {
  clearTimeout(reloading); // so that thirty photos at once cause one request
  reloading = setTimeout(records.reload, 250);
}

function photoItem(photo) {
  const item = newItem("photo");
  const button = $("button", item);
  const image = $("img", item);
  $(".caption", item).textContent = photo.filename;
  image.alt = photo.filename;
  image.addEventListener("error", () => button.classList.add("blank")); // for example HEIC
  image.src = photo.image.url;
  button.addEventListener("click", () => view(item));
  item.photo = photo;
  return item;
}

// One photo, large

const viewer = $("#viewer");

function view(item) {
  const {image, filename, created_at} = item.photo;
  viewer.item = item;
  $("img", viewer).src = image.url;
  $("img", viewer).alt = filename;
  $("#viewer-title").textContent = filename;
  $(".quiet", viewer).textContent = `${inBytes(image.size)} · ${ago(created_at)}`;
  $(".previous", viewer).disabled = !item.previousElementSibling;
  $(".next", viewer).disabled = !item.nextElementSibling;
  beSure(false);
  if (!viewer.open) viewer.showModal();
}

function step(sibling) {
  if (viewer.item[sibling]) view(viewer.item[sibling]);
}

function beSure(sure) {
  $(".delete", viewer).classList.toggle("sure", sure);
  $(".delete", viewer).textContent = sure ? "Delete for good" : "Delete";
}

async function deletePhoto({target}) {
  if (!target.classList.contains("sure")) return beSure(true);
  const {item} = viewer;
  try {
    await ask("DELETE", `${PHOTOS}${item.photo.id}/`);
    item.remove();
    wall.showEmptiness();
    say(`${item.photo.filename} is deleted.`);
  } catch (error) {
    complain(error);
  }
  viewer.close();
}

$(".close", viewer).addEventListener("click", () => viewer.close());
$(".previous", viewer).addEventListener("click", () => step("previousElementSibling"));
$(".next", viewer).addEventListener("click", () => step("nextElementSibling"));
$(".delete", viewer).addEventListener("click", deletePhoto);
$(".delete", viewer).addEventListener("blur", () => beSure(false));
viewer.addEventListener("keydown", ({key}) => {
  if (key === "ArrowLeft") step("previousElementSibling");
  if (key === "ArrowRight") step("nextElementSibling");
});

// From file to photo

const waiting = [];
const running = new Set();

function add(files) {
  for (const file of files) {
    const item = underwayItem(file);
    for (const each of $$("#underway .interrupted")) {
      if (each.upload.filename === file.name && each.upload.size === file.size) each.remove();
    }
    $("#underway ul").append(item);
    enqueue(item);
  }
}

function underwayItem(file) {
  const item = newItem("underway");
  const image = $("img", item);
  $(".filename", item).textContent = file.name;
  $("progress", item).setAttribute("aria-label", `Progress of ${file.name}`);
  $(".actions", item).setAttribute("aria-label", file.name);
  $(".pause", item).addEventListener("click", () => pauseOrGoOn(item));
  $(".cancel", item).addEventListener("click", () => giveUp(item));
  $(".retry", item).addEventListener("click", () => enqueue(item));
  image.addEventListener("load", () => { image.hidden = false; });
  image.src = URL.createObjectURL(file);
  // With the same key, a retry continues the upload where it failed.
  return Object.assign(item, {file, key: crypto.randomUUID?.()});
}

function enqueue(item) {
  waiting.push(item);
  item.begun = null;
  item.paused = false;
  item.abort = new AbortController();
  tell(item, `Waiting · ${inBytes(item.file.size)}`, {loaded: 0});
  $(".retry", item).hidden = true;
  $(".pause", item).hidden = true;
  $(".pause", item).textContent = "Pause";
  $(".cancel", item).textContent = "Cancel";
  item.classList.remove("failed");
  workOn();
}

function showUnderway() {
  $("#underway").hidden = !$("#underway ul").children.length;
}

async function workOn() {
  showUnderway();
  if (running.size === AT_ONCE || !waiting.length) return;
  const item = waiting.shift();
  running.add(item);
  workOn();
  try {
    await put(item);
  } catch (error) {
    fail(item, item.abort.signal.aborted ? {code: "cancelled"} : error);
  }
  running.delete(item);
  reloadRecords();
  workOn();
}

/** Send the file to S3, then make a photo of the upload. */
async function put(item) {
  item.going = item.upload ?? upload(item.file, {
    endpoint: UPLOADS,
    destination: "photos",
    headers: csrf,
    idempotencyKey: item.key,
    signal: item.abort.signal,
    onProgress: (progress) => showProgress(item, progress),
  });
  item.upload = await item.going;
  $(".pause", item).hidden = true;
  $(".cancel", item).hidden = true;
  wall.list.prepend(photoItem(await ask("POST", PHOTOS, {image: item.upload.id})));
  wall.showEmptiness();
  say(`${item.file.name} is on the wall.`);
  discard(item);
}

function showProgress(item, {loaded, total, phase, bytesPerSecond, secondsLeft}) {
  if (phase === "send" && item.phase === "begin") reloadRecords();
  item.phase = phase;
  if (item.paused) return;
  const pace = loaded && secondsLeft !== null ? [`${inBytes(bytesPerSecond)}/s`, inTime(secondsLeft)] : [];
  const sizes = {loaded: inBytes(loaded), size: inBytes(total)};
  const words = {
    begin: "Preparing…",
    send: loaded < total ? [`${inBytes(loaded)} of ${inBytes(total)}`, ...pace].join(" · ") : "Sent, waiting for the storage…",
    waiting: text("offline", sizes),
    stalled: text("stalled", sizes),
    confirm: "Checking…",
    verifying: text("checking"),
  };
  $(".pause", item).hidden = !["send", "waiting", "stalled"].includes(phase) || loaded === total;
  tell(item, words[phase], {loaded, total});
}

function pauseOrGoOn(item) {
  item.paused = !item.paused;
  if (item.paused) item.going.pause();
  else item.going.resume();
  $(".pause", item).textContent = item.paused ? "Go on" : "Pause";
  $(".said", item).textContent = item.paused ? `Paused · ${inBytes($("progress", item).value)} of ${inBytes(item.file.size)}` : "Going on…";
}

function tell(item, text, {loaded, total}) {
  $(".said", item).textContent = text;
  $("progress", item).max = total || 1;
  $("progress", item).value = loaded;
}

function fail(item, error) {
  // The upload has ended, so a retry needs a new one.
  const settled = error.code === "cancelled" || error.code === "deadline_passed" || [410, 422].includes(error.status);
  if (settled) item.key = crypto.randomUUID?.();
  if (item.upload) wall.reload(); // the photo may be there, if only the answer was lost
  item.begun = item.upload ?? error.upload;
  item.classList.add("failed");
  $(".pause", item).hidden = true;
  const words = inWords(error, item.file);
  $(".said", item).textContent = words;
  $(".retry", item).hidden = !mayRetry(error);
  $(".cancel", item).hidden = false;
  $(".cancel", item).textContent = "Dismiss";
  if (isSessionEnded(error)) complain(error);
  say(`${item.file.name}: ${words}`);
}

function giveUp(item) {
  item.abort.abort();
  if (running.has(item)) return;
  // A failed upload is still pending in Django, or completed without a photo.
  if (item.begun) ask("DELETE", `${UPLOADS}${item.begun.id}/`).catch(() => {}).then(reloadRecords);
  if (waiting.includes(item)) waiting.splice(waiting.indexOf(item), 1);
  discard(item);
  workOn();
}

function discard(item) {
  URL.revokeObjectURL($("img", item).src);
  item.remove();
}

// Interrupted uploads of an earlier visit

async function offerInterrupted() {
  const {results} = await ask("GET", `${UPLOADS}?status=pending`);
  for (const each of results) if (each.size > PART_SIZE) $("#underway ul").append(interruptedItem(each));
  showUnderway();
}

function interruptedItem(interrupted) {
  const item = newItem("interrupted");
  $(".filename", item).textContent = interrupted.filename;
  $(".said", item).textContent = `Interrupted · ${inBytes(interrupted.size)}. Choose it again to go on.`;
  $(".actions", item).setAttribute("aria-label", interrupted.filename);
  $(".go-on", item).addEventListener("click", () => $("#files").click());
  $(".discard", item).addEventListener("click", async () => {
    await ask("DELETE", `${UPLOADS}${interrupted.id}/`).catch(complain);
    item.remove();
    showUnderway();
    reloadRecords();
  });
  return Object.assign(item, {upload: interrupted});
}

// How users add files

const hasFiles = ({dataTransfer}) => dataTransfer?.types.includes("Files");
const veil = $("#veil");

$("#files").addEventListener("change", ({target}) => {
  add(target.files);
  target.value = "";
});
addEventListener("paste", ({clipboardData}) => add(clipboardData.files));
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  veil.hidden = viewer.open;
});
addEventListener("dragleave", ({relatedTarget}) => {
  if (!relatedTarget) veil.hidden = true;
});
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  veil.hidden = true;
  add(event.dataTransfer.files);
});
addEventListener("beforeunload", (event) => {
  if (running.size) event.preventDefault();
});
$("#sign-out").addEventListener("submit", ({target}) => {
  target.elements.csrfmiddlewaretoken.value = csrf()["X-CSRFToken"];
});
addEventListener("focus", () => {
  if (!$("#session-ended").hidden) records.reload(); // perhaps the user has signed in again
});

wall.reload();
records.reload();
offerInterrupted().catch(complain);
