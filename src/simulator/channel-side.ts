import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import express, { type NextFunction, type Request, type Response, Router } from 'express';
import { rateLimit } from 'express-rate-limit';
import type { Logger } from 'pino';
import type { Webhook } from 'standardwebhooks';
import { z } from 'zod';
import {
  ACCOUNT_HEADER,
  requestPayload,
  responsePayload,
  sign,
  verify,
} from '../channels/simulator/protocol.ts';
import { isAmount, isCurrency } from '../domain/money.ts';
import { readBody } from '../request-bounds.ts';
import { MAX_BODY_BYTES, parseInput, SimulatorError, sendError, toSimulatorError } from './errors.ts';
import type { Dice } from './faults.ts';
import type { Refund, Store } from './store.ts';
import type { Trades } from './trades.ts';
import { presentRefund, tradeView } from './view.ts';

/** How long a connection stays open after a fault has suppressed its answer. No caller waits this long. */
const HELD_MS = 30_000;

const tradeNumber = z.string().regex(/^[0-9A-Za-z_-]{1,32}$/, 'must be 1 to 32 of 0-9 A-Z a-z _ -');
const amount = z.number().refine(isAmount, 'must be an integer from 1 to 2^53-1, in minor units');
const httpUrl = z.url({ protocol: /^https?$/ }).max(2048);

const newTradeSchema = z.object({
  outTradeNo: tradeNumber,
  amount,
  currency: z.string().refine(isCurrency, 'must be an ISO 4217 code'),
  subject: z.string().max(256),
  notifyUrl: httpUrl,
  returnUrl: httpUrl,
  expiresAt: z.iso.datetime({ offset: true }),
});
const newRefundSchema = z.object({
  outRefundNo: z.string().regex(/^[0-9A-Za-z_-]{1,64}$/, 'must be 1 to 64 of 0-9 A-Z a-z _ -'),
  amount,
});
const daySchema = z.object({ day: z.iso.date() });

/** The caller of a request whose signature was verified. */
interface Caller {
  readonly account: string;
  readonly signer: Webhook;
  readonly requestId: string;
}
type ChannelResponse = Response<unknown, { caller?: Caller }>;
type Params = { readonly no: string };

export interface ChannelSideOptions {
  readonly store: Store;
  readonly trades: Trades;
  readonly dice: Dice;
  readonly signers: ReadonlyMap<string, Webhook>;
  readonly logger: Logger;
  /** The wallet's public base URL, without a trailing slash. */
  readonly publicUrl: string;
  /** Open responses that a fault has suppressed. A shutdown destroys them. */
  readonly held: Set<Response>;
}

