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
const broken = new Set(data.broken);

const stage = element("stage");
const pen = stage.getContext("2d");
const LONGEST = 4096; // a canvas with longer sides than that is more than some browsers have
const scale = Math.min(1, LONGEST / Math.max(data.width, data.height));
stage.width = Math.max(1, Math.round(data.width * scale));
stage.height = Math.max(1, Math.round(data.height * scale));
const enlarged = Math.floor(480 / stage.width);
if (enlarged > 1) { // each pixel of a tiny frame is a square
  stage.style.width = stage.width * enlarged + "px";
  stage.style.imageRendering = "pixelated";
}

const state = { frame: 0, playing: false, due: 0, times: 0 };

/* -- frame files, of which those near the current one are kept -- */

const KEPT = Math.max(8, Math.min(64, Math.floor(48e6 / (data.width * data.height))));
const files = new Map();

function file(frame) {
  let picture = files.get(frame);
  files.delete(frame); // and set again: the map is in the order of use
  if (!picture) {
    picture = new Image();
    picture.src = of(data.link, frame);
    picture.ready = false;
    picture.decode().then(() => { picture.ready = true; loaded(frame); }, () => { picture.failed = true; loaded(frame); });
  }
  files.set(frame, picture);
  for (const oldest of files.keys()) {
    if (files.size <= KEPT) break;
    files.delete(oldest);
  }
  return picture;
}

function loaded(frame) {
  if (frame === state.frame) draw();
}

const tiles = new Image();
tiles.onload = () => { draw(); drawStrip(); };
tiles.src = sheet.link;
const tilesReady = () => tiles.complete && tiles.naturalWidth > 0;
const place = (tile) => [(tile % sheet.columns) * sheet.width, Math.floor(tile / sheet.columns) * sheet.height];

/* -- the stage -- */

function show(frame) {
  state.frame = clamp(frame);
  stage.removeAttribute("data-frame");
  draw();
  describe();
  drawChart();
  followStrip();
  for (let next = 1; next <= 4; next++) file((state.frame + next) % data.count);
  file(state.frame);
}

function draw() {
  const frame = state.frame;
  const picture = file(frame);
  if (picture.ready) {
    clear();
    pen.drawImage(picture, 0, 0, picture.naturalWidth * scale, picture.naturalHeight * scale);
    stage.dataset.frame = frame;
  } else if (tilesReady() && frame % sheet.every === 0) {
    clear();
    const [x, y] = place(frame / sheet.every);
    pen.drawImage(tiles, x, y, sheet.width, sheet.height, 0, 0, stage.width, stage.height);
  }
  if (picture.failed) describe();
}

function clear() {
  pen.clearRect(0, 0, stage.width, stage.height);
}

function remark(frame) {
  const same = of(data.same, frame);
  const failed = files.get(frame)?.failed;
  if (broken.has(frame) || failed) return failed ? "its file cannot be shown" : "damaged";
  return same === null ? "" : `the same as frame ${number(same + 1)}`;
}

function describe() {
  const frame = state.frame;
  const name = `Frame ${number(frame + 1)} of ${number(data.count)}`;
  element("number").textContent = name;
  element("time").textContent = seconds(frame);
  element("file").textContent = of(data.name, frame);
  element("file").href = of(data.link, frame);
  element("about").textContent = `${number(of(data.bytes, frame))} bytes`;
  element("note").textContent = remark(frame);
  element("scrubber").value = frame + 1;
  element("scrubber").setAttribute("aria-valuetext", `${name}, ${seconds(frame)}`);
  stage.setAttribute("aria-label", [name, seconds(frame), remark(frame)].filter(Boolean).join(", "));
  for (const row of element("rows").children) row.classList.toggle("current", Number(row.dataset.frame) === frame);
}

/* -- playing: each frame stays for its own time, and until the next one is there -- */

const speed = () => Number(element("speed").value);

function play(on) {
  if (on === state.playing) return;
  state.playing = on;
  element("play").setAttribute("aria-label", on ? "Pause" : "Play");
  element("symbol").setAttribute("d", on ? "M6.5 5h4v14h-4zM13.5 5h4v14h-4z" : "M7 4.5v15L19.5 12z");
  if (!on) return;
  if (state.frame === data.count - 1) show(0);
  state.times = 0;
  state.due = performance.now() + of(data.delay, state.frame) / speed();
  requestAnimationFrame(tick);
}

