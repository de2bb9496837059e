// On an order's page: waits for a change of the order and shows it. Without this script the customer reloads the page.

/** The pause after a request that failed. */
const PAUSE_MS = 3_000;
/**
 * Timeout of a request. The shop holds an answer for at most 25 s. If no answer comes in this time, the connection is
 * dead.
 */
const ANSWER_MS = 35_000;

const order = document.querySelector('[data-order]')?.getAttribute('data-order');

/** @param {Document} page */
const revisionOf = (page) => page.getElementById('state')?.getAttribute('data-revision') ?? '';

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {string} path */
async function get(path) {
  const response = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS) });
  if (!response.ok) throw new Error(`answered ${response.status}`);
  return response;
}

/** Resolves when the page is visible. */
async function seen() {
  while (document.visibilityState === 'hidden') {
    await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }));
  }
}

async function refresh() {
  // Reads the page without its query string. The query string names a sentence that the page shows only once.
  const response = await get(location.pathname);
  const fresh = new DOMParser().parseFromString(await response.text(), 'text/html');
  document.title = fresh.title;
  for (const id of ['state', 'actions']) {
    const [shown, next] = [document.getElementById(id), fresh.getElementById(id)];
    if (shown === null || next === null) continue;
    // Keep the element and replace only its content, because screen readers announce changes inside the element.
    if (shown.innerHTML !== next.innerHTML) shown.replaceChildren(...next.childNodes);
    shown.setAttribute('data-revision', next.getAttribute('data-revision') ?? '');
  }
}

for (;;) {
  await seen();
  try {
    const response = await get(`/orders/${order}/revision?seen=${revisionOf(document)}`);
    const { revision } = await response.json();
    const isNewAnswer = String(revision) !== revisionOf(document);
    // Refresh even without a new revision, because nodrop's report of the order may have changed. While the page shows
    // a one-time sentence, refresh only for a new revision, because a refresh removes the sentence.
    if (isNewAnswer || document.querySelector('.notice') === null) await refresh();
    if (!isNewAnswer) await pause(PAUSE_MS);
  } catch {
    await pause(PAUSE_MS);
  }
}
