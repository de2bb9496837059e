import { browserOf, codeOf, linkOf, suiting, whereOf } from './browsers.js';
import { MESSAGES, wordingOf } from './messages.js';
import { METHODS } from './methods.js';
import { formatAmount, formatTimeLeft } from './money.js';
import { createClient, NodropError } from './nodrop.js';
import { QR_OPTIONS, qrPath } from './qr.js';
import { NEVER_SCHEMES } from './schemes.js';
import { COUNTED, ENDS, leadsBack, screenOf, showsWayBack } from './screen.js';
import { recall, remember } from './session.js';
import { TITLES } from './titles.js';
import { encode } from './uqr.js';

// The script of the cashier page. It writes all content as text and never as HTML.

/**
 * @typedef {import('./nodrop.js').PaymentForPayer} Payment
 * @typedef {import('./screen.js').Screen} Screen
 */

/**
 * Pauses between reads after the attempt has ended. Late money or another attempt of the order can still change the
 * screen.
 */
const READ_AGAIN_MS = { first: 5_000, last: 60_000 };
const HINT_AGAIN_MS = 5_000;
/**
 * A smaller difference between the clocks of the browser and the service is ignored, because the `Date` header has
 * only whole seconds.
 */
const CLOCKS_AGREE_MS = 2_000;
const ANNOUNCED_MINUTES = [5, 1];
/** Screens on which an earlier error message is removed. @type {ReadonlySet<Screen>} */
const ALERTS_END = new Set(['paid', 'telling', 'settled', 'review', 'returning', 'returned', 'gone']);
/** Screens on which the payer may choose another way to pay. @type {ReadonlySet<Screen>} */
const CHOICES = new Set(['slow', 'pay', 'outside', 'elsewhere', 'no-form', 'lapsed', 'unpaid', 'expired']);
/** Codes of refusals for which a retry does not help. Other errors may be temporary. */
const REFUSED = new Set([
  'channel_rejected',
  'unknown_channel',
  'currency_not_supported',
  'amount_not_supported',
  'payer_differs',
]);
/** Screens on which the payer can pay or start again. @type {ReadonlySet<Screen>} */
const PAYABLE = new Set(['pay', 'outside', 'elsewhere', 'no-form', 'lapsed']);

/** @template {HTMLElement} T @param {string} id @returns {T} */
const element = (id) => {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`The page has no ${id}.`);
  return /** @type {T} */ (found);
};
const title = element('title');
const detail = element('detail');
/** @type {HTMLAnchorElement} */
const pay = element('pay');
/** @type {HTMLDetailsElement} */
const qr = element('qr');
const formBox = element('form');
const loadAgain = element('load-again');
/** @type {HTMLInputElement} */
const link = element('link');
const copied = element('copied');
const iPaid = element('i-paid');
const notPaid = element('not-paid');
/** @type {HTMLAnchorElement} */
const back = element('back');
const alertBox = element('alert');

/**
 * The payment that the service rendered into this page, and the service's time at that moment. Undefined if the URL
 * had no token.
 * @type {{ now: number, payment: Payment } | undefined}
 */
const known = document.body.dataset.known === undefined ? undefined : JSON.parse(document.body.dataset.known);

/** By how many ms the service's clock is ahead of the browser's clock. */
let clockAheadMs = 0;
const now = () => Date.now() + clockAheadMs;
/** @param {number} serviceTime epoch ms */
function setClock(serviceTime) {
  const ahead = serviceTime - Date.now();
  if (!Number.isNaN(ahead)) clockAheadMs = Math.abs(ahead) < CLOCKS_AGREE_MS ? 0 : ahead;
}
if (known !== undefined) setClock(known.now);

const client = createClient({
  baseUrl: new URL('../../', import.meta.url),
  async fetch(url, init) {
    const response = await fetch(url, init);
    setClock(Date.parse(response.headers.get('date') ?? ''));
    return response;
  },
});

/** @type {'en' | 'zh'} */
let language = 'en';
let { id, session } = open();
let payment = known?.payment;
/** @type {Screen | undefined} */
let shown;
let isGone = false;
const browser = browserOf(navigator.userAgent, navigator.maxTouchPoints);
/**
 * The state of the channel's payment form on this page.
 * @type {'none' | 'not asked for' | 'mounted' | 'failed'}
 */
