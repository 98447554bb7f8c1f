// What people do on pages: act on jobs, copy tables, look up a patient. The server alone renders, and escapes, what pages show.
"use strict";

// Absolute: a page opened as http://user:password@host would make a relative address one that fetch refuses.
const api = (name) => new URL(`/enrichment/api/v1/${name}`, location.origin);
const say = (text) => { document.getElementById("said").textContent = text; };

const tell = (problem) => say(`${problem.message[0].toUpperCase()}${problem.message.slice(1)}.`);

// The API answers with JSON; the gate, which stands before it, with a sentence.
function messageOf(said) {
  try { return JSON.parse(said).error.message; } catch { return null; }
}

async function post(name, body) {
  const answer = await fetch(api(name), { method: "POST", body }).catch(() => {
    throw new Error("the service does not answer: check the network, reload the page, and see what was done");
  });
  if (answer.ok) return answer.json();
  const said = await answer.text();
  throw new Error(messageOf(said) ?? (said.trim().replace(/\.$/, "") || `the service answered ${answer.status}`));
}

async function act(button, name, body) {
  button.disabled = true;
  try {
    const answer = await post(name, body);
    if (button.dataset.done && answer.done) return say(button.dataset.done), true;
    if (button.dataset.say) return say(`${button.dataset.say} ${answer.answer}.`), true;
    document.dispatchEvent(new CustomEvent("acted"));
    if (!document.querySelector("[data-live]")) location.reload();
    return true;
  } catch (problem) {
    tell(problem);
    return false;
  } finally {
    button.disabled = false;
  }
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("The browser does not allow to copy here.");
  }
  button.focus();
}

const asText = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim().replace(/\s+/g, " ")).join("\t")).join("\n");

async function showPatient(button) {
  button.disabled = true;
  try {
    const { names: archive, study, series } = button.dataset;
    const found = await post("patients", JSON.stringify({ archive, study_instance_uid: study, series_instance_uid: series }));
    const text = document.createElement("strong");
    text.className = "patient";
    // Each value for itself: beside a name that is written from right to left, numbers would change places.
    const values = [found.patient_name, found.patient_id, found.birth_date, found.sex, found.accession_number].filter(Boolean);
    text.append(...values.flatMap((value, n) => {
      const alone = document.createElement("bdi");
      alone.textContent = value;
      return n ? [" · ", alone] : [alone];
    }));
    if (!values.length) text.textContent = "The archive names no patient.";
    button.replaceWith(text);
  } catch (problem) {
    button.disabled = false;
    tell(problem);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button");
  if (!button) return;
  const { act: name, copy: table, copyText, names, confirm: question } = button.dataset;
  if (name && question && !confirm(question)) return;
  if (name) act(button, name, button.dataset.body);
  else if (table) copy(asText(document.querySelector(table)), button);
  else if (copyText) copy(copyText, button);
  else if (names) showPatient(button);
});

// Forms that order something; forms without data-act search, and work without this script.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.act) return;
  event.preventDefault();
  const fields = new FormData(form, event.submitter);
  const button = event.submitter ?? form.querySelector("button");
  if (await act(button, form.dataset.act, JSON.stringify(Object.fromEntries(fields)))) form.reset();
});
