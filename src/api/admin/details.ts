import { createRequire } from 'node:module';
import type { Config } from '../../config.ts';
import type { ChannelDeclaration } from '../../domain/channel.ts';
import { type Backlog, countAttention, countCallbacks, countDeliveries } from '../../ledger/backlog.ts';
import type { SweepState, SweepStatus } from '../../temporal/sweep-status.ts';
import type { Api } from '../api-deps.ts';
import type { LostRows } from '../connect-temporal.ts';
import { COUNT_WITHIN_MS } from '../deadlines.ts';
import { orFallbackWithin } from '../http/with-deadline.ts';
import type { Reachable, Readiness } from '../readiness.ts';

const { version } = createRequire(import.meta.url)('../../../package.json') as { version: string };

interface BacklogView {
  readonly count: number;
  /** True if the real number may be higher than `count`, because counting stopped at that number. */
  readonly more: boolean;
  readonly oldestSince: string;
  readonly oldestAgeSeconds: number;
}

export interface Details extends Reachable {
  readonly version: string;
  readonly mode: Config['mode'];
  readonly config: ReturnType<typeof shownConfig>;
  /** Payments that need attention, by kind. Null if the database did not answer in time. */
  readonly attention: Readonly<Record<string, BacklogView>> | null;
  readonly callbacks: {
    readonly undelivered: BacklogView | null;
    readonly unmatched: BacklogView | null;
  } | null;
  /**
   * Pending deliveries of events to order services. `overdue` counts the deliveries that have been pending for more
   * than 10 min.
   */
  readonly deliveries: {
    readonly pending: BacklogView | null;
    readonly overdue: BacklogView | null;
  } | null;
  /** Whether the sweep runs. Null if Temporal did not answer in time. */
  readonly sweep: {
    readonly state: SweepState;
    readonly note: string | null;
    readonly lastCompletedAt: string | null;
    readonly lastCompletedAgeSeconds: number | null;
  } | null;
  /**
   * Number of payment and refund workflows whose row is missing from the database. Null if Temporal did not answer in
   * time.
   */
  readonly lostRows: LostRows | null;
}

export type DetailsDeps = Pick<Api, 'db' | 'channels' | 'now'> & {
  readonly readiness: Pick<Readiness, 'look'>;
  readonly readSweepStatus: () => Promise<SweepStatus>;
  readonly countLost: () => Promise<LostRows>;
  readonly config: Pick<
    Config,
    | 'mode'
    | 'embeddedDatabase'
    | 'embeddedTemporal'
    | 'temporal'
    | 'api'
    | 'admin'
    | 'paymentExpiryMs'
    | 'querySchedule'
    | 'logLevel'
  >;
};

/** @returns a function that reads the data that the admin listener shows at `/details`. The function writes nothing. */
export function createDetails({
  config,
  db,
  channels,
  now,
  readSweepStatus,
  countLost,
  readiness,
}: DetailsDeps): () => Promise<Details> {
  return async () => {
    const [reachable, attention, callbacks, deliveries, sweep, lostRows] = await Promise.all([
      readiness.look(),
      orFallbackWithin(COUNT_WITHIN_MS, null, countAttention(db)),
      orFallbackWithin(COUNT_WITHIN_MS, null, countCallbacks(db)),
      orFallbackWithin(COUNT_WITHIN_MS, null, countDeliveries(db, now())),
      orFallbackWithin(COUNT_WITHIN_MS, null, readSweepStatus()),
      orFallbackWithin(COUNT_WITHIN_MS, null, countLost()),
    ]);
    const at = now().getTime();
    const ageSeconds = (since: Date) => Math.max(0, Math.floor((at - since.getTime()) / 1000));
    const view = ({ count, more, oldest }: Backlog): BacklogView => ({
      count,
      more,
      oldestSince: oldest.toISOString(),
      oldestAgeSeconds: ageSeconds(oldest),
    });
    const orNone = (backlog: Backlog | null) => (backlog === null ? null : view(backlog));
    return {
      version,
      mode: config.mode,
      ...reachable,
      attention:
        attention && Object.fromEntries([...attention].map(([kind, backlog]) => [kind, view(backlog)])),
      callbacks: callbacks && {
        undelivered: orNone(callbacks.undelivered),
        unmatched: orNone(callbacks.unmatched),
      },
      deliveries: deliveries && {
        pending: orNone(deliveries.pending),
        overdue: orNone(deliveries.overdue),
      },
      sweep: sweep && {
        state: sweep.state,
        note: sweep.note,
        lastCompletedAt: sweep.lastCompletedAt?.toISOString() ?? null,
        lastCompletedAgeSeconds: sweep.lastCompletedAt && ageSeconds(sweep.lastCompletedAt),
      },
      lostRows,
      config: shownConfig(
        config,
        [...channels.values()].map(({ declaration }) => declaration),
      ),
    };
  };
}

/** The settings that `/details` shows. The list is explicit, so that a new setting is not shown by accident. */
function shownConfig(config: DetailsDeps['config'], channels: readonly ChannelDeclaration[]) {
  const { api, admin, temporal } = config;
  const { origin, pathname } = new URL(api.publicUrl);
  return {
    publicUrl: `${origin}${pathname}`,
    api: `${api.host}:${api.port}`,
    admin: `${admin.host}:${admin.port}`,
    embeddedDatabase: config.embeddedDatabase,
    embeddedTemporal: config.embeddedTemporal,
    temporalAddress: temporal.address,
    temporalNamespace: temporal.namespace,
    paymentExpirySeconds: config.paymentExpiryMs / 1000,
    queryScheduleSeconds: Object.fromEntries(
      channels.map((channel) => [channel.name, config.querySchedule(channel).waitsMs.map((ms) => ms / 1000)]),
    ),
    channels: Object.fromEntries(
      channels.map((channel) => [
        channel.name,
        {
          callsPerSecond: channel.rateLimit.perSecond,
          callsPerSecondSource: channel.rateLimit.source,
          queryScheduleSource: config.querySchedule(channel).source,
        },
      ]),
    ),
    logLevel: config.logLevel,
  };
}
