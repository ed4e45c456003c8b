// The page: shows what the streams tell. No framework and nothing from elsewhere; text is only ever set as text.
"use strict";

const byId = (id) => document.getElementById(id);
const views = ["pulls", "pull", "workers", "images", "disk", "events"];
const KEPT_EVENTS = 200;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}

function time(ms) {
  if (ms < 1000) return `${ms} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

function bar(label, value, max, className) {
  const progress = make("progress", className);
  progress.max = Math.max(max, 1);
  progress.value = value;
  progress.setAttribute("aria-label", label);
  return progress;
}

function empty(view, isEmpty) {
  const note = byId(`view-${view}`).querySelector(".empty");
  if (note) note.hidden = !isEmpty;
}

// The connection, as a person is told of it: one line.
const troubles = new Map();
function connection(stream, trouble) {
  if (trouble) troubles.set(stream, trouble); else troubles.delete(stream);
  const line = byId("connection");
  const text = troubles.size === 0 ? "live" : [...troubles.values()][0];
  if (line.textContent !== text) line.textContent = text;
  line.classList.toggle("bad", troubles.size > 0);
}

function follow(name, path, handlers) {
  const source = new EventSource(path);
  for (const [event, handler] of Object.entries(handlers)) {
    source.addEventListener(event, (message) => { connection(name); handler(JSON.parse(message.data)); });
  }
  source.addEventListener("trouble", (message) => connection(name, JSON.parse(message.data).message));
  source.addEventListener("open", () => connection(name));
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.OPEN) connection(name, "not connected; trying again");
  });
  return source;
}

// --- pulls

const running = (pull) => !["done", "failed", "cancelled"].includes(pull.state);
const known = new Map();

function done(pull) {
  if (pull.state === "done") return [1, 1];
  const { total, offset, unpacked } = pull.progress;
  return pull.unpacks ? [offset + unpacked, total * 2] : [offset, total];
}

function pullRow(pull) {
  const row = make("li");
  row.dataset.id = pull.id;
  const head = make("div", "row");
  const link = make("a", "name", pull.reference);
  link.href = `#pull/${encodeURIComponent(pull.id)}`;
  const [value, max] = done(pull);
  const share = max > 0 ? ` ${Math.floor((100 * value) / max)} %` : "";
  const state = make("span", pull.error ? "bad" : pull.state === "done" ? "good" : "", pull.state + (running(pull) ? share : ""));
  head.append(link, state, make("span", "soft push", time(pull.ageMs)));
  row.append(head);
  if (running(pull)) row.append(bar(`${pull.reference}: done`, value, max));
  const { blobs, blobsDone, total, fetched } = pull.progress;
  const words = pull.error ? pull.error.message : pull.verdict || `${blobsDone} of ${blobs} blobs, ${bytes(fetched)} of ${bytes(total)} fetched`;
  row.append(make("div", pull.error ? "soft bad" : "soft", words));
  return row;
}

function showPulls() {
  const list = byId("list-pulls");
  const focused = document.activeElement && document.activeElement.closest && document.activeElement.closest("li[data-id]");
  const pulls = [...known.values()].sort((a, b) => running(b) - running(a) || a.ageMs - b.ageMs);
  list.replaceChildren(...pulls.map(pullRow));
  if (focused) {
    const again = list.querySelector(`li[data-id="${CSS.escape(focused.dataset.id)}"] a`);
    if (again) again.focus();
  }
  empty("pulls", pulls.length === 0);
}

function takePulls(reply) {
  for (const pull of reply.pulls) known.set(pull.id, pull);
  showPulls();
}

// --- one pull

let open = null;

function itemRow(item, unpacks) {
  const row = make("li");
  const head = make("div", "row");
  head.append(
    make("span", "name", `${item.kind} ${item.digest.slice(0, 19)}`),
    make("span", item.stage === "done" || item.stage === "exists" ? "good" : "", item.stage),
    make("span", "soft push", bytes(item.size)),
  );
  row.append(head, bar(`${item.digest}: fetched`, Math.min(item.offset, item.size), item.size));
  if (item.kind === "layer" && unpacks) {
    row.append(bar(`${item.digest}: unpacked`, item.stage === "done" ? item.size : Math.min(item.unpacked, item.size), item.size, "unpack"));
  }
  return row;
}

const colours = { "fetch": "fetch", "unpack": "unpack", "fetch turn": "turn", "unpack turn": "turn", "commit": "commit", "resolve": "ask", "check": "ask" };

function waterfall(verdict) {
  const names = 150, width = 800, high = 18;
  const rows = [...new Set(verdict.steps.map((step) => step.subject))];
  const space = "http://www.w3.org/2000/svg";
  const draw = (tag, attributes, text) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const svg = draw("svg", { viewBox: `0 0 ${names + width + 10} ${rows.length * high + 10}`, role: "img", "aria-label": "What was done when, a row for each blob" });
  const total = Math.max(verdict.totalUs, 1);
  rows.forEach((subject, row) => {
    const y = 5 + row * high;
    svg.append(draw("text", { x: 6, y: y + 12 }, subject === "" ? "pull" : subject.slice(0, 19)));
    for (const step of verdict.steps.filter((one) => one.subject === subject)) {
      const x = names + (width * Math.min(step.beginUs, total)) / total;
      const end = names + (width * Math.min(step.endUs, total)) / total;
      const rect = draw("rect", { x, y, width: Math.max(end - x, 1), height: step.what === "unpack" ? high / 2 : high - 4, class: colours[step.what] || "record" });
      rect.append(draw("title", {}, `${step.what}: ${time(Math.round((step.endUs - step.beginUs) / 1000))}`));
      svg.append(rect);
    }
  });
  return svg;
}

