// Inside a frame: tells the page around it what is shown, and shows what that page asks for.
let telling = false;
const post = () => parent.postMessage({ polyconv: { frame: current, playing: timer !== null, pinned: pinned === null ? "" : pinned, speed: Number(at("speed").value), height: Math.ceil(document.documentElement.getBoundingClientRect().height) } }, "*");
tell = () => { // once, when all that one step changes is changed
  if (telling) return;
  telling = true;
  queueMicrotask(() => {
    telling = false;
    post();
  });
};
const LEAD = {
  speed: (value) => { at("speed").value = String(value); },
  pinned: (value) => { if (value === "") unpin(); else if (value !== pinned) pin(value); },
  frame: (value) => { if (value !== current) show(value); },
  playing: (value) => { if (value !== (timer !== null)) toggle(); },
};
addEventListener("message", (event) => {
  if (event.source !== parent || !event.data || !event.data.polyconv) return;
  for (const [key, lead] of Object.entries(LEAD)) if (key in event.data.polyconv) lead(event.data.polyconv[key]);
  tell();
});
at("speed").addEventListener("change", () => tell());
new ResizeObserver(() => tell()).observe(document.documentElement);
tell();
