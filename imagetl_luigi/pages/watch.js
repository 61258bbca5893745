"use strict";

/* Shows one frame at a time on a canvas, from its own file; while that loads, the frame's tile of the contact sheet.
   A column of the data is a list with a value for each frame, or the one value that all of them have. */

const data = JSON.parse(document.getElementById("data").textContent);
const sheet = data.sheet;
const element = (id) => document.getElementById(id);
const of = (column, frame) => (Array.isArray(column) ? column[frame] : column);
const clamp = (frame) => Math.max(0, Math.min(data.count - 1, frame));
const number = (value) => value.toLocaleString("en-GB");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* When each frame begins, in milliseconds; the last entry is the end. */
const begins = new Float64Array(data.count + 1);
for (let frame = 0; frame < data.count; frame++) begins[frame + 1] = begins[frame] + of(data.delay, frame);
const seconds = (frame) => (begins[frame] / 1000).toFixed(2) + " s";
const bytes = (frame) => of(data.bytes, frame);
const broken = new Set(data.broken);

const stage = element("stage");
const pen = stage.getContext("2d");
const LONGEST = 4096; // a canvas with longer sides than that is more than some browsers have
const scale = Math.min(1, LONGEST / Math.max(data.width, data.height));
stage.width = Math.max(1, Math.round(data.width * scale));
stage.height = Math.max(1, Math.round(data.height * scale));
stage.style.setProperty("--ratio", stage.width / stage.height);
if (Math.max(stage.width, stage.height) <= 128) stage.style.imageRendering = "pixelated";

const state = { frame: 0, playing: false, request: 0, due: 0, waiting: 0, times: 0 };

/* -- frame files: the last ones that were used are kept, and what nobody waits for any more is not loaded -- */

const KEPT = Math.max(2, Math.min(64, Math.floor(48e6 / (data.width * data.height))));
const AHEAD = Math.min(8, KEPT - 1, data.count - 1);
const files = new Map();

function file(frame) {
  const picture = files.get(frame) || load(frame);
  files.delete(frame); // and set again: the map is in the order of use
  files.set(frame, picture);
  if (files.size > KEPT) drop(files.keys().next().value);
  return picture;
}

function load(frame) {
  const picture = new Image();
  picture.src = of(data.link, frame);
  const end = (name) => {
    if (files.get(frame) !== picture) return; // dropped meanwhile
    picture[name] = true;
    if (frame === state.frame) draw();
  };
  picture.decode().then(() => end("ready"), () => end("failed"));
  return picture;
}

function drop(frame) {
  files.get(frame).removeAttribute("src"); // ends the request
  files.delete(frame);
}

const tiles = new Image();
tiles.onload = () => { draw(); drawStrip(); };
tiles.src = sheet.link;
const tilesReady = () => tiles.complete && tiles.naturalWidth > 0;
const place = (tile) => [(tile % sheet.columns) * sheet.width, Math.floor(tile / sheet.columns) * sheet.height];

/* -- the stage -- */

function show(frame) {
  state.frame = clamp(frame);
  const wanted = (other) => (other - state.frame + data.count) % data.count <= AHEAD;
  for (const [other, { ready, failed }] of files) if (!ready && !failed && !wanted(other)) drop(other);
  delete stage.dataset.frame;
  draw();
  describe();
  element("cursor").style.left = ((state.frame + 0.5) / data.count) * 100 + "%";
  followStrip();
}

function draw() {
  const frame = state.frame;
  const picture = file(frame);
  const tile = !picture.ready && tilesReady() && frame % sheet.every === 0;
  stage.toggleAttribute("data-other", !picture.ready && !tile);
  if (picture.ready) {
    const { naturalWidth: width, naturalHeight: height } = picture;
    const fit = Math.min(scale, stage.width / width, stage.height / height); // a JPEG may say that it is to be turned
    pen.clearRect(0, 0, stage.width, stage.height);
    pen.drawImage(picture, 0, 0, width * fit, height * fit);
    stage.dataset.frame = frame;
    for (let next = 1; next <= AHEAD; next++) file((frame + next) % data.count);
    file(frame); // was used last
  } else if (tile) {
    pen.drawImage(tiles, ...place(frame / sheet.every), sheet.width, sheet.height, 0, 0, stage.width, stage.height);
  }
  if (picture.failed) describe();
}

