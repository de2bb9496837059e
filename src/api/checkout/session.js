/**
 * What this tab remembers of a payment, so that a reload and the way back from the wallet find it.
 *
 * @typedef {object} Session
 * @property {string | undefined} [token]
 * @property {string | undefined} [subject]
 * @property {string | undefined} [returnUrl]
 * @property {boolean} [leftForWallet] the pay button was pressed
 * @property {boolean} [hasEnded] the token opened the payment, and opens nothing any more
 * @property {boolean} [isLoadingForForm] the page is being loaded anew, as the payer's next action may be a form
 * @property {boolean} [mayHavePaid] since then the payer came back, or said so
 */

// Browsers may refuse the storage. The page then works until it is loaded anew.

/** @param {string} name */
const keyOf = (name) => `nodrop:${name}`;

/** @param {string} name */
export function recall(name) {
  try {
    return sessionStorage.getItem(keyOf(name)) ?? undefined;
  } catch {
    return undefined;
  }
}

/** @param {string} name @param {string} value */
export function remember(name, value) {
  try {
    sessionStorage.setItem(keyOf(name), value);
  } catch {}
}
