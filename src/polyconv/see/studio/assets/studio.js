"use strict";
// The studio's page: shows what the server computes. Text from outside becomes text nodes, never markup;
// the only markup is the drawing, which the server made.
const EXAMPLES = [
  ["standard", "conv 3x3 2 padding 1", "1x5x5"], ["strided", "conv 3x3 1 stride 2 padding 1", "1x7x7"], ["dilated", "conv 3x3 1 dilation 2", "1x7x7"],
  ["depthwise", "depthwise 3x3 same", "2x5x5"], ["separable", "separable 3x3 2", "2x5x5"], ["grouped", "conv 3x3 4 groups 2", "4x4x4"],
  ["transposed", "transposed 3x3 1 stride 2", "1x3x3"], ["1-D causal", "conv 3 1 causal dilation 2", "1x8"], ["3-D", "conv 2x3x3 1", "1x3x4x4"], ["a chain", "conv 3x3 2 | maxpool 3x3", "1x11x11"],
];
const LIMITS = { kernel: [1, 11], stride: [1, 6], dilation: [1, 6], pads: [0, 6], output_padding: [0, 3], out: [1, 64], groups: [1, 16], multiplier: [1, 4] };
const NAMES = { kernel: "Kernel", stride: "Stride", dilation: "Dilation", pads: "Positions of padding", output_padding: "Output padding", out: "Output channels", groups: "Groups", multiplier: "Multiplier" };
const TAKES = {
  conv: "kernel out stride dilation groups mode bias activation", pointwise: "out stride groups bias activation", depthwise: "kernel multiplier stride dilation mode bias activation",
  separable: "kernel out multiplier stride dilation mode bias activation", spatial: "kernel out stride dilation mode bias activation",
  transposed: "kernel out stride dilation output_padding groups bias activation", maxpool: "kernel stride dilation", avgpool: "kernel stride",
};
const AXES = { 1: ["length"], 2: ["height", "width"], 3: ["depth", "height", "width"] };
const stored = document.getElementById("data");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const state = { net: "", input: "", view: "stamp", flip: "0", seed: "0", stage: "0", theme: "", code: "PyTorch", tab: "code" };
let current_view = null;
let asked = 0;
let typing = null;
let photo = null;

function make(name, attributes = {}, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...inside);
  return element;
}

// -- the address ------------------------------------------------------------------------------------------------

function readAddress() {
  const fields = new URLSearchParams(location.search);
  for (const key of Object.keys(state)) if (fields.has(key)) state[key] = fields.get(key);
  return fields;
}

function writeAddress() {
  const fields = new URLSearchParams();
  const plain = { view: "stamp", flip: "0", seed: "0", stage: "0", theme: "", code: "PyTorch", tab: "code" };
  for (const [key, value] of Object.entries(state)) if (value !== plain[key]) fields.set(key, value);
  if (data !== null && current > 0) fields.set("step", current);
  if (data !== null && pinned !== null) fields.set("pin", pinned);
  history.replaceState(null, "", `?${fields}`);
}

function question(more = {}) {
  const fields = new URLSearchParams({ view: state.view, flip: state.flip, seed: state.seed, stage: state.stage, theme: theme(), ...more });
  if (state.net) fields.set("net", state.net);
  if (state.input) fields.set("input", state.input);
  return fields;
}

// -- asking -----------------------------------------------------------------------------------------------------

async function ask(more = {}, first = null) {
  const turn = ++asked;
  document.body.classList.add("busy");
  try {
    const answer = await fetch(`/api/view?${question(more)}`);
    const view = answer.ok ? await answer.json() : { problem: await answer.text() };
    if (turn === asked) receive(view, first);
  } catch {
    if (turn === asked) complain("The studio does not answer: it may have been stopped. Start polyconv studio again.");
  } finally {
    if (turn === asked) document.body.classList.remove("busy");
  }
}

