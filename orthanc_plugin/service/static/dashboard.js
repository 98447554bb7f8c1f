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
    if (fresh && fresh.innerHTML !== content.innerHTML && !content.contains(document.activeElement)) content.replaceWith(fresh);
    connection.hidden = true;
  } catch {
    connection.hidden = false;
  }
}

document.addEventListener("click", async (event) => {
  const job = event.target.dataset?.retry;
  if (!job) return;
  event.target.disabled = true;
  const answer = await fetch(`/enrichment/api/v1/jobs/${encodeURIComponent(job)}/retry`, { method: "POST" });
  event.target.blur();
  if (answer.ok) await refresh();
  else event.target.textContent = (await answer.json().catch(() => null))?.error?.message ?? "failed";
});

setInterval(() => document.hidden || refresh(), REFRESH_MS);
