"use strict";
const WIDE = 260, NARROW = 350; // pixels of the player under its picture, an output pinned
// "Step through it" opens the player in the picture's place, and closes it again. Without this script it is a link.
for (const link of document.querySelectorAll("a.polyconv-open")) {
  link.setAttribute("role", "button");
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const figure = link.closest("figure");
    const stage = figure.querySelector(".polyconv-stage");
    const links = figure.querySelectorAll("a.polyconv-open");
    const open = stage.querySelector("iframe");
    for (const image of stage.querySelectorAll("img")) image.hidden = open === null;
    for (const one of links) one.textContent = open === null ? "Back to the animation" : "Step through it";
    if (open !== null) return void open.remove();
    const frame = document.createElement("iframe");
    frame.src = link.href;
    frame.title = stage.getAttribute("aria-label");
    frame.style.height = `${Math.ceil(stage.clientWidth / Number(link.dataset.ratio)) + (stage.clientWidth < 560 ? NARROW : WIDE)}px`;
    stage.append(frame);
  });
}