function receive(view, first = null) {
  complain(view.problem || "", view.problem !== undefined);
  if (view.problem !== undefined) return;
  const same = current_view !== null && current_view.title === view.title && current_view.state.input === view.state.input;
  current_view = view;
  document.body.classList.remove("empty");
  Object.assign(state, { ...view.state, seed: String(view.state.seed), stage: String(view.state.stage) });
  if (document.activeElement !== at("net")) at("net").value = view.state.net;
  if (document.activeElement !== at("size")) at("size").value = view.state.input;
  showDrawing(view.drawing, first !== null ? first : same ? current : 0);
  showBuilder(view);
  showFigures(view);
  showAdvice(view.advice);
  showCode();
  showCompare(view.compare);
  showLayers(view.layers);
  at("status").textContent = view.figures.map((f) => `${f.name} ${f.value}`).join(", ");
  document.title = `${view.title} · polyconv`;
  if (stored === null) writeAddress();
  if (photo !== null && state.tab === "photo") sendPhoto();
}

function complain(text, wrong = false) {
  const [head, ...rest] = text.split("\n");
  at("problem").replaceChildren(...(head ? [make("p", {}, head)] : []), ...(rest.length ? [make("pre", {}, rest.map((line) => line.replace(/^ {2}/, "")).join("\n"))] : []));
  for (const id of ["net", "size"]) at(id).setAttribute("aria-invalid", String(wrong));
}

// -- the drawing ------------------------------------------------------------------------------------------------

function showDrawing(drawing, first) {
  at("note").textContent = [current_view.note, drawing.problem || drawing.note].filter(Boolean).join(". ");
  const there = drawing.problem === undefined;
  for (const part of document.querySelectorAll(".drawing .controls, #pinned")) part.hidden = !there;
  if (!there) {
    pause();
    data = null;
    at("picture").replaceChildren();
    return;
  }
  const going = timer !== null;
  pause();
  at("picture").innerHTML = drawing.svg;
  const frames = new Array(drawing.count);
  const said = new Array(drawing.count);
  const shown = { fps: current_view.fps || 2, frames, said, outputs: drawing.outputs, fetch: more };
  for (const [index, markup] of Object.entries(drawing.frames)) [frames[index], said[index]] = [markup, drawing.said[index]];
  if (pinned !== null && !(pinned in drawing.outputs)) unpinQuietly();
  start(shown, Math.min(first, drawing.count - 1));
  if (frames[current] !== undefined && first + 1 < drawing.count) ahead(shown);
  if (going) play();
}

function unpinQuietly() {
  pinned = null;
  at("hint").hidden = false;
  at("sum").hidden = true;
}

const underWay = new Set();

async function more(first) {
  const mine = data;
  const key = `${question({ first })}`;
  if (underWay.has(key) || stored !== null) return;
  underWay.add(key);
  try {
    const answer = await (await fetch(`/api/frames?${key}`)).json();
    if (mine !== data || answer.problem) return;
    for (const [index, markup] of Object.entries(answer.frames)) [mine.frames[index], mine.said[index]] = [markup, answer.said[index]];
    if (data.frames[current] !== undefined) {
      show(current);
      ahead(mine);
    }
  } catch {
    if (mine === data) {
      pause();
      complain("The studio does not answer: it may have been stopped. Start polyconv studio again.");
    }
  } finally {
    underWay.delete(key);
  }
}

function ahead(shown) {
  const next = [1, 2, 3, 4].map((n) => current + n).find((n) => n < shown.frames.length && shown.frames[n] === undefined);
  if (next !== undefined && shown === data) more(next);
}

// -- the builder ------------------------------------------------------------------------------------------------

function edit(op, more = {}) {
  ask({ edit: JSON.stringify({ op, stage: Number(state.stage), ...more }) });
}

function showBuilder(view) {
  const focus = document.activeElement && at("builder").contains(document.activeElement) ? document.activeElement.id : "";
  if (focus && document.activeElement.type === "range" && at("builder").dataset.dragging) return updateBuilder(view);
  const stage = view.stages[Number(state.stage)];
  const parts = [stagesRow(view), axesRow(view)];
  if (stage.fields === null) parts.push(make("p", { class: "quiet" }, `${stage.text} has nothing to slide: change it in the text.`));
  else parts.push(...controls(view, stage.fields));
  at("builder").replaceChildren(...parts);
  if (focus && document.getElementById(focus)) document.getElementById(focus).focus();
}

function updateBuilder(view) {
  const fields = view.stages[Number(state.stage)].fields;
  for (const input of at("builder").querySelectorAll(".axes input")) {
    const value = fields[input.dataset.field];
    input.value = Array.isArray(value) ? value[Number(input.dataset.axis)] : value;
  }
  at("builder").querySelector(".stages [aria-pressed=true]").textContent = view.stages[Number(state.stage)].text;
}

