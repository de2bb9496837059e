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

// The cashier page. It shows what the service says and texts of its own, as text alone: nothing is ever read as HTML.

/**
 * @typedef {import('./nodrop.js').PaymentForPayer} Payment
 * @typedef {import('./screen.js').Screen} Screen
 */

/** Between looks at what may still become of an attempt that has ended: its money, or another attempt of its order. */
const LOOK_MS = { first: 5_000, last: 60_000 };
const HINT_AGAIN_MS = 5_000;
/** Below this, clocks agree: the service tells its time in whole seconds. */
const CLOCKS_AGREE_MS = 2_000;
const ANNOUNCED_MINUTES = [5, 1];
/** Here nothing of what was tried before matters any more. @type {ReadonlySet<Screen>} */
const ALERTS_END = new Set(['paid', 'telling', 'settled', 'review', 'returning', 'returned', 'gone']);
/** Here the payer may choose how to pay. @type {ReadonlySet<Screen>} */
const CHOICES = new Set(['slow', 'pay', 'outside', 'elsewhere', 'no-form', 'lapsed', 'unpaid', 'expired']);
/** What no trouble on the way has refused: it would be again. */
const REFUSED = new Set([
  'channel_rejected',
  'unknown_channel',
  'currency_not_supported',
  'amount_not_supported',
  'payer_differs',
]);
/** Here the payer can pay, or begin anew. @type {ReadonlySet<Screen>} */
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
 * What the service knew when it made this page: its time and the payment. Nothing without a token in the address.
 * @type {{ now: number, payment: Payment } | undefined}
 */
const known = document.body.dataset.known === undefined ? undefined : JSON.parse(document.body.dataset.known);

/** How far the service's clock is ahead of ours. */
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
/** The form of the channel of `known`. @type {'none' | 'not asked for' | 'mounted' | 'failed'} */
let form = document.body.dataset.formModule === undefined ? 'none' : 'not asked for';
/** Makes the form speak the page's language. @type {(() => void) | undefined} */
let translateForm;
/** False once the page was loaded anew for a form and got none: it is not loaded for it without end. */
let mayLoadForForm = session.isLoadingForForm !== true;
if (!mayLoadForForm) keep({ isLoadingForForm: false });
let isAway = false;
let isSwitching = false;
/** From then on the address is without the token, but where it is to be taken elsewhere. */
let hasBegun = false;
let owesHint = false;
/** @type {keyof typeof MESSAGES.en | undefined} */
let alerted;
let qrText = '';
let waiting = new AbortController();
/** How long there was to pay when last looked at. @type {number | undefined} */
let leftBefore;

/** The payment of this address. Its token is kept, and the language that it says is this tab's from now on. */
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
  // The way back from the wallet, or the browser's way back to a page that was left for the wallet.
  if (query.has('returned') || opened.leftForWallet) opened.mayHavePaid = true;
  return { id: paymentId, session: opened };
}

/** @param {Partial<import('./session.js').Session>} changes */
function keep(changes) {
  session = { ...session, ...changes };
  remember(id, JSON.stringify(session));
}

/** Follows the payment until its end, and what still happens after it. */
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
    for (let pause = LOOK_MS.first; !ENDS.has(screen()); pause = Math.min(pause * 2, LOOK_MS.last)) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (mine.signal.aborted) return;
      // Who comes back follows anew.
      if (document.visibilityState === 'visible') await look(options);
    }
  } catch (error) {
    if (mine.signal.aborted) return;
    if (!(error instanceof NodropError)) throw error;
    end();
  }
}

/**
 * Reads the payment once. While the service is away the page stays as it is.
 * @param {{ token: string, signal: AbortSignal }} options
 */
async function look(options) {
  try {
    const update = await client.getPayment(id, options);
    if (!options.signal.aborted) show(update);
  } catch (error) {
    if (error instanceof NodropError && [401, 403, 404].includes(error.status ?? 0)) throw error;
  }
}

/** Tells the service that the payer may have paid, and goes on trying until it has heard. */
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

/** The token opens nothing any more, or there is none. The way back to the shop stays. */
function end() {
  isGone = true;
  const { token, returnUrl } = session;
  // A reload must not take it for a copy of the address, which never had a token.
  if (token !== undefined) session = { ...session, hasEnded: true };
  if (session.hasEnded) remember(id, JSON.stringify({ returnUrl, hasEnded: true }));
  draw();
}

/** @param {Payment} update */
function show(update) {
  if (payment?.id === update.id) {
    // An answer that was overtaken: what has ended does not begin again, and an order stays paid.
    if (!isLive(payment) && isLive(update)) return;
    if (payment.orderState === 'paid') update = { ...update, orderState: 'paid' };
  }
  payment = update;
  const returnUrl = update.backUrl ?? undefined;
  if (returnUrl !== session.returnUrl) keep({ returnUrl });
  if (update.status !== 'created' && update.status !== 'paying') owesHint = false;
  draw();
}