function tick(now) {
  if (!state.playing) return;
  requestAnimationFrame(tick);
  let frame = state.frame;
  let due = state.due;
  while (due <= now) { // a screen shows fewer frames a second than may be asked for
    if (frame === data.count - 1 && ++state.times === data.loop) return play(false);
    const next = (frame + 1) % data.count;
    const picture = file(next);
    if (!picture.ready && !picture.failed) { due = Math.max(due, now); break; }
    frame = next;
    due += Math.max(of(data.delay, frame), 1) / speed();
    if (frame === state.frame) break; // once around
  }
  state.due = Math.max(due, now - 100); // what was missed while the page was hidden is not made up for
  if (frame !== state.frame) show(frame);
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
    if (of(data.same, tile * sheet.every) !== null) {
      ink.fillStyle = colour("--alarm");
      ink.fillRect(x, sheet.height + 3, sheet.width, 5);
    }
    if (tile === current) {
      ink.strokeStyle = colour("--accent");
      ink.lineWidth = 4;
      ink.strokeRect(x + 2, 4, sheet.width - 4, sheet.height - 4);
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

/* -- bytes of each frame; of frames that share a column of pixels, the most and the least -- */

const chart = element("chart");
const FOOT = 26; // pixels below the axis
const bytes = (frame) => of(data.bytes, frame);
let most = 1;
for (let frame = 0; frame < data.count; frame++) most = Math.max(most, bytes(frame));

function drawChart() {
  const { width, height } = chart.getBoundingClientRect();
  if (!width) return;
  const ink = fitted(chart, width, height);
  const high = height - FOOT;
  const step = Math.max(1, Math.ceil(data.count / width));
  const wide = (width * step) / data.count;
  const gap = wide > 4 ? 1 : 0;
  const [plain, alarm] = [colour("--accent"), colour("--alarm")];
  for (let first = 0; first < data.count; first += step) {
    let [top, same] = [0, false];
    for (let frame = first; frame < Math.min(data.count, first + step); frame++) {
      top = Math.max(top, bytes(frame));
      same ||= of(data.same, frame) !== null;
    }
    const x = (first / data.count) * width;
    const tall = Math.max(1, ((high - 18) * top) / most);
    ink.fillStyle = same ? alarm : plain;
    ink.fillRect(x, high - tall, Math.max(1, wide - gap), tall);
    if (same) ink.fillRect(x, high + 2, Math.max(1, wide), 4);
  }
  ink.fillStyle = colour("--dim");
  ink.fillRect(0, high, width, 1);
  ink.font = "12px system-ui, sans-serif";
  ink.fillText(`${number(most)} bytes`, 0, 12);
  ink.fillText(`frame 1, ${seconds(0)}`, 0, height - 4);
  ink.textAlign = "right";
  ink.fillText(`frame ${number(data.count)}, ${seconds(data.count - 1)}`, width, height - 4);
  ink.fillStyle = colour("--ink");
  ink.fillRect(((state.frame + 0.5) / data.count) * width - 1, 14, 2, high - 8);
}

function seekChart(event) {
  const box = chart.getBoundingClientRect();
  seek(Math.floor(((event.clientX - box.left) / box.width) * data.count));
}
chart.addEventListener("pointerdown", seekChart);
chart.addEventListener("pointermove", (event) => { if (event.buttons === 1) seekChart(event); });

/* -- the list of all frames, some at a time -- */

const ROWS = 50;
let listed = 0;

function list(first) {
  listed = Math.max(0, Math.min(first, Math.floor((data.count - 1) / ROWS) * ROWS));
  const end = Math.min(data.count, listed + ROWS);
  const rows = [];
  for (let frame = listed; frame < end; frame++) rows.push(row(frame));
  element("rows").replaceChildren(...rows);
  element("range").textContent = `Frames ${number(listed + 1)} to ${number(end)} of ${number(data.count)}`;
  element("newer").disabled = listed === 0;
  element("older").disabled = end === data.count;
  describe();
}

function row(frame) {
  const line = document.createElement("tr");
  line.dataset.frame = frame;
  const shows = document.createElement("button");
  shows.type = "button";
  shows.textContent = number(frame + 1);
  shows.setAttribute("aria-label", `Show frame ${number(frame + 1)}`);
  shows.addEventListener("click", () => seek(frame));
  const link = document.createElement("a");
  link.href = of(data.link, frame);
  link.textContent = of(data.name, frame);
  const cells = [shows, seconds(frame), link, number(bytes(frame)), of(data.size, frame), of(data.format, frame), remark(frame)];
  for (const content of cells) {
    const cell = document.createElement("td");
    cell.append(content);
    line.append(cell);
  }
  line.lastChild.className = "note";
  return line;
}

element("newer").addEventListener("click", () => list(listed - ROWS));
element("older").addEventListener("click", () => list(listed + ROWS));

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
}

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
  if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
  const { target, key } = event;
  if (target.matches("select") || (target.matches("button, a") && key === " ")) return; // they have keys of their own
  if (target.closest(".wide")) return; // it scrolls sideways
  const act = EVERYWHERE[key] || (target.closest("#player") && IN_PLAYER[key]);
  if (!act) return;
  event.preventDefault();
  act();
});

/* -- begin -- */

const redraw = () => { drawStrip(); drawChart(); };
new ResizeObserver(redraw).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
list(0);
show(0);
if (data.count > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches) play(true);