function stagesRow(view) {
  const chips = view.stages.map((stage, index) => make("button", { type: "button", id: `stage-${index}`, "aria-pressed": String(index === Number(state.stage)), title: stage.text, onclick: () => { state.stage = String(index); ask(); } }, stage.text));
  const add = make("button", { type: "button", id: "add", "aria-label": "Add a stage after this one", onclick: () => edit("add") }, "+");
  const remove = make("button", { type: "button", id: "remove", "aria-label": "Remove this stage", disabled: view.stages.length < 2, onclick: () => edit("remove") }, "−");
  return make("div", { class: "stages", role: "group", "aria-label": "Stages" }, ...chips, add, remove);
}

function select(id, label, options, value, change) {
  const made = make("select", { id, onchange: (event) => change(event.target.value) }, ...options.map(([key, name]) => make("option", { value: key, selected: key === value }, name)));
  return make("div", { class: "field half" }, make("label", { for: id }, label), made);
}

function axesRow(view) {
  const rank = select("rank", "Axes", [["1", "1-D"], ["2", "2-D"], ["3", "3-D"]], String(view.ndim), (value) => edit("rank", { rank: Number(value) }));
  const stage = view.stages[Number(state.stage)];
  if (stage.fields === null) return rank;
  const kind = select("kind", "Kind", view.kinds.map((k) => [k, k]), stage.fields.kind, (value) => edit("set", { fields: { ...stage.fields, kind: value } }));
  return make("div", { class: "pair" }, kind, rank);
}

function controls(view, fields) {
  const takes = TAKES[fields.kind].split(" ");
  const set = (name, value) => edit("set", { fields: { ...current_view.stages[Number(state.stage)].fields, [name]: value } });
  const words = ["valid", "same", "full", ...(view.ndim === 1 ? ["causal"] : [])];
  const paddings = [...words.map((w) => [w, w]), ["numbers", "numbers"]];
  const made = [];
  for (const name of ["kernel", "out", "stride", "dilation", "groups", "multiplier"]) if (takes.includes(name)) made.push(slider(name, fields[name], view.ndim, set));
  made.push(select("padding", "Padding", paddings, fields.padding, (value) => set("padding", value)));
  if (fields.padding === "numbers") made.push(slider("pads", fields.pads, view.ndim, set));
  if (takes.includes("output_padding") && ["numbers", "valid"].includes(fields.padding)) made.push(slider("output_padding", fields.output_padding, view.ndim, set));
  if (takes.includes("mode") && fields.padding !== "valid") made.push(select("mode", "Padding holds", ["zeros", "reflect", "replicate", "circular"].map((m) => [m, m]), fields.mode, (value) => set("mode", value)));
  if (takes.includes("activation")) {
    const bias = make("label", { class: "check" }, make("input", { type: "checkbox", id: "bias", checked: fields.bias, onchange: (event) => set("bias", event.target.checked) }), "bias");
    const kinds = ["", "relu", "relu6", "leaky_relu", "silu", "gelu", "sigmoid", "tanh", "hardswish"].map((a) => [a, a || "none"]);
    made.push(make("div", { class: "pair" }, select("activation", "Activation", kinds, fields.activation, (value) => set("activation", value)), bias));
  }
  if (view.transposed) made.push(select("view", "Transposed drawn as", [["stamp", "stamps on the output"], ["slide", "a sliding window"]], state.view, (value) => { state.view = value; ask(); }));
  if (view.convolves) made.push(make("label", { class: "check" }, make("input", { type: "checkbox", id: "flip", checked: state.flip === "1", onchange: (event) => { state.flip = event.target.checked ? "1" : "0"; ask(); } }), "drawn with the kernel flipped, as in mathematics"));
  return made;
}

