/** What an <s3-upload> knows of its files: what may happen to them, and when the form may be submitted. */
import "./browser_of_2021.mjs";
import assert from "node:assert/strict";
import {test} from "node:test";
import {news, nextToSend, obstacle, reduce, room} from "../../s3direct_uploads/static/s3direct_uploads/files.js";

const file = (key, size = 10) => ({key, filename: `${key}.jpg`, size});
const choose = (...keys) => ({type: "choose", multiple: true, files: keys.map((key) => file(key))});
const after = (...events) => events.reduce(reduce, []);
const phases = (items) => items.map(({key, phase}) => `${key} ${phase}`);
const progress = (key, phase, loaded = 5) => ({type: "progress", key, phase, loaded, bytesPerSecond: 2, secondsLeft: 3});
const complete = (key) => ({type: "complete", key, value: `${key}:mac`, id: key});

test("one file: chosen, sent, confirmed, done", () => {
  let items = after(choose("a"));
  assert.deepEqual(phases(items), ["a waiting"]);
  assert.equal(items[0].value, "");
  for (const [event, phase] of [
    [{type: "start", key: "a"}, "sending"],
    [progress("a", "begin", 0), "sending"],
    [progress("a", "send"), "sending"],
    [progress("a", "confirm", 10), "confirming"],
    [progress("a", "verifying", 10), "checking"],
    [complete("a"), "done"],
  ]) {
    assert.ok(obstacle(items), "until it is done the form waits");
    items = reduce(items, event);
    assert.deepEqual(phases(items), [`a ${phase}`]);
  }
  assert.deepEqual([items[0].value, items[0].loaded], ["a:mac", 10]);
  assert.equal(obstacle(items), null);
});

test("another file takes the place of the only one", () => {
  const one = {type: "choose", multiple: false, files: [file("a")]};
  const items = after(one, {type: "start", key: "a"}, {...one, files: [file("b"), file("c")]});
  assert.deepEqual(phases(items), ["c waiting"]);
});

test("at most three are sent at once, and a paused one keeps its place", () => {
  let items = after(choose("a", "b", "c", "d", "e"));
  assert.deepEqual(nextToSend(items).map(({key}) => key), ["a", "b", "c"]);
  for (const key of ["a", "b", "c"]) items = reduce(items, {type: "start", key});
  assert.deepEqual(nextToSend(items), []);
  items = reduce(items, {type: "pause", key: "a"});
  assert.deepEqual(nextToSend(items), []);
  items = [complete("b"), {type: "fail", key: "c", error: {code: "network_error"}, id: ""}].reduce(reduce, items);
  assert.deepEqual(nextToSend(items).map(({key}) => key), ["d", "e"]);
});

test("what a scan holds keeps no other file waiting", () => {
  let items = after(choose("a", "b", "c", "d"));
  for (const key of ["a", "b", "c"]) items = reduce(reduce(items, {type: "start", key}), progress(key, "verifying"));
  assert.deepEqual(nextToSend(items).map(({key}) => key), ["d"]);
});

test("an upload that was confirmed, and that a scan holds, is known by its id", () => {
  const [held] = after(choose("a"), {type: "start", key: "a"}, {type: "hold", key: "a", id: "u1"});
  assert.deepEqual([held.phase, held.id, held.loaded, held.value], ["checking", "u1", 10, ""]);
  assert.ok(obstacle([held]));
});

test("what was under way when it was paused does not resume it", () => {
  const paused = after(choose("a"), {type: "start", key: "a"}, {type: "pause", key: "a"}, progress("a", "send"));
  assert.deepEqual([paused[0].phase, paused[0].loaded], ["paused", 5]);
  assert.deepEqual(phases(reduce(paused, progress("a", "confirm"))), ["a confirming"]);
  assert.deepEqual(phases(reduce(paused, {type: "resume", key: "a"})), ["a sending"]);
});