function remark(frame) {
  const same = of(data.same, frame);
  if (files.get(frame)?.failed) return "its file cannot be shown";
  if (broken.has(frame)) return "damaged";
  return same === null ? "" : `the same as frame ${number(same + 1)}`;
}

const title = (frame) => `Frame ${number(frame + 1)} of ${number(data.count)}`;
element("number").style.minWidth = 0.85 * title(data.count - 1).length + "ch"; // nothing jumps while it plays

function describe() {
  const frame = state.frame;
  element("number").textContent = title(frame);
  element("time").textContent = seconds(frame);
  element("file").textContent = of(data.name, frame);
  element("file").href = of(data.link, frame);
  element("about").textContent = `${number(bytes(frame))} bytes`;
  element("note").textContent = remark(frame);
  element("scrubber").value = frame + 1;
  const spoken = state.playing ? "playing" : [title(frame), seconds(frame), remark(frame)].filter(Boolean).join(", ");
  element("scrubber").setAttribute("aria-valuetext", spoken);
  stage.setAttribute("aria-label", spoken);
  for (const row of element("rows").children) row.classList.toggle("current", Number(row.dataset.frame) === frame);
}

/* -- playing: each frame stays for its own time, and until the next one is there -- */

const stay = (frame) => Math.max(of(data.delay, frame), 1) / Number(element("speed").value);

function play(on) {
  if (on === state.playing || data.count === 1) return;
  state.playing = on;
  element("play").setAttribute("aria-label", on ? "Pause" : "Play");
  element("symbol").setAttribute("d", on ? "M6.5 5h4v14h-4zM13.5 5h4v14h-4z" : "M7 4.5v15L19.5 12z");
  // a screen reader says what is stepped to, and not each frame while they are played
  for (const name of ["number", "note"]) element(name).setAttribute("aria-live", on ? "off" : "polite");
  if (!on) {
    cancelAnimationFrame(state.request);
    return describe();
  }
  show(state.frame === data.count - 1 ? 0 : state.frame);
  state.times = 0;
  state.due = performance.now() + stay(state.frame);
  state.request = requestAnimationFrame(tick);
}

function tick(now) {
  state.request = requestAnimationFrame(tick);
  let frame = state.frame;
  state.due = Math.max(state.due, now - 100); // what was missed while the page was hidden is not made up for
  while (state.due <= now) { // a screen shows fewer frames a second than may be asked for
    const last = frame === data.count - 1;
    const next = last ? 0 : frame + 1;
    const picture = file(next);
    const there = picture.ready || picture.failed;
    if (last && there && ++state.times === data.loop) { play(false); break; }
    if (!there) { state.due = now; break; }
    frame = next;
    state.due += stay(frame);
    if (frame === state.frame) break; // once around
  }
  if (frame !== state.frame) { state.waiting = 0; show(frame); }
  else if (state.due === now) {
    state.waiting ||= now;
    if (now - state.waiting > 1000) element("note").textContent = "waiting for the next frame";
  }
}

function seek(frame) {
  play(false);
  show(frame);
}

/* -- thumbnails: a canvas as wide as what is seen of the strip -- */

const strip = element("strip");
const thumbnails = element("thumbnails");
const GAP = 4;
const pitch = sheet.width + GAP;
const tileCount = Math.ceil(data.count / sheet.every);
element("track").style.width = tileCount * pitch + "px";

function fitted(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const ink = canvas.getContext("2d");
  ink.scale(ratio, ratio);
  return ink;
}

function repeats(first, end) {
  for (let frame = first; frame < Math.min(end, data.count); frame++) if (of(data.same, frame) !== null) return true;
  return false;
}

