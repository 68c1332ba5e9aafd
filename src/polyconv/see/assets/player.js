
"use strict";
// The player: shows frame by frame what Python drew. Nothing is computed here.
const at = (id) => document.getElementById(id);
let data = null;
let last = 0;
let current = 0;
let timer = null;
let pinned = null;
let tell = () => {}; // where a page around this one follows it: see bridge.js

function start(given, first) {
  data = given;
  last = data.frames.length - 1;
  at("step").max = last;
  at("count").textContent = last + 1;
  at("pinned").hidden = Object.keys(data.outputs).length === 0;
  document.querySelector(".controls").hidden = last === 0;
  show(first);
}

function show(index) {
  current = Math.min(Math.max(index, 0), last);
  const frame = data.frames[current];
  if (frame === undefined) return void data.fetch(current);
  at("shapes").innerHTML = typeof frame === "string" ? frame : frame.map((number) => data.shapes[number]).join("");
  at("step").value = current;
  at("where").textContent = current + 1;
  at("now").textContent = data.said[current];
  at("picture").querySelector("desc").textContent = data.said[current];
  at("step").setAttribute("aria-valuetext", `step ${current + 1} of ${last + 1}: ${data.said[current]}`);
  markPin();
  tell();
}

function markPin() {
  const cell = pinned === null ? null : at("shapes").querySelector(`[data-cell="${pinned}"]`);
  at("pin").replaceChildren();
  if (cell === null) return;
  const ring = cell.cloneNode();
  ring.removeAttribute("data-cell");
  for (const [name, value] of Object.entries({ fill: "none", stroke: "var(--ink)", "stroke-width": 3, "stroke-dasharray": "5 3", "pointer-events": "none" })) ring.setAttribute(name, value);
  at("pin").append(ring);
}

function pin(key) {
  const output = data.outputs[key];
  pause();
  pinned = key;
  at("hint").hidden = true;
  at("sum").hidden = false;
  at("which").textContent = output ? output.title : "This output's own step is not among those shown.";
  at("lines").replaceChildren(...(output ? output.lines : []).map((line) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = line;
    return paragraph;
  }));
  show(output ? output.frame : current);
}

function unpin() {
  pinned = null;
  at("hint").hidden = false;
  at("sum").hidden = true;
  markPin();
  tell();
}

function pinCurrent() {
  const found = Object.entries(data.outputs).find(([, output]) => output.frame === current);
  if (found) pin(found[0]);
}

function pause() {
  if (timer !== null) clearTimeout(timer);
  timer = null;
  at("play").textContent = "▶ play";
  at("play").setAttribute("aria-label", "Play");
  tell();
}

function tick() {
  show(current === last ? 0 : current + 1);
  schedule();
}

function schedule() {
  const wait = 1000 / (data.fps * Number(at("speed").value));
  timer = setTimeout(tick, current === last ? 3 * wait : wait);
}

function play() {
  at("play").textContent = "⏸ pause";
  at("play").setAttribute("aria-label", "Pause");
  schedule();
  tell();
}

const go = (index) => { pause(); show(index); };
const toggle = () => (timer === null ? play() : pause());
at("first").addEventListener("click", () => go(0));
at("back").addEventListener("click", () => go(current - 1));
at("play").addEventListener("click", toggle);
at("forward").addEventListener("click", () => go(current + 1));
at("last").addEventListener("click", () => go(last));
at("step").addEventListener("input", (event) => go(Number(event.target.value)));
at("unpin").addEventListener("click", unpin);
at("picture").addEventListener("click", (event) => {
  const cell = event.target.closest("[data-cell]");
  if (cell !== null) pin(cell.dataset.cell);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (data === null || event.target.closest("input:not(#step), textarea, summary, a, [role=tab]") !== null) return;
  const inside = event.target.tagName;
  const keys = { ArrowLeft: () => go(current - 1), ArrowRight: () => go(current + 1), Home: () => go(0), End: () => go(last), " ": toggle, p: pinCurrent, P: pinCurrent, Escape: unpin };
  if (!(event.key in keys) || inside === "SELECT") return;
  if (event.key === " " && inside === "BUTTON") return;
  event.preventDefault();
  keys[event.key]();
});
