// Keeps the page fresh: fetches it again and swaps the content, so that the server alone renders (and escapes) it.
"use strict";

const REFRESH_MS = 5000;

async function refresh() {
  const connection = document.getElementById("connection");
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("content");
    const content = document.getElementById("content");
    const inUse = content.contains(document.activeElement); // swapping would take the keyboard's place away
    if (fresh && !inUse && fresh.innerHTML !== content.innerHTML) content.replaceWith(fresh);
    connection.hidden = true;
  } catch {
    connection.hidden = false;
  }
}

async function act(button, name, body) {
  button.disabled = true;
  // Absolute: a page opened as http://user:password@host would make a relative address one that fetch refuses.
  const address = new URL(`/enrichment/api/v1/${name}`, location.origin);
  const answer = await fetch(address, { method: "POST", body });
  document.activeElement?.blur();
  if (answer.ok) await refresh();
  else button.textContent = (await answer.json().catch(() => null))?.error?.message ?? "failed";
  return answer.ok;
}

document.addEventListener("click", (event) => {
  const { act: name, confirm: question } = event.target.closest?.("button")?.dataset ?? {};
  if (name && (!question || confirm(question))) act(event.target, name);
});

document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const done = await act(form.querySelector("button"), form.dataset.act, JSON.stringify(Object.fromEntries(new FormData(form))));
  form.querySelector("button").disabled = false;
  if (done) form.reset();
});

setInterval(() => document.hidden || refresh(), REFRESH_MS);
