// The player in a notebook: the same page as everywhere, in a frame; its state is the model's. Nothing is computed here.
const KEYS = ["pinned", "frame", "playing", "speed"];

function render({ model, el }) {
  const label = document.createElement("label");
  const text = document.createElement("input");
  const problem = document.createElement("pre");
  const frame = document.createElement("iframe");
  label.textContent = "Network ";
  Object.assign(text, { type: "text", spellcheck: false, maxLength: 2000 });
  text.style.cssText = "font: 14px ui-monospace, Menlo, Consolas, monospace; width: min(100%, 560px); padding: 4px 8px";
  label.style.cssText = "display: block; font: 13px sans-serif; margin: 4px 0";
  problem.style.cssText = "color: #a3241c; background: #fdf0ee; padding: 8px; margin: 4px 0; overflow-x: auto; font-size: 13px";
  problem.setAttribute("role", "alert");
  frame.title = "polyconv: the network at work";
  frame.setAttribute("sandbox", "allow-scripts");
  frame.style.cssText = "display: block; width: 100%; max-width: 760px; height: 560px; border: 0; color-scheme: light dark";
  label.append(text);
  el.append(label, problem, frame);

  let ready = false;
  let following = false; // what the page did is not asked of it again
  let typing = null;
  const lead = (part) => { if (ready && !following) frame.contentWindow.postMessage({ polyconv: part }, "*"); };
  const state = () => Object.fromEntries(KEYS.map((key) => [key, model.get(key)]));

  function heard(event) {
    if (event.source !== frame.contentWindow || !event.data || !event.data.polyconv) return;
    const { height, ...told } = event.data.polyconv;
    if (height > 0) frame.style.height = `${Math.min(height, 4000)}px`;
    if (!ready) {
      ready = true;
      return lead(state());
    }
    const changed = KEYS.filter((key) => key in told && told[key] !== model.get(key));
    following = true;
    for (const key of changed) model.set(key, told[key]);
    following = false;
    if (changed.length) model.save_changes();
  }
  function showPage() {
    ready = false;
    frame.srcdoc = model.get("page");
  }
  function showText() {
    label.hidden = model.get("notation") === "";
    if (document.activeElement !== text) text.value = model.get("notation");
    problem.textContent = model.get("problem");
    problem.hidden = problem.textContent === "";
  }
  text.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      model.set("notation", text.value || " ");
      model.save_changes();
    }, 300);
  });
  const led = Object.fromEntries(KEYS.map((key) => [key, () => lead({ [key]: model.get(key) })]));
  window.addEventListener("message", heard);
  model.on("change:page", showPage);
  for (const key of ["notation", "problem"]) model.on(`change:${key}`, showText);
  for (const key of KEYS) model.on(`change:${key}`, led[key]);
  showText();
  showPage();
  return () => {
    clearTimeout(typing);
    window.removeEventListener("message", heard);
    model.off("change:page", showPage);
    for (const key of ["notation", "problem"]) model.off(`change:${key}`, showText);
    for (const key of KEYS) model.off(`change:${key}`, led[key]);
  };
}

export default { render };