let form = document.body.dataset.formModule === undefined ? 'none' : 'not asked for';
/** Translates the form into the page's current language. @type {(() => void) | undefined} */
let translateForm;
/** False if the page has already been reloaded to get the payment form. Prevents a loop of reloads. */
let mayLoadForForm = session.isLoadingForForm !== true;
if (!mayLoadForForm) keep({ isLoadingForForm: false });
let isAway = false;
let isSwitching = false;
/** True once the page has started. From then on, its URL contains the token only if another browser needs the token. */
let hasBegun = false;
let owesHint = false;
/** @type {keyof typeof MESSAGES.en | undefined} */
let alerted;
let qrText = '';
let waiting = new AbortController();
/** Time left to pay at the last tick, in ms. @type {number | undefined} */
let leftBefore;

/** Reads payment id, token and language from the URL, and stores token and language for this tab. */
function open() {
  const paymentId = location.pathname.split('/').pop() ?? '';
  const query = new URLSearchParams(location.search);
  const chosen = query.get('lang');
  if (chosen === 'en' || chosen === 'zh') remember('language', chosen);
  language = (recall('language') ?? document.documentElement.lang).startsWith('zh') ? 'zh' : 'en';
  const known = recall(paymentId);
  /** @type {import('./session.js').Session} */
  const opened = known === undefined ? {} : JSON.parse(known);
  const token = query.get('token');
  if (token !== null) {
    opened.token = token;
    opened.hasEnded = false;
    opened.subject = document.body.dataset.subject ?? opened.subject;
    opened.returnUrl = document.body.dataset.returnUrl ?? opened.returnUrl;
  }
  // The payer returned from the wallet, either through the wallet's return URL or with the browser's back button.
  if (query.has('returned') || opened.leftForWallet) opened.mayHavePaid = true;
  return { id: paymentId, session: opened };
}

/** @param {Partial<import('./session.js').Session>} changes */
function keep(changes) {
  session = { ...session, ...changes };
  remember(id, JSON.stringify(session));
}

/**
 * Follows the payment until the payment is final. After that, the page still reads the payment until the screen is
 * final.
 */
async function follow() {
  waiting.abort();
  const mine = new AbortController();
  waiting = mine;
  const options = { token: session.token ?? '', signal: mine.signal };
  try {
    await client.waitForResult(id, {
      ...options,
      onUpdate: (update) => mine.signal.aborted || show(update),
      onConnection: (connection) => {
        if (mine.signal.aborted) return;
        isAway = connection === 'away';
        if (!isAway && owesHint) void hint();
        draw();
      },
    });
    let pause = READ_AGAIN_MS.first;
    for (; !ENDS.has(screen()); pause = Math.min(pause * 2, READ_AGAIN_MS.last)) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (mine.signal.aborted) return;
      // A hidden page does not read the payment. When the page becomes visible, `cameBack` follows the payment again.
      if (document.visibilityState === 'visible') await readOnce(options);
    }
  } catch (error) {
    if (mine.signal.aborted) return;
    if (!(error instanceof NodropError)) throw error;
    end();
  }
}

/**
 * Reads the payment once. If the service cannot be reached, the page stays unchanged.
 * @param {{ token: string, signal: AbortSignal }} options
 */
async function readOnce(options) {
  try {
    const update = await client.getPayment(id, options);
    if (!options.signal.aborted) show(update);
  } catch (error) {
    if (error instanceof NodropError && [401, 403, 404].includes(error.status ?? 0)) throw error;
  }
}

/** Sends a hint that the payer may have paid. Retries until the service accepts the hint. */
async function hint() {
  owesHint = true;
  const hinted = id;
  try {
    await client.hint(hinted, { token: session.token ?? '' });
    owesHint = false;
  } catch (error) {
    if (error instanceof NodropError && (error.status ?? 500) < 500) owesHint = false;
    else if (!isAway) setTimeout(() => owesHint && hinted === id && void hint(), HINT_AGAIN_MS);
  }
}

/**
 * Shows that the token does not open the payment, or that the page has no token. The link back to the shop stays
 * visible.
 */
function end() {
  isGone = true;
  const { token, returnUrl } = session;
  // After a reload, `hasEnded` shows that the token has expired. A page opened from a copied URL never had a token, so
  // it shows a different text.
  if (token !== undefined) session = { ...session, hasEnded: true };
  if (session.hasEnded) remember(id, JSON.stringify({ returnUrl, hasEnded: true }));
  draw();
}

