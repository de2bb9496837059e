import { readFileSync } from 'node:fs';
import { type ChannelAdapter, methodOf } from '../../domain/channel.ts';
import type { PaymentForPayer } from './nodrop.js';
import { CHECKOUT_POLICY, type PageForm } from './shell.ts';

/** Payment forms of channels inside the cashier page. */

const moduleOf = (channel: string) => `form-${channel}.js`;

/**
 * Returns the payment form of the payment's channel and method. Undefined if the method declares no form, or if the
 * next action needs no form. The page then keeps its normal Content-Security-Policy.
 */
export function formOf(
  channels: ReadonlyMap<string, ChannelAdapter>,
  { channel, method, nextAction }: Pick<PaymentForPayer, 'channel' | 'method' | 'nextAction'>,
): PageForm | undefined {
  if (nextAction?.type !== 'sdk') return undefined;
  const adapter = channels.get(channel);
  const declaration = adapter === undefined ? undefined : methodOf(adapter.declaration, method)?.form;
  return declaration === undefined ? undefined : { module: `./${moduleOf(channel)}`, declaration };
}

/** The file names and contents of the form modules, for all channels that declare a payment form. */
export const formModules = (
  channels: ReadonlyMap<string, ChannelAdapter>,
): readonly (readonly [string, Buffer])[] =>
  [...channels.values()]
    .filter(({ declaration }) => declaration.methods.some(({ form }) => form !== undefined))
    .map(({ declaration: { name } }) => [
      moduleOf(name),
      readFileSync(new URL(`../../channels/${name}/form.js`, import.meta.url)),
    ]);

/** Returns the page's Content-Security-Policy, extended only by the sources that the payment form's script declares. */
export function policyWith({ declaration: { script } }: PageForm): string {
  if (script === undefined) return CHECKOUT_POLICY;
  const { sources } = script;
  return CHECKOUT_POLICY.replace("script-src 'self'", `script-src 'self' ${sources.script.join(' ')}`)
    .replace("connect-src 'self'", `connect-src 'self' ${sources.connect.join(' ')}`)
    .replace("base-uri 'none'", `frame-src ${sources.frame.join(' ')}; base-uri 'none'`);
}
