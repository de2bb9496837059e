import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { z } from 'zod';
import { lookUpPaymentLibrary } from '../../../src/stack/payment-libraries.ts';
import { toolSettings } from '../../support/tool-settings.ts';
import type { COMMANDS, Command } from './control.ts';

/** The WeChat Pay double as a separate process. */
export interface WechatpayDouble {
  readonly url: string;
  /** Settings of accounts that the double knows, and of one account that it does not know. */
  readonly accounts: Readonly<
    Record<'direct' | 'other' | 'modern' | 'provider' | 'stranger', Readonly<Record<string, string>>>
  >;
  /** The keys with which the double signs after its start. */
  readonly signers: Readonly<
    Record<'certificate' | 'publicKey', { readonly serial: string; readonly privateKey: string }>
  >;
  /** Runs a command at the double. @throws Error if the command fails */
  tell<C extends Command>(command: C, given: z.input<(typeof COMMANDS)[C]>): Promise<unknown>;
  stop(): Promise<void>;
}

/**
 * The folder of the library that makes signatures, or undefined if `npm test` could not obtain the library. In that
 * case, `npm test` has reported the failure.
 */
export const oracleFolder = (): string | undefined =>
  lookUpPaymentLibrary('wechatpayv3', toolSettings().cacheDir);

/** @param folder `oracleFolder()` */
export async function startWechatpayDouble(folder: string): Promise<WechatpayDouble> {
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', 'test/doubles/wechatpay/main.ts'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODROP_WECHATPAYV3: folder },
  });
  const line = await new Promise<string>((resolve, reject) => {
    child.once('error', reject).once('exit', () => reject(new Error('the double ended')));
    if (child.stdout !== null) createInterface(child.stdout).once('line', resolve);
  });
  const { url, accounts, signers } = JSON.parse(line) as Pick<
    WechatpayDouble,
    'url' | 'accounts' | 'signers'
  >;
  return {
    ...{ url, accounts, signers },
    async tell(command, given) {
      const answer = await fetch(`${url}/_control/${command}`, {
        method: 'POST',
        body: JSON.stringify(given),
      });
      const said: unknown = await answer.json();
      if (!answer.ok) throw new Error(`${command}: ${JSON.stringify(said)}`);
      return said;
    },
    async stop() {
      if (child.exitCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin?.end();
      await ended;
    },
  };
}
