import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Trade } from '../../../src/domain/channel.ts';
import { toDecimal } from '../../../src/domain/money.ts';
import { startSimulator } from '../../../src/simulator/app.ts';
import { call, client, SECRETS, signature } from '../../simulator/support.ts';
import { createSimulatorAdapter } from '../../support/simulator-adapter.ts';
import type { Place } from '../contract/types.ts';
import { describeContract } from '../contract.ts';

describeContract('the simulator', async (place: Place) => {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-contract-'));
  const simulator = await startSimulator({
    ...{ folder, secrets: SECRETS, host: '127.0.0.1', port: 0, logger: pino({ level: 'silent' }) },
    // The simulator repeats refused callbacks immediately.
    callbackRetryMs: [0, 0, 0, 0, 0],
  });
  const baseUrl = await place.proxyTo(simulator.url);
  const { pay, ledger } = client(simulator.url);
  const party = (name: 'simulator' | 'simulator2', secret = SECRETS[name]) => ({
    adapter: createSimulatorAdapter({ name, baseUrl, secret }),
    account: { id: 'default', merchantId: 'm', channel: name, credentials: [] },
  });
  const act = async ({ outTradeNo }: Trade, result: 'success' | 'declined' | 'processing') =>
    (await pay(outTradeNo, result)).status === 200;

  return {
    ours: party('simulator'),
    theirs: party('simulator2'),
    wrong: party('simulator', `whsec_${randomBytes(32).toString('base64')}`),
    secrets: [SECRETS.simulator],
    channel: {
      async books({ outTradeNo }) {
        const rows = (await ledger()) as (Awaited<ReturnType<typeof ledger>>[number] & {
          readonly amount: number;
          readonly currency: string;
        })[];
        const all = rows.filter((row) => row.outTradeNo === outTradeNo);
        const [first] = all;
        return {
          trades: all.length,
          asked: first === undefined ? '' : toDecimal(first.amount, first.currency),
          currency: first?.currency ?? '',
          refunded: first === undefined ? '' : toDecimal(first.refunded, first.currency),
        };
      },
      pay: (trade) => act(trade, 'success'),
      decline: async (trade) => void (await act(trade, 'declined')),
      startProcessing: async (trade) => void (await act(trade, 'processing')),
      async close({ outTradeNo }) {
        await call(simulator.url, 'POST', `/v1/trades/${outTradeNo}/close`, '{}');
      },
      async refund({ outTradeNo }, amount) {
        const body = JSON.stringify({ outRefundNo: `dashboard_${randomBytes(8).toString('hex')}`, amount });
        await call(simulator.url, 'POST', `/v1/trades/${outTradeNo}/refunds`, body);
      },
    },
    protocol: {
      refusal: (status, code) => ({
        ...{ status, headers: { 'content-type': 'application/json' } },
        body: JSON.stringify({ code, message: 'Refused.' }),
      }),
      listedCodes: {
        createTrade: ['PARAM_ERROR'],
        queryTrade: ['TRADE_NOT_FOUND'],
        closeTrade: ['ORDERPAID', 'PROCESSING', 'TRADE_NOT_FOUND'],
        refundTrade: [
          ...['PARAM_ERROR', 'TRADE_NOT_PAID', 'REFUND_EXCEEDS_PAYMENT', 'REFUND_NOT_ALLOWED'],
          ...['OUT_REFUND_NO_USED', 'REFUND_NOT_FOUND', 'BALANCE_TOO_LOW'],
        ],
        queryRefund: ['REFUND_NOT_FOUND'],
      },
      definite: {
        createTrade: [[400, 'PARAM_ERROR']],
        refundTrade: [
          ...[[400, 'PARAM_ERROR'] as const, [409, 'TRADE_NOT_PAID'] as const],
          ...[[409, 'REFUND_EXCEEDS_PAYMENT'] as const, [409, 'REFUND_NOT_ALLOWED'] as const],
        ],
      },
      dress(answer, { headers }) {
        const id = headers['webhook-id'] ?? '';
        const timestamp = Math.floor(Date.now() / 1000);
        const payload = `${answer.status} ${id}\n${answer.body}`;
        const signed = {
          'webhook-id': id,
          'webhook-timestamp': String(timestamp),
          'webhook-signature': signature(SECRETS.simulator, id, timestamp, payload),
        };
        return { ...answer, headers: { ...answer.headers, ...signed } };
      },
      callbacks: {
        signed: {
          toleranceMs: 300_000,
          sign(rawBody, at) {
            const [id, timestamp] = ['msg_contract', Math.floor(at.getTime() / 1000)];
            return {
              rawBody,
              headers: {
                'webhook-id': id,
                'webhook-timestamp': String(timestamp),
                'webhook-signature': signature(SECRETS.simulator, id, timestamp, rawBody.toString('utf8')),
              },
            };
          },
        },
        isAcknowledged: ({ status }) => status >= 200 && status < 300,
        sendsAgain: true,
      },
    },
    async close() {
      await simulator.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
});
