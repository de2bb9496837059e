/**
 * The data that the browser tab stores about a payment. The page needs it after a reload and after the return from the
 * wallet.
 *
 * @typedef {object} Session
 * @property {string | undefined} [token]
 * @property {string | undefined} [subject]
 * @property {string | undefined} [returnUrl]
 * @property {boolean} [leftForWallet] the payer pressed the pay button
 * @property {boolean} [hasEnded] the token no longer opens the payment
 * @property {boolean} [isLoadingForForm] the page is being reloaded, because the payer's next action may be a form
 * @property {boolean} [mayHavePaid] the payer came back from the wallet, or pressed "I have paid"
 */

// The browser may deny access to its storage. The page then works only until it is reloaded.

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