/** @param {Payment} update */
function show(update) {
  if (payment?.id === update.id) {
    // Ignore an outdated answer. An answer is outdated if it shows an ended payment as live, or a paid order as unpaid.
    if (!isLive(payment) && isLive(update)) return;
    if (payment.orderState === 'paid') update = { ...update, orderState: 'paid' };
  }
  payment = update;
  const returnUrl = update.backUrl ?? undefined;
  if (returnUrl !== session.returnUrl) keep({ returnUrl });
  if (update.status !== 'created' && update.status !== 'paying') owesHint = false;
  draw();
}

/**
 * The payer came back to this page. The page opens a new connection for the payment's changes. The old connection may
 * be dead, or may not report other attempts of the order.
 */
function cameBack() {
  if (session.leftForWallet) keep({ leftForWallet: false, mayHavePaid: true });
  draw();
  if (isSwitching) return;
  if (payment === undefined || isLive(payment)) void hint();
  void follow();
}

/** @param {Payment} of */
const isLive = ({ status }) => status === 'created' || status === 'paying';

/** @param {{ channel: string, method?: string }} to */
async function switchTo(to) {
  if (isSwitching) return;
  isSwitching = true;
  alerted = undefined;
  draw();
  try {
    const made = await client.switchChannel(id, to, { token: session.token ?? '' });
    const { subject } = session;
    id = made.id;
    session = {};
    // The new attempt has its own return URL, because that URL contains the id of the new payment.
    keep({ token: made.clientToken, subject, returnUrl: made.backUrl ?? undefined });
    history.replaceState(null, '', encodeURIComponent(id));
    payment = made;
    mayLoadForForm = true;
    leftBefore = undefined;
    element('announcement').textContent = '';
    void follow();
  } catch (error) {
    const code = error instanceof NodropError ? error.code : undefined;
    if (code === 'attempt_unresolved' || code === 'order_already_paid') {
      // Set the order state from the refusal now. The service may send its next update later.
      const orderState = code === 'order_already_paid' ? 'paid' : 'undecided';
      if (payment !== undefined) payment = { ...payment, orderState };
      if (code === 'attempt_unresolved') alerted = 'switchUnresolved';
      keep({ mayHavePaid: true });
      void hint();
      void follow();
    } else if (code === 'order_not_payable') alerted = 'switchNotPayable';
    else alerted = REFUSED.has(code ?? '') ? 'switchRefused' : 'switchFailed';
  } finally {
    isSwitching = false;
    draw();
  }
}

function texts() {
  const text = MESSAGES[language];
  const locale = language === 'zh' ? 'zh-Hans' : 'en';
  return {
    text,
    locale,
    titleOf: (/** @type {string} */ channel) => TITLES[channel]?.[language] ?? channel,
    amountOf: (/** @type {number} */ amount) => formatAmount(amount, payment?.currency ?? ''),
  };
}

const where = () => (payment === undefined ? 'here' : whereOf(payment, browser, METHODS));

/** @returns {Screen} */
function screen() {
  // A paid payment is still shown as paid after the token has expired.
  if (isGone && payment?.status !== 'succeeded') return 'gone';
  if (isSwitching && payment?.status !== 'succeeded') return 'preparing';
  if (payment === undefined) return session.mayHavePaid ? 'asking' : 'loading';
  const of = screenOf(payment, { now: now(), mayHavePaid: session.mayHavePaid === true, where: where() });
  if (of !== 'elsewhere' || form === 'none' || known?.payment.id !== id) return of;
  return form === 'failed' ? 'no-form' : 'pay';
}

/** @param {Screen} of @returns {readonly string[]} title and detail of the screen */
function wording(of) {
  const { text, amountOf, titleOf } = texts();
  const { screens } = text;
  if (of === 'preparing' && isSwitching) return screens.switching;
  // The page was opened without a token, for example from a copied URL.
  if (of === 'gone' && !session.hasEnded) return screens.private;
  return payment === undefined
    ? screens[of]
    : wordingOf(text, of, payment, amountOf, titleOf(payment.channel), where(), browser === 'desktop');
}