function shares(verdict) {
  const table = make("table");
  const caption = make("caption", "soft", "Where the time went");
  const body = make("tbody");
  for (const share of verdict.path) {
    const row = make("tr");
    const what = make("th", "", share.what);
    what.scope = "row";
    row.append(what, make("td", "", time(Math.round(share.us / 1000))), make("td", "", `${Math.round((100 * share.us) / Math.max(verdict.totalUs, 1))} %`));
    body.append(row);
  }
  table.append(caption, body);
  return table;
}

function showPull(pull) {
  byId("title-pull").textContent = pull.reference;
  const failed = pull.error !== null;
  const state = byId("pull-state");
  const text = `${pull.phase}, ${failed ? pull.error.message : pull.target ? pull.target.digest : ""}`;
  if (state.textContent !== text) state.textContent = text;
  state.className = failed ? "bad" : "";
  byId("pull-verdict").textContent = pull.verdict ? pull.verdict.sentence : "";
  byId("list-items").replaceChildren(...pull.items.map((item) => itemRow(item, true)));
  byId("pull-waterfall").replaceChildren(...(pull.verdict && pull.verdict.steps.length ? [waterfall(pull.verdict)] : []));
  byId("pull-shares").replaceChildren(...(pull.verdict ? [shares(pull.verdict)] : []));
}

function openPull(id) {
  closePull();
  byId("title-pull").textContent = id;
  for (const part of ["list-items", "pull-waterfall", "pull-shares"]) byId(part).replaceChildren();
  const source = follow("pull", `/api/v1/pulls/${encodeURIComponent(id)}/stream`, {
    pull: (pull) => {
      showPull(pull);
      if (pull.phase === "done" || pull.phase === "failed") closePull();
    },
  });
  open = source;
}

function closePull() {
  if (open) { open.close(); connection("pull"); }
  open = null;
}

// --- images, disk, events

async function load(path) {
  const answer = await fetch(path);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error ? body.error.message : answer.statusText);
  return body;
}

async function showWorkers() {
  const { queues } = await load("/api/v1/queues");
  byId("list-workers").replaceChildren(...queues.map((queue) => {
    const row = make("li");
    const head = make("div", "row");
    head.append(make("span", "name", queue.kind), make("span", "soft push", `${queue.waiting} waiting, ${queue.running} running`));
    row.append(head);
    for (const worker of queue.workers) {
      row.append(make("div", "soft", `${worker.name}: ${worker.busy} of ${worker.places}`), bar(`${worker.name}: busy`, worker.busy, worker.places));
    }
    return row;
  }));
  empty("workers", queues.length === 0);
}

async function showImages() {
  const { images } = await load("/api/v1/images");
  byId("list-images").replaceChildren(...images.map((image) => {
    const row = make("li");
    const head = make("div", "row");
    head.append(make("span", "name", image.name), make("span", "soft push", image.namespace));
    row.append(head, make("div", "soft", `${image.digest} · ${image.updatedAt || ""}`));
    return row;
  }));
  empty("images", images.length === 0);
}

async function showDisk() {
  const disk = await load("/api/v1/disk");
  byId("list-disk").replaceChildren(...Object.entries(disk).map(([what, measure]) => {
    const row = make("tr");
    const name = make("th", "", what);
    name.scope = "row";
    row.append(name, make("td", "", measure.count), make("td", "", bytes(measure.size)), make("td", "", bytes(measure.disk)));
    return row;
  }));
}

function takeEvent(event) {
  const row = make("li");
  const facts = event.event || {};
  const head = make("div", "row");
  head.append(make("span", "name", event.topic), make("span", "soft push", event.at || ""));
  const what = facts.name || facts.reference || facts.digest || facts.key || facts.id || "";
  row.append(head, make("div", "soft", `${event.namespace} · ${what}${facts.verdict ? ` · ${facts.verdict}` : ""}`));
  const list = byId("list-events");
  list.prepend(row);
  while (list.children.length > KEPT_EVENTS) list.lastChild.remove();
  empty("events", false);
  if (event.topic.startsWith("/images/") && view() === "images") attempt(showImages);
}

// --- views

async function attempt(show) {
  try { await show(); connection("answer"); } catch (error) { connection("answer", String(error.message || error)); }
}

const view = () => location.hash.slice(1).split("/")[0] || "pulls";

function route() {
  const [wanted, id] = location.hash.slice(1).split("/");
  const name = views.includes(wanted) && (wanted !== "pull" || id) ? wanted : "pulls";
  for (const one of views) byId(`view-${one}`).hidden = one !== name;
  for (const link of document.querySelectorAll("nav a")) {
    const current = link.hash === `#${name === "pull" ? "pulls" : name}`;
    if (current) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (name === "pull") openPull(decodeURIComponent(id)); else closePull();
  if (name === "workers") attempt(showWorkers);
  if (name === "images") attempt(showImages);
  if (name === "disk") attempt(showDisk);
}

addEventListener("hashchange", () => { route(); byId("main").focus({ preventScroll: true }); });

attempt(async () => {
  const server = await load("/api/v1/server");
  byId("server").textContent = `berth ${server.version} · ${server.root}`;
});
attempt(async () => takePulls(await load("/api/v1/pulls")));
follow("pulls", "/api/v1/pulls/stream", { pulls: takePulls });
follow("events", "/api/v1/events/stream", { event: takeEvent });
empty("events", true);
setInterval(() => { if (view() === "workers" && !document.hidden) attempt(showWorkers); }, 2000);
route();