function drawStrip() {
  const width = Math.min(strip.clientWidth, tileCount * pitch);
  const height = sheet.height + 10;
  thumbnails.style.width = width + "px";
  thumbnails.style.height = height + "px";
  const ink = fitted(thumbnails, width, height);
  const left = strip.scrollLeft;
  const current = Math.floor(state.frame / sheet.every);
  for (let tile = Math.floor(left / pitch); tile < tileCount && tile * pitch < left + width; tile++) {
    const x = tile * pitch - left;
    if (tilesReady()) ink.drawImage(tiles, ...place(tile), sheet.width, sheet.height, x, 2, sheet.width, sheet.height);
    if (repeats(tile * sheet.every, (tile + 1) * sheet.every)) {
      ink.fillStyle = colour("--alarm");
      ink.fillRect(x, sheet.height + 3, sheet.width, 5);
    }
    if (tile === current) {
      for (const [name, wide] of [["--card", 10], ["--accent", 6]]) { // two colours, to be seen on any picture
        ink.strokeStyle = colour(name);
        ink.lineWidth = wide; // half of it is outside of the tile
        ink.strokeRect(x, 2, sheet.width, sheet.height);
      }
    }
  }
}

function followStrip() {
  const x = Math.floor(state.frame / sheet.every) * pitch;
  const seen = strip.clientWidth - pitch;
  if (x < strip.scrollLeft || x > strip.scrollLeft + seen) strip.scrollLeft = state.playing ? x : x - seen / 2;
  drawStrip();
}

thumbnails.addEventListener("click", (event) => {
  const x = event.clientX - thumbnails.getBoundingClientRect().left + strip.scrollLeft;
  seek(Math.floor(x / pitch) * sheet.every);
});
strip.addEventListener("scroll", drawStrip, { passive: true });

/* -- bytes of each frame; of frames that share a column of pixels, the most -- */

const chart = element("chart");
let most = 1;
for (let frame = 0; frame < data.count; frame++) most = Math.max(most, bytes(frame));

function drawChart() {
  const { width, height } = chart.getBoundingClientRect();
  if (!width) return;
  const ink = fitted(chart, width, height);
  const [head, high] = [18, height - 26]; // between them are the bars
  const columns = Math.min(data.count, Math.floor(width));
  const gap = width / columns > 4 ? 1 : 0;
  const [plain, alarm] = [colour("--accent"), colour("--alarm")];
  for (let column = 0; column < columns; column++) {
    const [first, end] = [0, 1].map((more) => Math.floor(((column + more) * data.count) / columns));
    let top = 0;
    for (let frame = first; frame < end; frame++) top = Math.max(top, bytes(frame));
    const [x, right] = [0, 1].map((more) => Math.round(((column + more) * width) / columns)); // or gaps would flicker
    const tall = Math.max(1, Math.round(((high - head) * top) / most));
    const same = repeats(first, end);
    ink.fillStyle = same ? alarm : plain;
    ink.fillRect(x, high - tall, right - x - gap, tall);
    if (same) ink.fillRect(x, high + 2, right - x, 4);
  }
  ink.fillStyle = colour("--dim");
  ink.fillRect(0, high, width, 1);
  ink.font = "12px system-ui, sans-serif";
  ink.fillText(`${number(most)} bytes`, 0, 12);
  ink.fillText(`frame 1, ${seconds(0)}`, 0, height - 4);
  ink.textAlign = "right";
  ink.fillText(`frame ${number(data.count)}, ${seconds(data.count - 1)}`, width, height - 4);
}

function seekChart(event) {
  const box = chart.getBoundingClientRect();
  seek(Math.floor(((event.clientX - box.left) / box.width) * data.count));
}
let grabbed = null; // where a drag began
chart.addEventListener("click", seekChart);
chart.addEventListener("pointerdown", (event) => { grabbed = event; chart.setPointerCapture(event.pointerId); });
chart.addEventListener("pointermove", (event) => { // up or down, a finger scrolls the page
  const [x, y] = [event.clientX - grabbed?.clientX, event.clientY - grabbed?.clientY].map(Math.abs);
  if (event.buttons === 1 && x > y) seekChart(event);
});