/** Updates the page. Changes only texts that differ, so that screen readers do not repeat them. */
function draw() {
  const { text, locale, amountOf } = texts();
  const current = screen();
  const focused = document.activeElement;
  document.documentElement.lang = locale;
  document.body.dataset.screen = current;

  const [heading = '', explanation = ''] = wording(current);
  write(title, heading);
  write(detail, explanation);
  const amount = payment === undefined ? '' : amountOf(payment.amount);
  write(element('amount'), amount);
  // The amount must fit on one line. An amount that is split over two lines would look like two numbers.
  element('amount').style.setProperty('--length', String(amount.length));
  for (const part of ['header', 'number']) element(part).hidden = isGone && payment === undefined;
  write(element('subject'), session.subject ?? '');
  write(element('caption'), text.documentTitle);
  document.title = [heading, amount].filter((part) => part !== '').join(' · ');
  write(element('number'), payment === undefined ? '' : `${text.payment} ${payment.id}`);
  write(element('connection'), isAway && !isGone ? text.away : '');
  if (ALERTS_END.has(current) || (alerted === 'switchUnresolved' && current !== 'asking'))
    alerted = undefined;
  const said = alerted === undefined ? '' : text[alerted];
  write(alertBox, typeof said === 'string' ? said : '');
  const languageButton = element('language');
  write(languageButton, text.otherLanguage);
  languageButton.lang = language === 'zh' ? 'en' : 'zh-Hans';
  languageButton.hidden = false;

  const payUrl = current === 'pay' && payment !== undefined ? linkOf(payment, browser, METHODS) : undefined;
  pay.hidden = payUrl === undefined;
  if (payUrl !== undefined && payment !== undefined) {
    pay.href = payUrl;
    write(pay, text.pay(amount));
  }
  const all = waysOf(current);
  // Offer first another method of the same channel that works in this browser.
  const better = current === 'outside' ? all.find(({ channel }) => channel === payment?.channel) : undefined;
  const ways = better === undefined ? all : [better, ...all.filter((way) => way !== better)];
  drawHandOver(current, better === undefined);
  drawQr(current, payUrl === undefined && better === undefined);

  drawForm(current);
  loadAgain.hidden = current !== 'no-form';
  write(loadAgain, text.loadAgain);
  const canStillPay =
    payment !== undefined && PAYABLE.has(screenOf(payment, { now: now(), mayHavePaid: false }));
  iPaid.hidden = isGone || !(PAYABLE.has(current) || current === 'asking');
  write(iPaid, current === 'asking' ? text.askAgain : text.iPaid);
  notPaid.hidden = !(current === 'asking' && canStillPay);
  write(notPaid, text.notPaid);
  drawOthers(current, ways, better);

  const { returnUrl } = session;
  back.hidden = !showsWayBack(current, returnUrl, NEVER_SCHEMES);
  if (leadsBack(returnUrl, NEVER_SCHEMES)) back.href = returnUrl;
  // The link back to the shop is the main button if the payer can do nothing else on this screen.
  const isWayOn = ways.length === 0 && current !== 'asking' && current !== 'outside';
  back.classList.toggle('main', current === 'elsewhere' || isWayOn);
  write(back, text.back);

  shown = current;
  tick();
  // If the focused element has disappeared, move the focus to the title.
  if (focused !== null && focused !== document.body && !isVisible(focused)) title.focus();
}

/** @param {Element} of */
const isVisible = (of) => of.isConnected && of.getClientRects().length > 0;

/** @param {HTMLElement} where @param {string} what */
function write(where, what) {
  if (where.textContent !== what) where.textContent = what;
}

/**
 * Shows the channel's payment form. A form needs its own Content-Security-Policy. The service sends that policy only if
 * the URL has the token and the payment can be paid in the form. If the current page came without that policy, it
 * reloads with the token.
 * @param {Screen} current
 */
function drawForm(current) {
  const { formModule, formScript } = document.body.dataset;
  const params = payment?.nextAction?.type === 'sdk' ? payment.nextAction.params : undefined;
  const mayHaveForm = known?.payment.id === id && known.payment.nextAction?.type === 'sdk';
  if (current === 'elsewhere' && params !== undefined && !mayHaveForm && session.token && mayLoadForForm) {
    loadForForm();
    return;
  }
  formBox.hidden = current !== 'pay' || params === undefined;
  if (formBox.hidden || formModule === undefined) return;
  translateForm?.();
  if (form !== 'not asked for') return;
  form = 'mounted';
  const what = {
    container: formBox,
    /** This is a getter, because nodrop may replace an expired next action with a new one. */
    get params() {
      return payment?.nextAction?.params ?? {};
    },
    scriptUrl: formScript,
    get language() {
      return language;
    },
    get payText() {
      const { text, amountOf } = texts();
      return text.pay(amountOf(payment?.amount ?? 0));
    },
    returnUrl: new URL('?returned=1', location.href).href,
    onSubmitted() {
      keep({ mayHavePaid: true });
      draw();
      void hint();
    },
  };
  import(formModule)
    .then(async ({ mount }) => {
      translateForm = await mount(what);
      draw();
    })
    .catch(() => {
      form = 'failed';
      draw();
    });
}