function slider(name, value, ndim, set) {
  const [low, high] = LIMITS[name];
  const values = Array.isArray(value) ? value : [value];
  const many = Array.isArray(value);
  const first = Number(String(values[0]).split(":")[0]);
  const range = make("input", { type: "range", id: name, min: String(low), max: String(Math.max(high, first)), value: String(first), "aria-label": many && ndim > 1 ? `${NAMES[name]}, all axes` : `${NAMES[name]}, slider`,
    onpointerdown: () => { at("builder").dataset.dragging = "1"; }, oninput: (event) => { later(() => set(name, many ? values.map(() => event.target.value) : event.target.value), 30); },
    onchange: () => { delete at("builder").dataset.dragging; } });
  const axes = values.map((one, axis) => {
    const label = many ? `${NAMES[name]}, ${AXES[ndim][axis]}${name === "pads" ? " (one number, or before:after)" : ""}` : NAMES[name];
    const kind = name === "pads" ? { type: "text", inputmode: "numeric", maxlength: "7" } : { type: "number", min: String(low), max: "128", step: "1" };
    if (name === "out" || name === "groups") kind.max = "16384";
    return make("input", { ...kind, id: `${name}-${axis}`, "data-field": name, "data-axis": String(axis), value: String(one), "aria-label": label, title: label,
      onchange: (event) => set(name, many ? values.map((old, index) => (index === axis ? event.target.value : old)) : event.target.value) });
  });
  return make("div", { class: "slider", role: "group", "aria-label": NAMES[name] }, make("div", { class: "legend", "aria-hidden": "true" }, NAMES[name]), make("div", { class: "inner" }, range, make("div", { class: `axes${values.length > 2 ? " many" : ""}` }, ...axes)));
}

function later(work, wait) {
  clearTimeout(typing);
  typing = setTimeout(work, wait);
}

// -- numbers, warnings, code ----------------------------------------------------------------------------------------

function showFigures(view) {
  at("figures").replaceChildren(...view.figures.map((f) => make("div", {}, make("dt", {}, f.name), make("dd", { class: "value" }, f.value), make("dd", { class: "unit" }, f.unit))));
}

function showAdvice(advice) {
  const open = new Set([...at("advice").querySelectorAll("details[open] summary")].map((s) => s.textContent));
  at("advice").replaceChildren(...advice.map((one) => {
    const head = `stage ${one.stage}: ${one.what}`;
    return make("details", { open: open.has(head) }, make("summary", {}, head), make("p", {}, `Why: ${one.why}`), make("p", {}, `Instead: ${one.fix}`), make("p", {}, `Source: ${one.source}`));
  }));
}

function showCode() {
  const found = current_view.code.find((one) => one.name === state.code) || current_view.code[0];
  at("systems").replaceChildren(...current_view.code.map((one) => make("button", { type: "button", id: `system-${one.name}`, "aria-pressed": String(one === found), onclick: () => { state.code = one.name; showCode(); at(`system-${one.name}`).focus(); remember(); } }, one.name)));
  at("code").textContent = found.text || `# ${found.problem}`;
}

function table(head, rows, numbers) {
  const cell = (value, index) => make("td", numbers.includes(index) ? { class: "number" } : {}, value);
  const top = make("tr", {}, ...head.map((name, index) => make("th", { scope: "col", ...(numbers.includes(index) ? { class: "number" } : {}) }, name)));
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" }, make("table", {}, make("thead", {}, top), make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell))))));
}

function showCompare(found) {
  if (found.problem) return at("panel-compare").replaceChildren(make("p", { class: "quiet" }, found.problem));
  const rows = found.rows.map((row) => {
    const bar = make("span");
    bar.style.width = `${100 * row.share}%`;
    const name = make("div", {}, make("strong", {}, row.kind), ...(row.note ? [make("p", { class: "quiet" }, row.note)] : []));
    const use = stored === null ? make("button", { type: "button", "aria-label": `Use ${row.text}`, onclick: () => replaceStage(row.text) }, row.text) : row.text;
    return [name, use, row.params, row.macs, `${row.ratio}×`, make("div", { class: "bar", "aria-hidden": "true" }, bar)];
  });
  const said = `The same window on an input of ${found.in_shape}, as each other kind. MACs as multiples of the standard convolution's.`;
  const left = found.left_out.map(([kind, why]) => make("p", { class: "quiet" }, `${kind}: left out, ${why}`));
  at("panel-compare").replaceChildren(make("p", { class: "quiet" }, said), table(["kind", "network", "parameters", "MACs", "ratio", "share of the most"], rows, [2, 3, 4]), ...left);
}

function replaceStage(text) {
  state.net = current_view.stages.map((stage, index) => (index === Number(state.stage) ? text : stage.text)).join(" | ");
  ask();
}

function showLayers(found) {
  at("panel-layers").replaceChildren(table(found.head, found.rows, [3, 4]));
}

