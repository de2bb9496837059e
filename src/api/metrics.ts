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

/** The metrics that the admin listener shows at `/metrics`. Each process has one registry. */
export function createMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requests = new Histogram({
    name: 'nodrop_http_request_duration_seconds',
    help: 'Duration of API requests by route. Long polls and event streams count with the time they were open.',
    labelNames: ['route', 'method', 'status'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers: [registry],
  });
  const payments = new Counter({
    name: 'nodrop_payments_requested_total',
    help: 'POST /v1/payments requests by outcome.',
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
    help: 'Open event streams of payments.',
    registers: [registry],
  });
  return {
    registry,
    /** Adds a gauge for the number of pending deliveries to order services. Each scrape counts the deliveries. */
    watchDeliveries(count: () => ReturnType<typeof countDeliveries>): void {
      const deliveries = new Gauge({
        name: 'nodrop_deliveries_waiting',
        help: 'Pending deliveries to order services; overdue after 10 minutes. Absent if the database does not answer.',
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
    /** Adds gauges for the state of the sweep. The state is read at each scrape. */
    watchSweep(read: () => Promise<SweepStatus>): void {
      let reading: Promise<SweepStatus | null> | undefined;
      // Prometheus reads both gauges in one scrape, so both use the result of one read.
      const status = () => {
        reading ??= orFallbackWithin(COUNT_WITHIN_MS, null, read()).finally(() => {
          reading = undefined;
        });
        return reading;
      };
      const states = new Gauge({
        name: 'nodrop_sweep_state',
        help: '1 for the current state of the sweep, 0 for the others. Absent if Temporal does not answer.',
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
        help: 'When the last sweep completed. NaN if Temporal does not answer or no sweep has completed.',
        registers: [registry],
        async collect() {
          const at = (await status())?.lastCompletedAt?.getTime();
          completed.set(at === undefined ? Number.NaN : at / 1000);
        },
      });
    },
    /**
     * Adds a gauge for the number of workflows whose row is missing in the database. Each scrape counts the workflows.
     */
    watchLostRows(count: () => Promise<LostRows>): void {
      const lost = new Gauge({
        name: 'nodrop_rows_lost',
        help: 'Workflows whose row is missing from the database. Absent if Temporal does not answer.',
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