/** Reloads the page with its token. The service then sends the Content-Security-Policy that the payment form needs. */
function loadForForm() {
  keep({ isLoadingForForm: true });
  location.replace(`?${new URLSearchParams({ token: session.token ?? '' })}`);
}

/** True while the page's URL must contain the token. A wallet's app may then open this URL in another browser. */
const isTokenInAddress = () =>
  document.body.dataset.screen === 'outside' && where() === 'browser' && session.token !== undefined;

/**
 * Shows what the payer needs to open this page in another browser or on another device.
 * @param {Screen} current
 * @param {boolean} isOnlyWay
 */
function drawHandOver(current, isOnlyWay) {
  const { text } = texts();
  const isOutside = current === 'outside' && session.token !== undefined;
  element('hand-over').hidden = !isOutside;
  write(element('copy'), text.copy);
  element('copy').classList.toggle('main', isOnlyWay && where() !== 'scan');
  link.setAttribute('aria-label', text.link);
  link.value = isOutside ? addressOfPage() : '';
  if (isTokenInAddress()) {
    if (location.href !== link.value) history.replaceState(null, '', link.value);
  } else if (hasBegun) hideToken();
  if (isOutside) {
    if (copied.textContent !== '') write(copied, text.copied);
    return;
  }
  write(copied, '');
  link.hidden = true;
}

function hideToken() {
  if (location.search !== '') history.replaceState(null, '', location.pathname);
}

/** The URL of this page with the token and the chosen language. */
function addressOfPage() {
  const chosen = recall('language');
  const query = new URLSearchParams({
    token: session.token ?? '',
    ...(chosen === undefined ? {} : { lang: chosen }),
  });
  return new URL(`?${query}`, location.href).href;
}

async function copyAddress() {
  try {
    await navigator.clipboard.writeText(link.value);
    write(copied, texts().text.copied);
  } catch {
    // Most in-app browsers give no access to the clipboard. So the page shows the link in a field, and the payer copies
    // it by hand.
    link.hidden = false;
    link.focus();
    link.select();
  }
}

/**
 * Shows the QR code of the payment, or of this page if the payer should open it on a phone.
 * @param {Screen} current
 * @param {boolean} isOnlyWay true if the code is the only way to pay here
 */
function drawQr(current, isOnlyWay) {
  const { text, titleOf } = texts();
  const isShown = current === 'pay' || current === 'outside';
  const own = isShown && payment !== undefined ? codeOf(payment, METHODS) : undefined;
  const isOfPage = current === 'outside' && own === undefined && browser === 'desktop';
  const content = isOfPage ? link.value : own;
  qr.hidden = content === undefined;
  if (content === undefined || payment === undefined) return;
  const summary = qr.querySelector('summary');
  const isDeclared = METHODS[payment.channel]?.[payment.method] !== undefined;
  const said = isDeclared ? text.scanWith(titleOf(payment.channel)) : text.qr;
  const ofPage = where() === 'wechat' ? text.pageQrWechat : text.pageQr;
  if (summary !== null) write(summary, isOfPage ? ofPage : said);
  if (content !== qrText) {
    qrText = content;
    const image = qrImage(content);
    element('qr-code').textContent = '';
    element('qr-code').append(image);
    // On a phone, the QR code is folded, because the payer uses the wallet on that phone. On a larger screen, the code
    // is open, because the payer scans it.
    qr.open = isOnlyWay || matchMedia('(min-width: 48rem)').matches;
  }
  qr.querySelector('svg')?.setAttribute('aria-label', isOfPage ? text.pageQrLabel : text.qrLabel);
}

/** @param {string} content */
function qrImage(content) {
  const { data, size } = encode(content, QR_OPTIONS);
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', `0 0 ${size} ${size}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('shape-rendering', 'crispEdges');
  const dark = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  dark.setAttribute('d', qrPath(data));
  svg.append(dark);
  return svg;
}

/** The ways to pay that the payer may switch to on this screen. @param {Screen} current */
function waysOf(current) {
  if (payment === undefined || !CHOICES.has(current)) return [];
  const { channel, method, switchTo } = payment;
  const suitable = suiting(switchTo, { channel, method }, browser, METHODS);
  const others = suitable.filter((way) => way.channel !== channel || way.method !== method);
  // If the way to pay has expired, the payer may start it again.
  return current === 'lapsed' ? [{ channel, method }, ...others] : suitable;
}

