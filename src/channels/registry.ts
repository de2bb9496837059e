import type { Config } from '../config.ts';
import type { ChannelAdapter, ChannelDeclaration } from '../domain/channel.ts';
import { createAlipayAdapter } from './alipay/adapter.ts';
import { createMollieAdapter } from './mollie/adapter.ts';
import { createSimulatorAdapter } from './simulator/adapter.ts';
import { createStripeAdapter } from './stripe/adapter.ts';
import { validated } from './validated-adapter.ts';
import { createWechatpayAdapter } from './wechatpay/adapter.ts';
import { type CredentialsSource, withCredentials } from './with-credentials.ts';

/** What adapters need of the deployment's settings. */
export interface ChannelSettings {
  readonly mode: Config['mode'];
  readonly simulator: Pick<Config['simulator'], 'url'>;
  readonly stripe: Config['stripe'];
  readonly mollie?: Config['mollie'];
}

/** Every channel that there is. A new one is a folder and a line here. */
const adaptersOf = ({ simulator, stripe, mollie }: ChannelSettings): readonly ChannelAdapter[] => [
  createSimulatorAdapter({ name: 'simulator', url: simulator.url }),
  createSimulatorAdapter({ name: 'simulator2', url: simulator.url }),
  createStripeAdapter(stripe),
  createAlipayAdapter(),
  createWechatpayAdapter(),
  createMollieAdapter(mollie),
];

/** The declarations of every channel that there is, also of those that live mode refuses. */
export const DECLARATIONS: readonly ChannelDeclaration[] = adaptersOf({
  mode: 'test',
  simulator: { url: '' },
  stripe: {},
}).map(({ declaration }) => declaration);

/** When each channel is asked, by its name; one that is not there any more by nodrop's own schedule. */
export const querySchedules = (config: Pick<Config, 'querySchedule'>) => ({
  queryScheduleMs: (name: string): readonly number[] =>
    config.querySchedule(
      DECLARATIONS.find((declaration) => declaration.name === name) ?? { name, querySchedule: null },
    ).waitsMs,
});

/**
 * The channels by name: all of them, as which of them a merchant can be paid through is a matter of its accounts. In live
 * mode without those that move no real money.
 */
export function createChannels(
  settings: ChannelSettings,
  source: CredentialsSource,
): ReadonlyMap<string, ChannelAdapter> {
  return new Map(
    adaptersOf(settings)
      .filter(({ declaration }) => settings.mode === 'test' || !declaration.testOnly)
      .map((adapter) => [adapter.declaration.name, validated(withCredentials(adapter, source))]),
  );
}