/** The payer came back to this page. Its connection may be dead and not know it, or too old to tell of another attempt. */
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
    // The shop is to be told of the attempt that is paid.
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
      // Known from now on, also while what is known of this attempt says nothing of it.
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
  // What is known of the payer's money stays on the page.
  if (isGone && payment?.status !== 'succeeded') return 'gone';
  if (isSwitching && payment?.status !== 'succeeded') return 'preparing';
  if (payment === undefined) return session.mayHavePaid ? 'asking' : 'loading';
  const of = screenOf(payment, { now: now(), mayHavePaid: session.mayHavePaid === true, where: where() });
  if (of !== 'elsewhere' || form === 'none' || known?.payment.id !== id) return of;
  return form === 'failed' ? 'no-form' : 'pay';
}

/** @param {Screen} of @returns {readonly string[]} its title and its detail */
function wording(of) {
  const { text, amountOf, titleOf } = texts();
  const { screens } = text;
  if (of === 'preparing' && isSwitching) return screens.switching;
  // A copy of the address: the token is not in it.
  if (of === 'gone' && !session.hasEnded) return screens.private;
  return payment === undefined
    ? screens[of]
    : wordingOf(text, of, payment, amountOf, titleOf(payment.channel), where(), browser === 'desktop');
}

/** Makes the page say what is known now. Changes only what differs, so that screen readers repeat nothing. */
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
  // A number that is broken into two lines is read as two.
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
  // The same wallet, in a way that works here, comes first.
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
  // The way on, where there is none here.
  const isWayOn = ways.length === 0 && current !== 'asking' && current !== 'outside';
  back.classList.toggle('main', current === 'elsewhere' || isWayOn);
  write(back, text.back);

  shown = current;
  tick();
  // Whoever had the focus on what is gone now is led to what came instead.
  if (focused !== null && focused !== document.body && !isVisible(focused)) title.focus();
}

/** @param {Element} of */
const isVisible = (of) => of.isConnected && of.getClientRects().length > 0;

/** @param {HTMLElement} where @param {string} what */
function write(where, what) {
  if (where.textContent !== what) where.textContent = what;
}

/**
 * The channel's form. The page that has it was sent with a policy for it, which is known only by the token and once the
 * payer can pay in it: a page that was loaded without the token or before, and one that has changed the channel, is loaded
 * anew with it.
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
    /** A new one under the same number when the first has run out. */
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

/** Loads the page with its token, by which the service knows that a form belongs to it. */
function loadForForm() {
  keep({ isLoadingForForm: true });
  location.replace(`?${new URLSearchParams({ token: session.token ?? '' })}`);
}

/** The menu of a wallet's app opens in another browser what the address bar has: then the address has the token again. */
const isTokenInAddress = () =>
  document.body.dataset.screen === 'outside' && where() === 'browser' && session.token !== undefined;

/**
 * What leads the payer to another browser or device.
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

/** With the token, and with the language that was chosen. */
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
    // No clipboard for this page, as in most apps: the payer can take it from the field.
    link.hidden = false;
    link.focus();
    link.select();
  }
}

/** The code to scan: of the payment, or of this page where it is to be opened on a phone. @param {Screen} current @param {boolean} isOnlyWay */
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
    // Beside a phone's own wallet the code is in the way; on a larger screen it is the way.
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

/** The channels the payer may change to here. @param {Screen} current */
function waysOf(current) {
  if (payment === undefined || !CHOICES.has(current)) return [];
  const { channel, method, switchTo } = payment;
  const suitable = suiting(switchTo, { channel, method }, browser, METHODS);
  const others = suitable.filter((way) => way.channel !== channel || way.method !== method);
  // The way that has run out is opened anew.
  return current === 'lapsed' ? [{ channel, method }, ...others] : suitable;
}

/**
 * @param {Screen} current
 * @param {ReturnType<typeof waysOf>} ways
 * @param {ReturnType<typeof waysOf>[number] | undefined} best of them
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
 * Methods are told apart only where a channel has several: by what the payer does, where that differs.
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

/** The countdown, and its end. */
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

// Also by another button, or by the menu: the wallet is then opened in another tab.
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

// Last, when everything is here and has worked: otherwise `without.js` makes of the page what a browser without scripts
// has, and its looks at itself need the token in the address. It is taken out here, as the tab remembers it.
hasBegun = true;
if (!isTokenInAddress()) hideToken();
document.documentElement.setAttribute('data-runs', '');
