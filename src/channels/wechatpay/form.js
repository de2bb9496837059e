// Shows the button that opens WeChat Pay in WeChat's own browser. The button calls `getBrandWCPayRequest`
// (https://pay.weixin.qq.com/doc/v3/merchant/4012791857). Only WeChat's browser has the JavaScript bridge.

/** How long the script waits for WeChat's JavaScript bridge after the payer has pressed the button. */
const BRIDGE_WITHIN_MS = 5_000;

const TEXTS = {
  en: {
    cancelled: 'WeChat says that you have not paid. You can try again.',
    failed: 'WeChat did not open the payment. Please try again.',
  },
  zh: {
    cancelled: '微信提示您尚未付款，可以重试。',
    failed: '微信未能打开支付，请重试。',
  },
};

/**
 * @param {object} what
 * @param {HTMLElement} what.container empty
 * @param {Readonly<Record<string, string>>} what.params the parameters of the next action
 * @param {'en' | 'zh'} what.language
 * @param {string} what.payText
 * @param {() => void} what.onSubmitted called when the payer has paid or may have paid
 * @returns a function that updates the form's texts to the page's language
 */
export function mount(what) {
  const problem = document.createElement('p');
  problem.setAttribute('role', 'alert');
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'main';
  /** @type {keyof typeof TEXTS.en | undefined} */
  let said;
  const translate = () => {
    button.textContent = what.payText;
    problem.textContent = said === undefined ? '' : TEXTS[what.language][said];
  };
  const enable = () => {
    button.disabled = document.visibilityState === 'hidden';
  };
  button.addEventListener('click', async () => {
    button.disabled = true;
    // WeChat may never answer. A payer who returns to the page can press the button again.
    document.addEventListener('visibilitychange', enable);
    said = undefined;
    translate();
    const answer = await pay({ ...what.params });
    document.removeEventListener('visibilitychange', enable);
    enable();
    if (answer === 'cancel') said = 'cancelled';
    else if (answer === 'no bridge' || answer === 'fail') said = 'failed';
    // If WeChat reports `ok` or an unknown text, the payer may have paid. Only WeChat Pay's answer to nodrop shows
    // whether the payer has paid.
    else what.onSubmitted();
    translate();
  });
  translate();
  what.container.append(problem, button);
  return translate;
}

/**
 * @param {Record<string, string>} params
 * @returns {Promise<string>} the text after `get_brand_wcpay_request:` in WeChat's answer, or `no bridge`
 */
function pay(params) {
  return new Promise((resolve) => {
    const invoke = () => {
      clearTimeout(tooLate);
      const answered = (/** @type {{ err_msg?: string }} */ { err_msg = '' }) =>
        resolve(err_msg.replace('get_brand_wcpay_request:', ''));
      try {
        Reflect.get(globalThis, 'WeixinJSBridge').invoke('getBrandWCPayRequest', params, answered);
      } catch {
        resolve('fail');
      }
    };
    const tooLate = setTimeout(() => {
      document.removeEventListener('WeixinJSBridgeReady', invoke);
      resolve('no bridge');
    }, BRIDGE_WITHIN_MS);
    if (Reflect.has(globalThis, 'WeixinJSBridge')) invoke();
    else document.addEventListener('WeixinJSBridgeReady', invoke, { once: true });
  });
}
