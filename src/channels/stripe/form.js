// Shows Stripe's Payment Element in the cashier page (https://docs.stripe.com/payments/accept-a-payment). The payer's
// input stays in Stripe's frames.

/**
 * @typedef {{ mount(place: Element): void }} StripeElement
 * @typedef {{ create(type: 'payment'): StripeElement }} StripeElements
 * @typedef {object} StripeKit
 * @property {(options: { clientSecret: string }) => StripeElements} elements
 * @property {(what: object) => Promise<{ error?: { message?: string } }>} confirmPayment
 */

/**
 * @param {object} what
 * @param {HTMLElement} what.container empty
 * @param {Readonly<Record<string, string>>} what.params the parameters of the next action
 * @param {string} what.scriptUrl
 * @param {string} what.language
 * @param {string} what.payText
 * @param {string} what.returnUrl where the payer returns after a redirect
 * @param {() => void} what.onSubmitted called when the payer has paid or may have paid
 * @returns a function that updates the form's texts to the page's language
 */
export async function mount(what) {
  const { container, params, scriptUrl, language, returnUrl, onSubmitted } = what;
  await load(scriptUrl);
  /** @type {(key: string, options: object) => StripeKit} */
  const start = Reflect.get(globalThis, 'Stripe');
  const stripe = start(params.publishable_key ?? '', { locale: language });
  const elements = stripe.elements({ clientSecret: params.client_secret ?? '' });
  const place = document.createElement('div');
  const problem = document.createElement('p');
  problem.setAttribute('role', 'alert');
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'main';
  const translate = () => {
    button.textContent = what.payText;
  };
  translate();
  button.addEventListener('click', async () => {
    button.disabled = true;
    problem.textContent = '';
    const confirming = { elements, confirmParams: { return_url: returnUrl }, redirect: 'if_required' };
    // If Stripe does not answer, the payer may have paid.
    const { error } = await stripe.confirmPayment(confirming).catch(() => ({ error: undefined }));
    button.disabled = false;
    if (error === undefined) onSubmitted();
    else problem.textContent = error.message ?? '';
  });
  container.append(place, problem, button);
  elements.create('payment').mount(place);
  return translate;
}

/** The script must load within this time. If a network blocks Stripe, the browser often reports no error. */
const LOADED_WITHIN_MS = 20_000;

/** @param {string} url @returns {Promise<void>} */
function load(url) {
  return new Promise((resolve, reject) => {
    const fail = () => reject(new Error(`${url} was not loaded`));
    const script = document.createElement('script');
    script.src = url;
    script.addEventListener('load', () => resolve());
    script.addEventListener('error', fail);
    setTimeout(fail, LOADED_WITHIN_MS);
    document.head.append(script);
  });
}
