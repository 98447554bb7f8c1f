// Keeps the list of series fresh by the service's events, and acts on chosen series.
"use strict";

const connection = document.getElementById("connection");
const TRY_AGAIN_MS = 5000;
let stale = false, heard = false;

// Swapping the list would take away what somebody has chosen, so it waits until they are done.
function refresh(always) {
  const rows = document.getElementById("rows");
  const busy = rows.contains(document.activeElement) || rows.querySelector("[name=series]:checked");
  stale = !always && Boolean(busy);
  if (!stale) htmx.trigger(document.body, "lists-changed");
}

function showProgress({ jobs }) {
  for (const { job, stage, percent } of jobs) {
    const shown = document.querySelector(`.progress[data-job="${CSS.escape(job)}"]`);
    if (!shown) continue;
    shown.querySelector("progress").value = percent;
    shown.querySelector("span").textContent = stage;
  }
}

function listen() {
  const events = new EventSource(new URL("/enrichment/api/v1/events", location.origin));
  let failures = 0;
  events.addEventListener("open", () => { failures = 0; connection.hidden = true; });
  events.addEventListener("error", () => { // a stream that ends after some minutes is opened again at once
    failures += 1;
    const refused = events.readyState === EventSource.CLOSED; // the browser itself tries no more
    connection.hidden = failures < 2 && !refused;
    if (refused) setTimeout(listenAgain, TRY_AGAIN_MS);
  });
  events.addEventListener("progress", (event) => showProgress(JSON.parse(event.data)));
  events.addEventListener("changed", () => { if (heard) refresh(false); heard = true; });
}

// Not with a login that has ended: each try would count as a wrong password.
async function listenAgain() {
  const answer = await fetch(new URL(location.pathname, location.origin), { method: "HEAD" }).catch(() => null);
  if (answer && (answer.redirected || [401, 403].includes(answer.status))) {
    connection.textContent = "Your login has ended. Open this page again to log in.";
  } else listen();
}

document.addEventListener("acted", () => refresh(true));
document.addEventListener("focusout", () => setTimeout(() => stale && refresh(false)));

document.addEventListener("change", (event) => {
  if (!event.target.matches?.("[data-all]")) return;
  for (const box of document.querySelectorAll("[name=series][form=chosen]")) box.checked = event.target.checked;
});

document.addEventListener("submit", async (event) => {
  if (event.target.id !== "chosen") return;
  event.preventDefault();
  const fields = new FormData(event.target), everything = event.target.querySelector("[name=everything]:checked");
  const body = { act: fields.get("act") };
  if (everything) body.search = JSON.parse(everything.dataset.search);
  else body.series = fields.getAll("series");
  if (!everything && !body.series.length) return say("Choose at least one series.");
  try {
    const { done, not_done: notDone, problems } = await post("series/act", JSON.stringify(body));
    say(`Done with ${done} series.${notDone ? ` Not with ${notDone}: ${problems[0].message}.` : ""}`);
    refresh(true);
  } catch (problem) {
    say(`${problem.message}.`);
  }
});

listen();
