import type { Config } from '../config.ts';
import type { ChannelAdapter, ChannelDeclaration } from '../domain/channel.ts';
import { createAlipayAdapter } from './alipay/adapter.ts';
import { createMollieAdapter } from './mollie/adapter.ts';
import { createSimulatorAdapter } from './simulator/adapter.ts';
import { createStripeAdapter } from './stripe/adapter.ts';
import { validated } from './validated-adapter.ts';
import { createWechatpayAdapter } from './wechatpay/adapter.ts';
import { type CredentialsSource, withCredentials } from './with-credentials.ts';

/** The settings of the deployment that the adapters of the channels need. */
export interface ChannelSettings {
  readonly mode: Config['mode'];
  readonly simulator: Pick<Config['simulator'], 'url'>;
  readonly stripe: Config['stripe'];
  readonly mollie?: Config['mollie'];
}

/** Creates the adapter of every channel. A new channel needs its own folder and a line here. */
const adaptersOf = ({ simulator, stripe, mollie }: ChannelSettings): readonly ChannelAdapter[] => [
  createSimulatorAdapter({ name: 'simulator', url: simulator.url }),
  createSimulatorAdapter({ name: 'simulator2', url: simulator.url }),
  createStripeAdapter(stripe),
  createAlipayAdapter(),
  createWechatpayAdapter(),
  createMollieAdapter(mollie),
];

/** The declarations of all channels, including the channels that live mode refuses. */
export const DECLARATIONS: readonly ChannelDeclaration[] = adaptersOf({
  mode: 'test',
  simulator: { url: '' },
  stripe: {},
}).map(({ declaration }) => declaration);

/**
 * The query schedule of each channel, by the channel's name. For a channel that no longer exists, nodrop uses its
 * default schedule.
 */
export const querySchedules = (config: Pick<Config, 'querySchedule'>) => ({
  queryScheduleMs: (name: string): readonly number[] =>
    config.querySchedule(
      DECLARATIONS.find((declaration) => declaration.name === name) ?? { name, querySchedule: null },
    ).waitsMs,
});

/**
 * All channels by name. In live mode, channels that move no real money are left out. A merchant can use only the
 * channels for which it has an account.
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
