// Scrolls through the planes of a scan. Pictures come from the service; those around the one that is shown are fetched ahead.
"use strict";

const AHEAD = 3, KEPT = 400;
const kept = new Map();

function picture(address, like) {
  let image = kept.get(address);
  if (!image) {
    image = new Image(like.width, like.height);
    image.alt = like.alt;
    image.src = address;
    kept.set(address, image);
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  }
  return image;
}

function addressOf(pane, index) {
  const form = pane.closest("form");
  const hidden = [...form.querySelectorAll("[name=structure]:not(:checked)")].map((box) => box.value);
  const query = new URLSearchParams({ window: form.elements.window.value, outlines: form.elements.outlines.checked ? "yes" : "no" });
  if (hidden.length) query.set("hide", hidden.join(","));
  return `${form.dataset.slices}/${pane.dataset.plane}/${index}.png?${query}`;
}

async function show(pane) {
  const slider = pane.querySelector("[type=range]"), index = Number(slider.value), shown = pane.querySelector("img");
  const count = Number(slider.max) + 1, at = JSON.parse(pane.dataset.at)[index];
  const number = JSON.parse(pane.dataset.numbers)[index] ?? "?";
  pane.querySelector("output").textContent = `slice ${index + 1} of ${count} from ${pane.dataset.from}${number === "?" ? "" : `, image ${number}`}, ${pane.dataset.axis} ${at.toFixed(1)} mm`;
  const image = picture(addressOf(pane, index), shown);
  try { await image.decode(); } catch { kept.delete(addressOf(pane, index)); return; }
  if (Number(slider.value) !== index) return; // the slider has moved on
  pane.querySelector("img").replaceWith(image);
  for (let step = 1; step <= AHEAD; step += 1) {
    for (const next of [index - step, index + step]) if (next >= 0 && next < count) picture(addressOf(pane, next), image);
  }
  if (pane.dataset.plane === "axial") mark(pane.closest("form"), 1 - (index + 0.5) / count);
}

function mark(form, height) {
  for (const line of form.querySelectorAll(".here line")) for (const end of ["y1", "y2"]) line.setAttribute(end, `${100 * height}%`);
}

const viewer = (event) => event.target.closest?.("form.viewer");

document.addEventListener("input", (event) => {
  const form = viewer(event);
  if (!form) return;
  const pane = event.target.closest(".pane");
  for (const one of pane ? [pane] : form.querySelectorAll(".pane")) show(one);
});

document.addEventListener("wheel", (event) => {
  const pane = viewer(event) && event.target.closest(".picture")?.closest(".pane");
  if (!pane) return;
  event.preventDefault();
  const slider = pane.querySelector("[type=range]");
  slider.value = Number(slider.value) + (event.deltaY < 0 ? 1 : -1);
  show(pane);
}, { passive: false });

document.addEventListener("submit", (event) => viewer(event) && event.preventDefault());

const start = (root) => { for (const pane of root.querySelectorAll?.("form.viewer .pane") ?? []) show(pane); };
document.addEventListener("htmx:load", (event) => start(event.target.parentElement ?? event.target));
document.addEventListener("DOMContentLoaded", () => start(document));
