"use strict";

const SVG = "http://www.w3.org/2000/svg";
const element = (id) => document.getElementById(id);
const drop = element("drop"), input = element("file"), player = element("player"), rows = element("rows");

let result = null;
let upload = null;
let address = null;

input.addEventListener("change", () => input.files.length && classify(input.files[0]));
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.remove("over");
  });
}
document.addEventListener("drop", (event) => {
  const files = event.dataTransfer.files;
  if (files.length > 1) fail("One song at a time, please.");
  else if (files.length) classify(files[0]);
});

async function classify(file) {
  if (upload) upload.abort();
  const mine = upload = new AbortController();
  fail("");
  element("result").hidden = true;
  player.pause();
  say(`Listening to ${file.name} …`);
  const form = new FormData();
  form.append("file", file, file.name);
  try {
    const response = await fetch("v1/audio", { method: "POST", body: form, signal: mine.signal });
    const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    if (!response.ok) throw new Error(answer.error);
    if (mine === upload) show(answer, file);
  } catch (error) {
    if (error.name === "AbortError") return;
    say("");
    // What fetch says of a broken connection differs between browsers and helps nobody.
    fail(error instanceof TypeError ? "The server cannot be reached, or refused the file while it was sent." : error.message);
  }
}

function show(answer, file) {
  result = answer;
  const windows = answer.windows;
  const end = windows[windows.length - 1].end_seconds;
  element("genre").textContent = answer.genre;
  element("summary").textContent =
    `${percent(answer.probability)} probable over ${clock(end)} of ${answer.file}`;
  element("axis-end").textContent = clock(end);
  drawRows(windows, end);
  fillTable();
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(file);
  element("unplayable").hidden = true;
  player.hidden = false;
  player.src = address;
  element("result").hidden = false;
  say(`${answer.file}: ${answer.genre}`);
  moveTo(0);
}

function drawRows(windows, end) {
  rows.replaceChildren(...Object.keys(result.probabilities).map((genre) => {
    const row = document.createElement("div");
    row.className = "row";
    row.dataset.genre = genre;
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = name.title = genre;
    const strip = document.createElementNS(SVG, "svg");
    strip.setAttribute("viewBox", `0 0 ${end} 1`);
    strip.setAttribute("preserveAspectRatio", "none");
    strip.setAttribute("aria-hidden", "true");
    windows.forEach((window, number) => {
      const next = windows[number + 1];
      const stop = next ? next.start_seconds : window.end_seconds;
      const share = window.probabilities[genre];
      const bar = document.createElementNS(SVG, "rect");
      bar.setAttribute("x", window.start_seconds);
      bar.setAttribute("width", Math.max(stop - window.start_seconds, 0));
      bar.setAttribute("y", 1 - share);
      bar.setAttribute("height", share);
      strip.append(bar);
    });
    const head = document.createElementNS(SVG, "line");
    head.setAttribute("y1", 0);
    head.setAttribute("y2", 1);
    strip.append(head);
    const now = document.createElement("span");
    now.className = "now";
    row.append(name, strip, now);
    return row;
  }));
}

function fillTable() {
  const genres = Object.keys(result.probabilities);
  element("table-head").replaceChildren(tableRow("th", ["time", ...genres]));
  const whole = ["whole", ...genres.map((genre) => result.probabilities[genre].toFixed(2))];
  const body = result.windows.map((window) => [
    `${clock(window.start_seconds, 1)} to ${clock(window.end_seconds, 1)}`,
    ...genres.map((genre) => window.probabilities[genre].toFixed(2)),
  ]);
  element("table-body").replaceChildren(...[whole, ...body].map((cells) => tableRow("td", cells)));
}

function tableRow(kind, cells) {
  const row = document.createElement("tr");
  cells.forEach((text, column) => {
    const cell = document.createElement(column ? kind : "th");
    cell.scope = kind === "th" ? "col" : column ? "" : "row";
    cell.textContent = text;
    row.append(cell);
  });
  return row;
}

/** Show the moment `seconds`: the line in every strip, the numbers, the genre on top. */
function moveTo(seconds) {
  const windows = result.windows;
  let window = windows[0];
  for (const candidate of windows) if (candidate.start_seconds <= seconds) window = candidate;
  const top = Object.entries(window.probabilities).reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];
  element("moment").textContent = `at ${clock(seconds, 1)}: ${top}`;
  for (const row of rows.children) {
    row.classList.toggle("top", row.dataset.genre === top);
    const head = row.querySelector("line");
    head.setAttribute("x1", seconds);
    head.setAttribute("x2", seconds);
    row.querySelector(".now").textContent = percent(window.probabilities[row.dataset.genre]);
  }
}

function follow() {
  if (result) moveTo(player.currentTime);
  if (!player.paused && !player.ended) requestAnimationFrame(follow);
}
player.addEventListener("play", follow);
player.addEventListener("seeking", follow);
player.addEventListener("timeupdate", follow);
player.addEventListener("error", () => {
  player.hidden = true;
  element("unplayable").hidden = false;
});

rows.addEventListener("click", (event) => {
  const strip = rows.querySelector("svg").getBoundingClientRect();
  const end = result.windows[result.windows.length - 1].end_seconds;
  const seconds = Math.min(Math.max((event.clientX - strip.left) / strip.width, 0), 1) * end;
  if (player.hidden) moveTo(seconds);
  else player.currentTime = seconds;
});

function say(text) {
  element("status").textContent = text;
}

function fail(text) {
  element("error").textContent = text;
  element("error").hidden = !text;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function clock(seconds, digits = 0) {
  const scale = 10 ** digits;
  const rounded = Math.round(seconds * scale) / scale;
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${Math.floor(rounded / 60)}:${rest}`;
}
