import { readFileSync } from 'node:fs';
import { type ChannelAdapter, methodOf } from '../../domain/channel.ts';
import type { PaymentForPayer } from './nodrop.js';
import { CHECKOUT_POLICY, type PageForm } from './shell.ts';

/** Channels' own forms within the cashier page. */

const moduleOf = (channel: string) => `form-${channel}.js`;

/**
 * The form of the payment's channel and method; undefined when they declare none, and when the payer has nothing to do in
 * it: the page's policy is not widened for what is not loaded.
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

/** The modules of all channels that declare a form, by their names beside the page's own files. */
export const formModules = (
  channels: ReadonlyMap<string, ChannelAdapter>,
): readonly (readonly [string, Buffer])[] =>
  [...channels.values()]
    .filter(({ declaration }) => declaration.methods.some(({ form }) => form !== undefined))
    .map(({ declaration: { name } }) => [
      moduleOf(name),
      readFileSync(new URL(`../../channels/${name}/form.js`, import.meta.url)),
    ]);

/** The page's policy, widened by what its form's script loads, and by nothing else. */
export function policyWith({ declaration: { script } }: PageForm): string {
  if (script === undefined) return CHECKOUT_POLICY;
  const { sources } = script;
  return CHECKOUT_POLICY.replace("script-src 'self'", `script-src 'self' ${sources.script.join(' ')}`)
    .replace("connect-src 'self'", `connect-src 'self' ${sources.connect.join(' ')}`)
    .replace("base-uri 'none'", `frame-src ${sources.frame.join(' ')}; base-uri 'none'`);
}
