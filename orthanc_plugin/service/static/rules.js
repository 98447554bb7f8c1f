// The rule tester: sends the headers of dropped files, and a copy of the rules. The server renders, and escapes, the answers.
"use strict";

const HEADER_BYTES = 1 << 17, MOST_FILES = 1000;

async function framed(files) {
  const parts = [];
  for (const file of [...files].slice(0, MOST_FILES)) {
    const head = file.slice(0, HEADER_BYTES);
    parts.push(new Uint32Array([head.size]), head);
  }
  return new Blob(parts);
}

async function ask(files) {
  const shown = document.getElementById("dropped");
  shown.textContent = "Reading…";
  let answer, said;
  try { // the browser reads the files only now, and no folder among them
    answer = await fetch(new URL("/enrichment/rules/files", location.origin), { method: "POST", body: await framed(files) });
    said = await answer.text();
  } catch {
    shown.textContent = "These files could not be sent: choose files and no folders, and check that the service answers.";
    return;
  }
  if (!answer.ok) {
    shown.textContent = `These files could not be read: ${messageOf(said) ?? (said.trim() || `the service answered ${answer.status}.`)}`;
    return;
  }
  shown.innerHTML = said; // escaped by the server
  if (files.length > MOST_FILES) {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = `Only the first ${MOST_FILES} of ${files.length} files were looked at.`;
    shown.prepend(note);
  }
}

const drop = document.getElementById("drop");
document.getElementById("files").addEventListener("change", (event) => ask(event.target.files));
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  ask(event.dataTransfer.files);
});

document.getElementById("compare").addEventListener("submit", async (event) => {
  event.preventDefault();
  const shown = document.getElementById("comparison");
  let rules;
  try {
    rules = JSON.parse(document.getElementById("rules").value);
  } catch (error) {
    shown.textContent = `This is not valid JSON: ${error.message}`;
    return;
  }
  try {
    await post("rules/compare", JSON.stringify({ rules }));
    htmx.ajax("GET", "/enrichment/rules/comparison", { target: shown, swap: "innerHTML" });
  } catch (problem) {
    shown.textContent = problem.message;
  }
});
