import { spawn, spawnSync } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DECLARATIONS } from '../channels/registry.ts';
import { StackError } from '../stack/errors.ts';
import {
  hasPip,
  hasPython,
  lookUpPaymentLibrary,
  obtainPaymentLibrary,
  type PaymentLibrary,
} from '../stack/payment-libraries.ts';
import { tsxLoader } from '../tsx.ts';
import { startAlipayWallet } from './alipay-wallet.ts';
import type { Trade } from './books.ts';
import { CallbackProxy } from './callback-proxy.ts';
import type { DoubledWallet } from './doubled-wallet.ts';
import type { DoubledChannel } from './options.ts';
import type { Payer } from './payers.ts';
import type { Bought, Forgery, Pressed, Wallets } from './wallets.ts';
import { startWechatpayWallet } from './wechatpay-wallet.ts';

/**
 * For each channel: the Python library with which its double verifies and signs, and the function that starts the
 * double.
 */
const PARTS: Readonly<
  Record<DoubledChannel, { readonly library: PaymentLibrary; readonly start: typeof startAlipayWallet }>
> = {
  alipay: { library: 'python-alipay-sdk', start: startAlipayWallet },
  wechatpay: { library: 'wechatpayv3', start: startWechatpayWallet },
};

const TICK_EVERY_MS = 1_000;
const CLI = fileURLToPath(new URL('../cli/main.ts', import.meta.url));

export interface DoublesOptions {
  readonly seed: number;
  /** The API's address without a trailing slash. */
  readonly apiUrl: string;
  readonly signal: AbortSignal;
}

/** The doubles of a run, and the proxy through which they send callbacks to nodrop. */
export class Doubles implements Wallets {
  readonly #options: DoublesOptions;
  readonly #wallets = new Map<string, DoubledWallet>();
  /** The path of the account's callback address, by channel. */
  readonly #addresses = new Map<string, string>();
  readonly #proxy: CallbackProxy;

  constructor(options: DoublesOptions) {
    this.#options = options;
    this.#proxy = new CallbackProxy({
      ...options,
      withOtherAmount: (channel, paymentId) => this.#walletOf(channel).withOtherAmount(paymentId),
    });
  }

  /**
   * Starts the proxy.
   * @returns the proxy's address. It becomes the API's public URL, so it must be known before the API starts.
   */
  async listen(): Promise<string> {
    await this.#proxy.listen();
    return this.#proxy.url;
  }

  /**
   * Starts the doubles with their libraries from the cache.
   * @param onEnd called with a sentence when a double ends unexpectedly.
   * @throws StackError
   */
  async start(
    channels: readonly DoubledChannel[],
    cacheDir: string,
    logs: string,
    onEnd: (sentence: string) => void,
  ): Promise<void> {
    // Waits for all doubles even if one of them fails, so that no double is still starting when the caller handles the
    // failure.
    const started = channels.map(async (channel) => {
      const { library, start } = PARTS[channel];
      const folder = lookUpPaymentLibrary(library, cacheDir) ?? '';
      this.#wallets.set(channel, await start(folder, logs, onEnd, this.#options.signal));
    });
    for (const result of await Promise.allSettled(started)) {
      if (result.status === 'rejected') throw result.reason;
    }
  }

  /**
   * Adds the merchant's accounts with `npm run nodrop -- channels add`, as an operator would, and prints the commands.
   * @throws Error with the command's output when it fails
   */
  async addAccounts(say: (line: string) => void): Promise<void> {
    const added = await Promise.all(
      [...this.#wallets].map(async ([channel, wallet]) => ({
        channel,
        wallet,
        said: await addAccount(channel, wallet.settings),
      })),
    );
    for (const { channel, wallet, said } of added) {
      say(`  npm run nodrop -- channels add ${channel} --file -`);
      say(`    ${said.split('\n')[0]}`);
      const address = /^Callback address: (\S+)$/m.exec(said)?.[1];
      if (address === undefined)
        throw new Error(`channels add ${channel} named no callback address: ${said}`);
      this.#addresses.set(channel, new URL(address).pathname);
      await wallet.register(address);
    }
  }

  /** Sets faults and completes pending refunds at each double every second, until the signal aborts. */
  async run(): Promise<void> {
    const { signal } = this.#options;
    for (let second = 0; !signal.aborted; second++) {
      await Promise.all([...this.#wallets.values()].map((wallet) => wallet.tick(second))).catch((error) => {
        if (!signal.aborted) throw error;
      });
      await sleep(TICK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  pay = (payment: Bought, isDeclined: boolean): Promise<Pressed> =>
    this.#walletOf(payment.channel).pay(payment, isDeclined);

  async trades(signal: AbortSignal): Promise<readonly Trade[]> {
    const ledgers = await Promise.all([...this.#wallets.values()].map((wallet) => wallet.ledger(signal)));
    return ledgers
      .flat()
      .map((trade) => ({ ...trade, callbackAttempts: this.#proxy.passed.get(trade.outTradeNo) ?? 0 }));
  }

  async forge(payer: Payer, { id, channel }: Bought): Promise<readonly Forgery[]> {
    const path = this.#addresses.get(channel) ?? '';
    const forged = await this.#walletOf(channel).forge(payer, id);
    return forged.map((callback) => ({ ...callback, path }));
  }

  async stop(): Promise<void> {
    this.#proxy.close();
    await Promise.all([...this.#wallets.values()].map((wallet) => wallet.stop()));
  }

  #walletOf(channel: string): DoubledWallet {
    const wallet = this.#wallets.get(channel);
    if (wallet === undefined) throw new Error(`there is no double of ${channel}`);
    return wallet;
  }
}

/**
 * Checks that Python, pip and OpenSSL are installed if a double needs them, and installs the doubles' libraries into
 * the cache.
 * @throws StackError
 */
export async function obtainLibraries(channels: readonly DoubledChannel[], cacheDir: string): Promise<void> {
  const libraries = channels.map((channel) => PARTS[channel].library);
  const isComplete = libraries.every((library) => lookUpPaymentLibrary(library, cacheDir) !== undefined);
  const hasOpenssl = spawnSync('openssl', ['version'], { stdio: 'ignore' }).status === 0;
  if (!(isComplete ? hasPython() : hasPip()) || (channels.includes('wechatpay') && !hasOpenssl)) {
    throw new StackError(
      `--channels ${channels.join(',')} needs Python 3.10 or newer with pip (python3), and OpenSSL (openssl), because ` +
        'the doubles verify and sign with Python libraries: install them (apt-get install python3-pip openssl), or ' +
        'run npm run demo without --channels, which needs neither.',
    );
  }
  // The libraries are installed one after the other, because pip does not support concurrent installs.
  for (const library of libraries) await obtainPaymentLibrary(library, cacheDir);
}

/** Runs `channels add`. @returns the output of the command. */
async function addAccount(channel: string, settings: Readonly<Record<string, string>>): Promise<string> {
  const args = ['--import', tsxLoader(), CLI, 'channels', 'add', channel, '--file', '-'];
  const child = spawn(process.execPath, args, { stdio: 'pipe' });
  child.stdin.end(JSON.stringify(settings));
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [said, failed, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  if (code !== 0) throw new Error(`channels add ${channel} failed: ${failed}${said}`);
  return said;
}

/** The English names of the channels, as payers know them. */
export const titles = (channels: readonly DoubledChannel[]): string =>
  channels.map((channel) => DECLARATIONS.find(({ name }) => name === channel)?.title.en).join(' and ');
