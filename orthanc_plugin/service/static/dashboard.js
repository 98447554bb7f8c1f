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

document.addEventListener("click", async (event) => {
  const act = event.target.dataset?.act;
  if (!act) return;
  event.target.disabled = true;
  // Absolute: a page opened as http://user:password@host would make a relative address one that fetch refuses.
  const address = new URL(`/enrichment/api/v1/${act}`, location.origin);
  const answer = await fetch(address, { method: "POST" });
  event.target.blur();
  if (answer.ok) await refresh();
  else event.target.textContent = (await answer.json().catch(() => null))?.error?.message ?? "failed";
});

setInterval(() => document.hidden || refresh(), REFRESH_MS);