/** The interface for merchants, under `/v1`: signed requests and signed answers. */
export function channelSide(options: ChannelSideOptions): Router {
  const { store, trades, dice, signers, logger } = options;
  const router = Router();

  /** Sends the answer once the ledger is durable. The answer is signed if the caller is known. */
  async function answer(res: ChannelResponse, status: number, body: object): Promise<void> {
    await store.durable();
    send(res, status, JSON.stringify(body));
  }

  function send(res: ChannelResponse, status: number, body: string, signedBody = body): void {
    const { caller } = res.locals;
    if (caller !== undefined) {
      res.set(sign(caller.signer, caller.requestId, responsePayload(status, caller.requestId, signedBody)));
    }
    res.status(status).type('application/json').send(body);
  }

  /** The request is carried out, but its answer is never sent. */
  async function holdOnceDurable(res: Response): Promise<void> {
    await store.durable();
    hold(res, options.held);
  }

  function failIf(chance: number, fault: string, outTradeNo: string): void {
    if (dice.strikes(chance, fault, outTradeNo)) throw new SimulatorError(500, 'SYSTEM_ERROR', 'Injected.');
  }

  router.use((req, _res, next) => {
    if (store.faults.down) req.socket.destroy();
    else next();
  });
  router.use(
    readBody(express.raw({ type: () => true, limit: MAX_BODY_BYTES, inflate: false }), MAX_BODY_BYTES),
  );
  router.use((req: Request, res: ChannelResponse, next: NextFunction) => {
    const text = Buffer.isBuffer(req.body) ? req.body.toString('utf8') : '';
    res.locals.caller = authenticate(req, text, signers);
    req.body = text === '' ? {} : parseBody(text);
    next();
  });
  router.use(
    rateLimit({
      windowMs: 1_000,
      limit: () => store.faults.rateLimitPerSecond,
      skip: () => store.faults.rateLimitPerSecond === 0,
      keyGenerator: (_req, res) => (res as ChannelResponse).locals.caller?.account ?? '',
      standardHeaders: false,
      legacyHeaders: false,
      handler: (_req, res, next) => {
        res.set('retry-after', '1');
        next(new SimulatorError(429, 'RATE_LIMITED', 'Too many calls in this second.'));
      },
    }),
  );

  router.post('/trades', async (req, res: ChannelResponse) => {
    const faults = store.faults.create;
    const terms = parseInput(newTradeSchema, req.body);
    await sleep(faults.latencyMs);
    failIf(faults.errorRate, 'create.error', terms.outTradeNo);
    const { trade, isNew } = trades.create(account(res), terms);
    if (dice.strikes(faults.timeoutAfterAcceptRate, 'create.timeout', terms.outTradeNo)) {
      return await holdOnceDurable(res);
    }
    const payUrl = `${options.publicUrl}/pay/${trade.outTradeNo}`;
    await answer(res, isNew ? 201 : 200, { ...tradeView(trade), payUrl });
  });

  router.get('/trades/:no', async (req: Request<Params>, res: ChannelResponse) => {
    const faults = store.faults.query;
    const { no } = req.params;
    await sleep(faults.latencyMs);
    failIf(faults.errorRate, 'query.error', no);
    const view = trades.query(account(res), no);
    if (!dice.strikes(faults.garbageRate, 'query.garbage', no)) return answer(res, 200, view);
    await store.durable();
    const body = JSON.stringify(view);
    // Sends one of two kinds of invalid answers: a truncated answer, or a complete answer with a signature over another
    // body.
    if (dice.strikes(0.5, 'query.truncated', no)) send(res, 200, body.slice(0, body.length / 2));
    else send(res, 200, body, `${body} `);
  });

  router.post('/trades/:no/close', async (req: Request<Params>, res: ChannelResponse) => {
    const faults = store.faults.close;
    const { no } = req.params;
    failIf(faults.errorRate, 'close.error', no);
    const ineffective = dice.strikes(faults.ineffectiveRate, 'close.ineffective', no);
    await answer(res, 200, tradeView(trades.close(account(res), no, ineffective)));
  });

  router.post('/trades/:no/refunds', async (req: Request<Params>, res: ChannelResponse) => {
    const terms = parseInput(newRefundSchema, req.body);
    const { no } = req.params;
    const { errorRate, balanceTooLowRate } = store.faults.refund;
    failIf(errorRate, 'refund.error', no);
    const isBalanceTooLow = dice.strikes(balanceTooLowRate, 'refund.balance', no);
    const { refund, isNew } = trades.refund(account(res), no, terms, isBalanceTooLow);
    if (isSilent(refund)) return await holdOnceDurable(res);
    await answer(res, isNew ? 201 : 200, presentRefund(refund));
  });

  router.get('/refunds/:no', async (req: Request<Params>, res: ChannelResponse) => {
    const refund = trades.findRefund(account(res), req.params.no);
    if (isSilent(refund)) return await holdOnceDurable(res);
    await answer(res, 200, presentRefund(refund));
  });

  router.get('/statements/:day', async (req, res: ChannelResponse) => {
    const { day } = parseInput(daySchema, req.params);
    await answer(res, 200, { day, rows: trades.statement(account(res), day) });
  });

  router.use(() => {
    throw new SimulatorError(404, 'NOT_FOUND', 'There is nothing here.');
  });
  router.use(async (error: unknown, _req: Request, res: ChannelResponse, _next: NextFunction) => {
    const refusal = toSimulatorError(error, logger);
    // The refusal is sent only after the ledger is durable, because it may depend on a change that is not durable yet.
    // For example, a trade was just paid.
    if (refusal.status < 500) {
      await answer(res, refusal.status, { code: refusal.code, message: refusal.message });
    } else sendError(res, refusal);
  });
  return router;
}

/** @throws SimulatorError 401 `SIGN_ERROR` */
function authenticate(req: Request, body: string, signers: ReadonlyMap<string, Webhook>): Caller {
  const account = req.get(ACCOUNT_HEADER) ?? '';
  const signer = signers.get(account);
  if (signer === undefined) {
    throw new SimulatorError(
      401,
      'SIGN_ERROR',
      `${ACCOUNT_HEADER} does not name an account of this simulator.`,
    );
  }
  try {
    verify(signer, requestPayload(req.method, req.originalUrl, body), req.headers);
  } catch (error) {
    throw new SimulatorError(401, 'SIGN_ERROR', (error as Error).message);
  }
  return { account, signer, requestId: req.get('webhook-id') ?? randomUUID() };
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new SimulatorError(400, 'PARAM_ERROR', 'The body is not JSON.');
  }
}

/** Returns the account whose signature was verified. */
function account(res: ChannelResponse): string {
  if (res.locals.caller === undefined) throw new Error('a route ran before authentication');
  return res.locals.caller.account;
}

const isSilent = ({ silent = false, state }: Refund): boolean => silent && state === 'PROCESSING';

function hold(res: Response, held: Set<Response>): void {
  const timer = setTimeout(() => res.destroy(), HELD_MS);
  held.add(res);
  res.on('close', () => {
    clearTimeout(timer);
    held.delete(res);
  });
}