/**
 * @param {Screen} current
 * @param {ReturnType<typeof waysOf>} ways
 * @param {ReturnType<typeof waysOf>[number] | undefined} best the way that gets the main button
 */
function drawOthers(current, ways, best) {
  const { text, titleOf } = texts();
  const others = element('others');
  others.hidden = ways.length === 0;
  write(element('others-title'), COUNTED.has(current) ? text.others : text.tryAgain);
  const channels = element('channels');
  const names = ways.map(({ channel, method }) => `${channel} ${method ?? ''}`).join('|');
  if (channels.dataset.ways !== names) {
    channels.dataset.ways = names;
    channels.textContent = '';
    channels.append(
      ...ways.map((way) => {
        const button = document.createElement('button');
        button.type = 'button';
        button.addEventListener('click', () => void switchTo(way));
        return button;
      }),
    );
  }
  ways.forEach(({ channel, method }, index) => {
    const button = channels.children[index];
    if (!(button instanceof HTMLButtonElement)) return;
    button.classList.toggle('main', best?.channel === channel && best.method === method);
    write(button, nameOf({ channel, method }, ways, { text, title: titleOf(channel) }));
  });
}

/**
 * Returns the label of a way to pay. The label is the channel's title. If the channel has several ways to pay, the
 * label also names the method or says that the payer scans a code.
 * @param {{ channel: string, method: string }} way
 * @param {ReturnType<typeof waysOf>} ways
 * @param {{ text: typeof MESSAGES.en, title: string }} words
 */
function nameOf({ channel, method }, ways, { text, title }) {
  const same = [...ways.filter((way) => way.channel === channel)];
  const declared = METHODS[channel]?.[method];
  if (declared === undefined) return same.length === 1 ? title : `${title} (${method})`;
  if (same.length === 1 && payment?.channel !== channel) return title;
  const isCode = (/** @type {string} */ of) => METHODS[channel]?.[of]?.action === 'qr';
  if (same.filter((way) => isCode(way.method) === isCode(method)).length > 1) return `${title} (${method})`;
  return isCode(method) ? text.byCode(title) : text.onDevice(title);
}

/** Updates the countdown, and announces the last minutes to screen readers. */
function tick() {
  const isCounting = payment !== undefined && shown !== undefined && COUNTED.has(shown);
  element('countdown').hidden = !isCounting;
  if (!isCounting || payment === undefined) return;
  const { text } = texts();
  const left = Date.parse(payment.expiresAt) - now();
  write(element('countdown-label'), text.timeLeft);
  write(element('time-left'), formatTimeLeft(left));
  const before = leftBefore ?? left;
  leftBefore = left;
  for (const minutes of ANNOUNCED_MINUTES)
    if (left <= minutes * 60_000 && before > minutes * 60_000)
      element('announcement').textContent = text.minutesLeft(minutes);
}

// A click with another mouse button and the context menu can open the wallet in another tab. So the page handles them
// like a press of the pay button.
for (const way of ['click', 'auxclick', 'contextmenu'])
  pay.addEventListener(way, () => keep({ leftForWallet: true }));
iPaid.addEventListener('click', () => {
  alerted = undefined;
  keep({ mayHavePaid: true });
  draw();
  void hint();
  if (payment !== undefined && !isLive(payment)) void follow();
});
notPaid.addEventListener('click', () => {
  alerted = undefined;
  keep({ mayHavePaid: false, leftForWallet: false });
  draw();
});
element('language').addEventListener('click', () => {
  language = language === 'zh' ? 'en' : 'zh';
  remember('language', language);
  draw();
});
loadAgain.addEventListener('click', loadForForm);
element('copy').addEventListener('click', () => void copyAddress());
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible' && !isGone) cameBack();
});
addEventListener('pageshow', ({ persisted }) => {
  if (persisted && !isGone) cameBack();
});
setInterval(
  () => (payment !== undefined && shown !== undefined && screen() !== shown ? draw() : tick()),
  1_000,
);

if (session.token === undefined) end();
else {
  keep({ leftForWallet: false });
  draw();
  if (session.mayHavePaid) void hint();
  void follow();
}

// Remove the token from the URL only now, after the page has started without an error. If this script fails earlier,
// `without.js` shows the page for browsers without scripts. That page needs the token in its URL to reload.
hasBegun = true;
if (!isTokenInAddress()) hideToken();
document.documentElement.setAttribute('data-runs', '');
