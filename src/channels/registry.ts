import { type Config, ConfigError } from '../config.ts';
import type { ChannelAdapter } from '../domain/channel.ts';
import { checked } from './checked.ts';
import { createSimulatorAdapter } from './simulator/adapter.ts';

/**
 * The channels this deployment offers, by name. A channel without credentials is not among them.
 * @throws ConfigError when a channel that moves no real money is configured in live mode
 */
export function createChannels(
  config: Pick<Config, 'mode' | 'simulator'>,
): ReadonlyMap<string, ChannelAdapter> {
  const adapters = (['simulator', 'simulator2'] as const).flatMap((name) => {
    const secret = config.simulator.secrets[name];
    return secret === undefined
      ? []
      : [createSimulatorAdapter({ name, baseUrl: config.simulator.url, secret })];
  });
  const pretend =
    config.mode === 'live'
      ? adapters.find(({ declaration }) => declaration.testOnly)?.declaration
      : undefined;
  if (pretend !== undefined) {
    throw new ConfigError(
      `NODROP_MODE is wrong: live refuses the channel ${pretend.name}, which moves no real money.`,
    );
  }
  return new Map(adapters.map((adapter) => [adapter.declaration.name, checked(adapter)]));
}
