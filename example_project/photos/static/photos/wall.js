/** The photo wall: it uploads files, and makes a photo of each upload. */
import {UploadController} from "s3direct-uploads";
import {uploadAll} from "s3direct-uploads/all.js";
import {explain, inBytes as bytesIn, inTime as timeIn, mayRetry, say as text} from "s3direct-uploads/texts.js";

const {gettext, interpolate} = window; // Django's JavaScript catalogue

const PART_SIZE = 16 * 1024 ** 2; // the same as in the destination: only larger files are sent in parts
const SMALL = 5 * 1024 ** 2; // bytes
const {uploads: UPLOADS, photos: PHOTOS} = document.body.dataset;

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector) => document.querySelectorAll(selector);
const LANGUAGE = document.documentElement.lang;
const inBytes = (count) => bytesIn(count, LANGUAGE);
const format = (text, values) => interpolate(text, values, true);

// Talking to Django

/** Read each time, because a login in another tab changes it. */
const csrf = () => ({"X-CSRFToken": /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1] ?? ""});

async function ask(method, url, body) {
  const headers = {...csrf(), Accept: "application/json", "Content-Type": "application/json"};
  const response = await fetch(url, {method, headers, body: body && JSON.stringify(body)}).catch((cause) => {
    throw Object.assign(new Error(gettext("The server could not be reached."), {cause}), {code: "network_error"});
  });
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  const details = Object.values(answer ?? {}).flat().join(" ") || format(gettext("The server answered %(status)s."), {status: response.status});
  throw Object.assign(new Error(details), {status: response.status, body: answer});
}

