// On an order's page: waits until the shop knows something new, and shows it. Without this the page works by reload.

/** Between two questions that were not answered. */
const PAUSE_MS = 3_000;
/** The shop holds an answer for 25 s at most: one that takes longer never comes, as its connection is gone. */
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

/** Resolves when somebody looks at the page. */
async function seen() {
  while (document.visibilityState === 'hidden') {
    await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }));
  }
}

async function refresh() {
  // What the address says was told once.
  const response = await get(location.pathname);
  const fresh = new DOMParser().parseFromString(await response.text(), 'text/html');
  document.title = fresh.title;
  for (const id of ['state', 'actions']) {
    const [shown, next] = [document.getElementById(id), fresh.getElementById(id)];
    if (shown === null || next === null) continue;
    // The element stays: screen readers announce what changes inside it.
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
    // Also without news of the shop's own, as what it reads from nodrop may have changed; a notice stays until there is.
    if (isNewAnswer || document.querySelector('.notice') === null) await refresh();
    if (!isNewAnswer) await pause(PAUSE_MS);
  } catch {
    await pause(PAUSE_MS);
  }
}
