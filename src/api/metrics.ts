import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { countDeliveries } from '../ledger/backlog.ts';
import { SWEEP_STATES, type SweepStatus } from '../temporal/sweep-status.ts';
import type { LostRows } from './connect-temporal.ts';
import { COUNT_WITHIN_MS } from './deadlines.ts';
import { orFallbackWithin } from './http/with-deadline.ts';

export type PaymentResult = 'created' | 'repeated' | 'accepted' | 'rejected' | 'unavailable';
export type CallbackResult =
  | 'stored'
  | 'repeated'
  | 'unmatched'
  | 'ignored'
  | 'noticed'
  | 'unverified'
  | 'malformed'
  | 'unchecked'
  | 'not_stored';

export type Metrics = ReturnType<typeof createMetrics>;

/** What the admin listener shows at `/metrics`. One registry a process. */
export function createMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requests = new Histogram({
    name: 'nodrop_http_request_duration_seconds',
    help: 'Answers of the API by route; long polls and event streams count with the time they were open.',
    labelNames: ['route', 'method', 'status'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers: [registry],
  });
  const payments = new Counter({
    name: 'nodrop_payments_requested_total',
    help: 'POST /v1/payments by what came of it.',
    labelNames: ['channel', 'result'],
    registers: [registry],
  });
  const callbacks = new Counter({
    name: 'nodrop_callbacks_received_total',
    help: 'Channel callbacks by outcome.',
    labelNames: ['channel', 'result'],
    registers: [registry],
  });
  const readers = new Gauge({
    name: 'nodrop_event_stream_readers',
    help: 'Event streams of payments that are open now.',
    registers: [registry],
  });
  return {
    registry,
    /** Has events on their way to order services counted whenever somebody looks. */
    watchDeliveries(count: () => ReturnType<typeof countDeliveries>): void {
      const deliveries = new Gauge({
        name: 'nodrop_deliveries_waiting',
        help: 'Events that wait for an order service, overdue after 10 minutes; absent when the database does not say.',
        labelNames: ['state'],
        registers: [registry],
        async collect() {
          const counted = await orFallbackWithin(COUNT_WITHIN_MS, null, count());
          deliveries.reset();
          for (const [state, backlog] of Object.entries(counted ?? {})) {
            deliveries.set({ state }, backlog?.count ?? 0);
          }
        },
      });
    },
    /** Has the state of the sweep read whenever somebody looks. */
    watchSweep(read: () => Promise<SweepStatus>): void {
      let reading: Promise<SweepStatus | null> | undefined;
      // Both gauges are collected at once: one look is taken for both.
      const status = () => {
        reading ??= orFallbackWithin(COUNT_WITHIN_MS, null, read()).finally(() => {
          reading = undefined;
        });
        return reading;
      };
      const states = new Gauge({
        name: 'nodrop_sweep_state',
        help: '1 for the state the sweep is in, 0 for the others; absent when Temporal does not say.',
        labelNames: ['state'],
        registers: [registry],
        async collect() {
          const sweep = await status();
          states.reset();
          if (sweep === null) return;
          for (const state of SWEEP_STATES) states.set({ state }, state === sweep.state ? 1 : 0);
        },
      });
      const completed = new Gauge({
        name: 'nodrop_sweep_last_completed_timestamp_seconds',
        help: 'When the last sweep completed; NaN when Temporal does not say, or knows of none.',
        registers: [registry],
        async collect() {
          const at = (await status())?.lastCompletedAt?.getTime();
          completed.set(at === undefined ? Number.NaN : at / 1000);
        },
      });
    },
    /** Has workflows whose row is gone counted whenever somebody looks. */
    watchLostRows(count: () => Promise<LostRows>): void {
      const lost = new Gauge({
        name: 'nodrop_rows_lost',
        help: 'Workflows whose row is gone from the database; absent when Temporal does not say.',
        labelNames: ['workflow'],
        registers: [registry],
        async collect() {
          const counted = await orFallbackWithin(COUNT_WITHIN_MS, null, count());
          lost.reset();
          for (const [workflow, rows] of Object.entries(counted ?? {})) lost.set({ workflow }, rows);
        },
      });
    },
    readerCame(): void {
      readers.inc();
    },
    readerWent(): void {
      readers.dec();
    },
    observeRequest(route: string, method: string, status: number, seconds: number): void {
      requests.observe({ route, method, status: String(status) }, seconds);
    },
    countPayment(channel: string, result: PaymentResult): void {
      payments.inc({ channel, result });
    },
    countCallback(channel: string, result: CallbackResult): void {
      callbacks.inc({ channel, result });
    },
  };
}