test("while there is no connection, or nothing moves, a file stays where it is, and says so", () => {
  const sending = after(choose("a"), {type: "start", key: "a"}, progress("a", "send"));
  const [offline] = reduce(sending, progress("a", "waiting"));
  assert.deepEqual([offline.phase, offline.trouble], ["sending", "offline"]);
  const [stalled] = reduce([offline], progress("a", "stalled"));
  assert.deepEqual([stalled.phase, stalled.trouble], ["sending", "stalled"]);
  const [confirming] = reduce([stalled], progress("a", "confirm"));
  assert.deepEqual([confirming.phase, confirming.trouble], ["confirming", ""]);
  assert.deepEqual(phases(reduce([confirming], progress("a", "waiting"))), ["a confirming"]);
  assert.deepEqual(reduce([offline], {type: "pause", key: "a"})[0].trouble, "");
  for (const event of [complete("a"), {type: "fail", key: "a", error: {}, id: ""}, {type: "hold", key: "a", id: "a"}]) {
    assert.equal(reduce([offline], event)[0].trouble, "");
  }
});

test("what comes too late changes nothing", () => {
  const done = after(choose("a"), {type: "start", key: "a"}, complete("a"));
  for (const event of [
    progress("a", "send"),
    {type: "fail", key: "a", error: {}, id: ""},
    ...["start", "pause", "resume", "retry"].map((type) => ({type, key: "a"})),
  ]) {
    assert.deepEqual(reduce(done, event), done);
  }
  const gone = reduce(done, {type: "remove", key: "a"});
  assert.deepEqual(gone, []);
  assert.deepEqual(reduce(gone, complete("a")), []);
  const waiting = after(choose("a"));
  assert.deepEqual(reduce(waiting, complete("a")), waiting, "it was never sent");
});

test("a failed file is tried again from its beginning", () => {
  const error = {code: "network_error"};
  const failed = after(choose("a"), {type: "start", key: "a"}, progress("a", "send"), {type: "fail", key: "a", error, id: "u1"});
  assert.deepEqual([failed[0].phase, failed[0].error, failed[0].id], ["failed", error, "u1"]);
  assert.equal(obstacle(failed).key, "a");
  const [again] = reduce(failed, {type: "retry", key: "a"});
  assert.deepEqual([again.phase, again.error, again.loaded, again.filename], ["waiting", null, 0, "a.jpg"]);
});

test("a failed file is told of before one that is only not ready", () => {
  const items = after(choose("a", "b"), {type: "fail", key: "b", error: {}, id: ""});
  assert.equal(obstacle(items).key, "b");
});

test("what came with the page is ready, or being checked", () => {
  const restore = (key, status) => ({type: "restore", file: {...file(key), value: `${key}:mac`, id: key, status}});
  const items = after(restore("a", "completed"), restore("b", "verifying"));
  assert.deepEqual(phases(items), ["a done", "b checking"]);
  assert.deepEqual(items.map(({value}) => value), ["a:mac", "b:mac"]);
  assert.equal(obstacle(items).key, "b");
  assert.equal(obstacle(reduce(items, complete("b"))), null);
});

test("how many more may be chosen", () => {
  const items = after(choose("a", "b"));
  assert.equal(room(items, {multiple: true, maxFiles: 5}), 3);
  assert.equal(room(items, {multiple: true, maxFiles: 1}), 0);
  assert.equal(room(items, {multiple: false, maxFiles: Infinity}), 1);
});

test("what a person should hear of: each change once, and no progress", () => {
  const told = (...events) => {
    const before = after(...events.slice(0, -1));
    return news(before, reduce(before, events[events.length - 1])).map(({item, what}) => `${item.key} ${what}`);
  };
  const started = [choose("a"), {type: "start", key: "a"}];
  assert.deepEqual(told(choose("a", "b")), ["a added", "b added"]);
  assert.deepEqual(told(...started), []);
  assert.deepEqual(told(...started, progress("a", "send")), []);
  assert.deepEqual(told(...started, {type: "pause", key: "a"}), ["a paused"]);
  assert.deepEqual(told(...started, progress("a", "waiting")), ["a offline"]);
  assert.deepEqual(told(...started, progress("a", "waiting"), progress("a", "waiting")), []);
  assert.deepEqual(told(...started, progress("a", "stalled")), []);
  assert.deepEqual(told(...started, progress("a", "verifying")), ["a checking"]);
  assert.deepEqual(told(...started, progress("a", "verifying"), progress("a", "verifying")), []);
  assert.deepEqual(told(...started, complete("a")), ["a done"]);
  assert.deepEqual(told(...started, {type: "fail", key: "a", error: {}, id: ""}), ["a failed"]);
  assert.deepEqual(told(...started, {type: "remove", key: "a"}), ["a removed"]);
  assert.deepEqual(told(...started, {type: "choose", multiple: false, files: [file("b")]}), ["a removed", "b added"]);
});
