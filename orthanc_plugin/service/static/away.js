// Opens the page again as soon as Orthanc responds. A refresh by the page itself would take the place of a reader.
"use strict";

const UNAVAILABLE = 503;
const here = new URL(location.pathname + location.search, location.origin); // without a login that the address may hold

setInterval(async () => {
  const answer = await fetch(here, { method: "HEAD" }).catch(() => null);
  if (answer && answer.status !== UNAVAILABLE) location.reload();
}, 1000 * document.querySelector("[data-retry-s]").dataset.retryS);