function remember() {
  if (stored === null && current_view !== null) writeAddress();
}

function showTab(name) {
  state.tab = name;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const mine = tab.dataset.tab === name;
    tab.setAttribute("aria-selected", String(mine));
    tab.tabIndex = mine ? 0 : -1;
    at(`panel-${tab.dataset.tab}`).hidden = !mine;
  }
  if (name === "photo" && photo !== null) sendPhoto();
}

// -- a picture ------------------------------------------------------------------------------------------------------

let photoTurn = 0;

async function sendPhoto() {
  const turn = ++photoTurn;
  at("photo-said").textContent = "Working …";
  let found;
  try {
    const answer = await fetch(`/api/picture?${question()}`, { method: "POST", body: photo });
    found = answer.ok ? await answer.json() : { problem: await answer.text() };
  } catch {
    found = { problem: "The picture could not be sent." };
  }
  if (turn !== photoTurn) return;
  at("photo-said").textContent = found.problem || found.words;
  at("photos").hidden = found.problem !== undefined;
  if (found.problem !== undefined) return;
  at("before").src = found.before;
  at("after").src = found.after;
}

function choosePhoto(file) {
  if (file.size > 16 * 2 ** 20) {
    at("photo-said").textContent = `The file has ${file.size.toLocaleString("en")} bytes, the studio reads at most ${(16 * 2 ** 20).toLocaleString("en")}. Make the picture smaller.`;
    at("photos").hidden = true;
    return;
  }
  photo = file;
  sendPhoto();
}

// -- light and dark, and the start ------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => (state.theme === "dark" || state.theme === "light" ? state.theme : dark.matches ? "dark" : "light");

function showTheme() {
  document.documentElement.dataset.theme = theme();
  at("theme").textContent = theme() === "dark" ? "Light" : "Dark";
}

async function copy(text, button) {
  const before = button.dataset.name || button.textContent;
  button.dataset.name = before;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
  at("status").textContent = button.textContent;
  setTimeout(() => { button.textContent = before; }, 1500);
}

at("copy-code").addEventListener("click", (event) => copy(at("code").textContent, event.target));
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => { showTab(tab.dataset.tab); remember(); });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = [...document.querySelectorAll("[role=tab]")].filter((one) => one.offsetParent !== null);
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    showTab(next.dataset.tab);
    next.focus();
    remember();
  });
}

function alone() {
  document.body.classList.add("static");
  const view = JSON.parse(stored.textContent);
  state.theme = view.theme;
  showTheme();
  at("theme").hidden = true;
  at("said").hidden = false;
  at("said").textContent = `${view.title}   on ${view.state.input}`;
  showTab("code");
  receive(view);
  if (!still.matches && data !== null) play();
}

function lively() {
  const fields = readAddress();
  at("net").value = state.net;
  at("size").value = state.input;
  showTheme();
  showTab(["code", "compare", "layers", "photo"].includes(state.tab) ? state.tab : "code");
  document.querySelector(".examples").append(...EXAMPLES.map(([name, net, input]) => make("button", { type: "button", onclick: () => { Object.assign(state, { net, input, stage: "0" }); unpinQuietly(); ask({}, 0); } }, name)));
  at("net").addEventListener("input", () => { state.net = at("net").value; later(() => ask({ loose: "1" }), 120); });
  at("size").addEventListener("input", () => { state.input = at("size").value; later(() => ask(), 120); });
  at("copy").addEventListener("click", (event) => { writeAddress(); copy(location.href, event.target); });
  at("theme").addEventListener("click", () => { state.theme = theme() === "dark" ? "light" : "dark"; showTheme(); ask(); });
  dark.addEventListener("change", () => { showTheme(); ask(); });
  at("file").addEventListener("change", (event) => { if (event.target.files.length) choosePhoto(event.target.files[0]); });
  at("sample").addEventListener("click", () => { photo = new Blob([]); sendPhoto(); });
  for (const kind of ["click", "change", "keyup"]) document.querySelector(".drawing").addEventListener(kind, () => { if (timer === null) remember(); });
  const step = Number(fields.get("step") || 0);
  const pin_first = fields.get("pin");
  ask({}, step).then(() => {
    if (data === null) return;
    if (pin_first !== null && pin_first in data.outputs) pin(pin_first);
    else if (!still.matches && !step) play();
  });
}

if (stored === null) lively();
else alone();