/** What a person should know of an error. The console has the rest, for developers. */
function inWords(error, file = {name: "", size: 0}) {
  if (error.code === "cancelled") return gettext("Cancelled.");
  console.warn(error);
  if (isSessionEnded(error)) return explain({code: "not_authenticated"}, {}, LANGUAGE);
  if (!error.code && error.status) return error.message; // of the photo: it is made for people
  return explain(error, {filename: file.name, size: file.size}, LANGUAGE);
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

// Words for times

const SECONDS = {year: 31_557_600, month: 2_629_800, day: 86_400, hour: 3_600, minute: 60};

function ago(date) {
  const seconds = (Date.now() - new Date(date)) / 1000;
  const unit = Object.keys(SECONDS).find((unit) => seconds >= SECONDS[unit]);
  if (!unit) return gettext("just now");
  const relative = new Intl.RelativeTimeFormat(LANGUAGE, {numeric: "auto"});
  return relative.format(-Math.floor(seconds / SECONDS[unit]), unit);
}

function tellTime(element, date) {
  element.dateTime = date;
  element.title = new Date(date).toLocaleString(LANGUAGE);
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

const STATUSES = {
  pending: gettext("pending"),
  verifying: gettext("verifying"),
  completed: gettext("completed"),
  rejected: gettext("rejected"),
  expired: gettext("expired"),
  cancelled: gettext("cancelled"),
  deleted: gettext("deleted"),
};

function uploadItem({filename, size, status, reason, created_at}) {
  const item = newItem("uploads");
  $(".filename", item).textContent = filename;
  $(".said", item).textContent = [inBytes(size), reason].filter(Boolean).join(" · ");
  tellTime($("time", item), created_at);
  $(".status", item).textContent = STATUSES[status] ?? status;
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
  button.setAttribute("aria-label", photo.filename); // the caption would be read twice, and an image may be blank
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
  $(".delete", viewer).textContent = sure ? gettext("Delete for good") : gettext("Delete");
}

async function deletePhoto({target}) {
  if (!target.classList.contains("sure")) return beSure(true);
  const {item} = viewer;
  try {
    await ask("DELETE", `${PHOTOS}${item.photo.id}/`);
    item.remove();
    wall.showEmptiness();
    say(format(gettext("%(filename)s is deleted."), item.photo));
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

/** Files that were added together, and those that are tried again. @type {Set<{items: Element[], going: object, told: object, isOver: boolean}>} */
const batches = new Set();
const overall = $("#overall");

function add(files) {
  const items = Array.from(files, underwayItem);
  for (const {file} of items) {
    for (const each of $$("#underway .interrupted")) {
      if (each.upload.filename === file.name && each.upload.size === file.size) each.remove();
    }
  }
  $("#underway ul").append(...items);
  send(items);
}

function underwayItem(file) {
  const item = newItem("underway");
  const image = $("img", item);
  $(".filename", item).textContent = file.name;
  $("progress", item).setAttribute("aria-label", format(gettext("Progress of %(filename)s"), {filename: file.name}));
  $(".actions", item).setAttribute("aria-label", file.name);
  $(".pause", item).addEventListener("click", () => pause(item, !item.paused));
  $(".cancel", item).addEventListener("click", () => giveUp(item));
  $(".retry", item).addEventListener("click", () => retry(item));
  image.addEventListener("load", () => { image.hidden = false; });
  image.src = URL.createObjectURL(file);
  return Object.assign(item, {file, key: crypto.randomUUID?.()});
}

/** Send the files to S3, and make a photo of each upload. */
async function send(items) {
  for (const item of items) wait(item);
  const ends = [];
  const batch = {items, isOver: false, told: {loaded: 0, total: 0, files: items.length, completed: 0}, cancel: new AbortController()};
  batches.add(batch);
  showUnderway();
  batch.going = uploadAll(items.map(({file}) => file), {
    endpoint: UPLOADS,
    destination: "photos",
    headers: csrf,
    signal: batch.cancel.signal,
    each: (_, index) => {
      const item = items[index];
      const onProgress = (progress) => showProgress(item, progress);
      // With the same key, a retry continues the upload where it failed. Without one, many small files begin by one request.
      item.hasKey = items.length === 1 || item.file.size > SMALL;
      return {signal: item.controller.signal, idempotencyKey: item.hasKey ? item.key : undefined, onProgress};
    },
    onProgress: (progress) => {
      batch.told = progress;
      showOverall();
    },
    onResult: (result, index) => void ends.push(end(items[index], result)),
  });
  if (isPaused()) batch.going.pause();
  await batch.going;
  await Promise.all(ends); // the photos are on the wall
  batch.isOver = true;
  showOverall();
}

function wait(item) {
  Object.assign(item, {begun: null, paused: false, state: "waiting", phase: "", controller: new UploadController()});
  tell(item, `${gettext("Waiting")} · ${inBytes(item.file.size)}`, {loaded: 0});
  offer(item, ["cancel"]);
  $(".pause", item).textContent = gettext("Pause");
  $(".cancel", item).textContent = gettext("Cancel");
  item.classList.remove("failed");
}

function retry(item) {
  if (!item.upload) {
    if (!item.hasKey) cancelBegun(item); // the retry begins another one
    return send([item]);
  }
  wait(item);
  end(item, {upload: item.upload}); // it is in S3 already, and only the photo is missing
}

async function end(item, {upload, error}) {
  if (item.state === "gone") return; // it was cancelled before it began
  item.state = "sending";
  try {
    if (error) throw error;
    item.upload = upload;
    offer(item, []);
    wall.list.prepend(photoItem(await ask("POST", PHOTOS, {image: upload.id})));
    wall.showEmptiness();
    say(format(gettext("%(filename)s is on the wall."), {filename: item.file.name}));
    discard(item);
  } catch (error) {
    fail(item, item.controller.signal.aborted ? {code: "cancelled"} : error);
  }
  reloadRecords();
}

function showUnderway() {
  $("#underway").hidden = !$("#underway ul").children.length;
}

/** One progress for all files that are under way. It is shown if there are several. */
function showOverall() {
  const sum = (name) => [...batches].reduce((all, {told}) => all + told[name], 0);
  const isOver = [...batches].every((batch) => batch.isOver);
  const [files, completed, loaded, total] = ["files", "completed", "loaded", "total"].map(sum);
  const share = total ? loaded / total : 0;
  const percent = new Intl.NumberFormat(LANGUAGE, {style: "percent"}).format(Math.floor(100 * share) / 100).replace("%", " %");
  const told = isPaused() ? gettext("%(completed)s of %(files)s photos, %(percent)s, paused") : gettext("%(completed)s of %(files)s photos, %(percent)s");
  $(".said", overall).textContent = format(told, {completed, files, percent});
  $("progress", overall).value = share;
  hide(overall, isOver || files < 2, $("#files"));
  if (!isOver) return;
  if (files > 1) say(format(gettext("%(completed)s of %(files)s photos were sent."), {completed, files}));
  batches.clear();
  showPause(false);
}

function showPause(paused) {
  overall.classList.toggle("paused", paused);
  $(".pause", overall).textContent = paused ? gettext("Go on with all") : gettext("Pause all");
}

function showProgress(item, {loaded, total, phase, bytesPerSecond, secondsLeft}) {
  if (item.state === "waiting") offer(item, ["pause", "cancel"]);
  item.state = "sending";
  if (phase === "send" && item.phase === "begin") reloadRecords();
  item.phase = phase;
  hide($(".pause", item), !["send", "waiting", "stalled"].includes(phase) || loaded === total, $(".cancel", item));
  if (item.paused) return;
  const sizes = {loaded: inBytes(loaded), size: inBytes(total)};
  const hasPace = loaded && secondsLeft !== null;
  const pace = hasPace ? {speed: inBytes(bytesPerSecond), time: timeIn(secondsLeft, LANGUAGE)} : {};
  const words = {
    begin: text("preparing"),
    send: text(loaded === total ? "confirming" : hasPace ? "sending_speed" : "sending", {...sizes, ...pace}),
    waiting: text("offline", sizes),
    stalled: text("stalled", sizes),
    confirm: text("confirming"),
    verifying: text("checking"),
  };
  tell(item, words[phase], {loaded, total});
}

function pause(item, paused) {
  item.paused = paused;
  if (paused) item.controller.pause();
  else item.controller.resume();
  $(".pause", item).textContent = paused ? gettext("Go on") : gettext("Pause");
  const sizes = {loaded: inBytes($("progress", item).value), size: inBytes(item.file.size)};
  $(".said", item).textContent = paused ? text("paused", sizes) : gettext("Going on…");
  showOverall();
}

const isPaused = () => overall.classList.contains("paused");

function pauseAll(paused) {
  showPause(paused);
  for (const {items, going} of batches) {
    if (paused) going.pause(); // also those that have not begun
    else going.resume();
    for (const item of items) if (item.state === "sending" && item.phase !== "confirm") pause(item, paused);
  }
  showOverall();
  say(paused ? gettext("All photos are paused.") : gettext("All photos go on."));
}

/** Photos that are on the wall already stay there. */
function cancelAll() {
  for (const {items, cancel} of batches) {
    cancel.abort();
    for (const item of items) if (["waiting", "sending"].includes(item.state)) giveUp(item);
  }
  say(gettext("All photos that were not sent yet are cancelled."));
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
  item.state = "failed";
  item.classList.add("failed");
  const words = inWords(error, item.file);
  $(".said", item).textContent = words;
  $(".cancel", item).textContent = gettext("Dismiss");
  offer(item, mayRetry(error) ? ["retry", "cancel"] : ["cancel"]);
  if (isSessionEnded(error)) complain(error);
  say(`${item.file.name}: ${words}`);
}

function giveUp(item) {
  const {state} = item;
  item.controller.abort();
  if (state === "sending") return; // end() shows it as cancelled
  cancelBegun(item);
  item.state = "gone";
  discard(item);
}

/** A failed upload is still pending in Django, or completed without a photo. */
function cancelBegun({begun}) {
  if (begun) ask("DELETE", `${UPLOADS}${begun.id}/`).catch(() => {}).then(reloadRecords);
}

function discard(item) {
  URL.revokeObjectURL($("img", item).src);
  const next = item.nextElementSibling ?? item.previousElementSibling;
  const had = item.contains(document.activeElement);
  item.remove();
  showUnderway();
  if (had) ((next && $("button:not([hidden])", next)) ?? $("#files")).focus();
}

/** Show these buttons of an item, and no others. */
function offer(item, names) {
  for (const name of names) $(`.${name}`, item).hidden = false;
  const first = names.length ? $(`.${names[0]}`, item) : $("#files");
  for (const name of ["retry", "pause", "cancel"]) if (!names.includes(name)) hide($(`.${name}`, item), true, first);
}

/** Hides an element. If it has the focus, the other one gets it. */
function hide(element, hidden, other) {
  const had = hidden && element.contains(document.activeElement);
  element.hidden = hidden;
  if (had) other.focus();
}

$(".pause", overall).addEventListener("click", () => pauseAll(!isPaused()));
$(".cancel", overall).addEventListener("click", cancelAll);

// Interrupted uploads of an earlier visit

async function offerInterrupted() {
  const {results} = await ask("GET", `${UPLOADS}?status=pending`);
  for (const each of results) if (each.size > PART_SIZE) $("#underway ul").append(interruptedItem(each));
  showUnderway();
}

function interruptedItem(interrupted) {
  const item = newItem("interrupted");
  $(".filename", item).textContent = interrupted.filename;
  $(".said", item).textContent = format(gettext("Interrupted · %(size)s. Choose it again to go on."), {size: inBytes(interrupted.size)});
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
  if (batches.size) event.preventDefault();
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