/* -- the list of all frames, some at a time -- */

const ROWS = 30;
let listed = 0;

function list(first) {
  listed = Math.max(0, Math.min(first, Math.floor((data.count - 1) / ROWS) * ROWS));
  const end = Math.min(data.count, listed + ROWS);
  const rows = [];
  for (let frame = listed; frame < end; frame++) rows.push(row(frame));
  element("rows").replaceChildren(...rows);
  element("range").textContent = `Frames ${number(listed + 1)} to ${number(end)} of ${number(data.count)}`;
  element("previous").disabled = listed === 0;
  element("next").disabled = end === data.count;
  describe();
}

function row(frame) {
  const line = document.createElement("tr");
  line.dataset.frame = frame;
  const shows = document.createElement("button");
  shows.type = "button";
  shows.textContent = number(frame + 1);
  shows.setAttribute("aria-label", `Show frame ${number(frame + 1)}`);
  shows.addEventListener("click", () => { seek(frame); stage.scrollIntoView({ block: "nearest" }); });
  const link = document.createElement("a");
  link.href = of(data.link, frame);
  link.textContent = of(data.name, frame);
  const about = [number(bytes(frame)), of(data.size, frame), of(data.format, frame).toUpperCase(), remark(frame)];
  for (const content of [shows, seconds(frame), link, ...about]) {
    const cell = document.createElement("td");
    cell.append(content);
    line.append(cell);
  }
  line.lastChild.className = "note";
  return line;
}

element("previous").addEventListener("click", () => list(listed - ROWS));
element("next").addEventListener("click", () => list(listed + ROWS));

/* -- buttons and keys -- */

element("play").addEventListener("click", () => play(!state.playing));
element("first").addEventListener("click", () => seek(0));
element("back").addEventListener("click", () => seek(state.frame - 1));
element("forward").addEventListener("click", () => seek(state.frame + 1));
element("last").addEventListener("click", () => seek(data.count - 1));
element("scrubber").addEventListener("input", (event) => seek(Number(event.target.value) - 1));
element("stage").addEventListener("click", () => play(!state.playing));

function faster(by) {
  const choice = element("speed");
  choice.selectedIndex = Math.max(0, Math.min(choice.length - 1, choice.selectedIndex + by));
  hurry();
}

function hurry() { // the frame that is shown need not stay as long as it would have before
  state.due = Math.min(state.due, performance.now() + stay(state.frame));
}
element("speed").addEventListener("change", hurry);

const EVERYWHERE = {
  " ": () => play(!state.playing),
  ArrowLeft: () => seek(state.frame - 1),
  ArrowRight: () => seek(state.frame + 1),
};
const IN_PLAYER = { // elsewhere these scroll the page
  Home: () => seek(0),
  End: () => seek(data.count - 1),
  PageUp: () => seek(state.frame - 10),
  PageDown: () => seek(state.frame + 10),
  ArrowUp: () => faster(1),
  ArrowDown: () => faster(-1),
};

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.defaultPrevented) return;
  if (target.matches("select") || (target.matches("input, .wide") && key !== " ")) return; // with keys of their own,
  if (target.matches("button, a") && key === " ") return; // and so have these
  const act = EVERYWHERE[key] || (target.closest("#player") && IN_PLAYER[key]);
  if (!act) return;
  event.preventDefault();
  if (!event.repeat || key !== " ") act();
});

/* -- begin -- */

const redraw = () => { drawStrip(); drawChart(); };
new ResizeObserver(redraw).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
const still = matchMedia("(prefers-reduced-motion: reduce)");
still.addEventListener("change", () => { if (still.matches) play(false); });
if (data.count === 1) for (const control of document.querySelectorAll(".controls *, #scrubber")) control.disabled = true;
list(0);
show(0);
if (!still.matches) play(true);
