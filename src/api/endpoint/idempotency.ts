import { createHash } from 'node:crypto';
import type { Request, Response } from 'express';
import { REFUSALS, Refusal, type RefusalCode } from '../../domain/refusal.ts';
import { claimKey, forgetKey, keepResult, type Lease, releaseKey } from '../../ledger/idempotency.ts';
import type { Api } from '../api-deps.ts';
import { toRefusal } from '../http/problems.ts';
import { idempotencyKey } from '../schemas/common.ts';
import type { Access } from './auth.ts';
import type { Endpoint, Exchange } from './endpoint.ts';

/** `Idempotency-Key` on the routes that declare `replay`: one request, however often it is sent. */

export const IDEMPOTENCY_KEY = 'idempotency-key';
/** Set on an answer that was given before. */
export const REPLAYED = 'idempotency-replayed';

/** A request takes some tenths of a second; one whose process died, up to its lease. */
const IN_PROGRESS_RETRY_S = 2;

/**
 * Refusals that stay true for this request (an order that exists can still get the content that was asked for). All others mean that asking again may end otherwise, as what is missing
 * may be set up next: the key is released, and a code that is missing here costs a second run and nothing else.
 */
const DEFINITE: ReadonlySet<RefusalCode> = new Set<RefusalCode>([
  'order_already_paid',
  'order_not_payable',
  'channel_rejected',
]);

/** Nothing can have begun: the key is free for another request. */
const NOT_BEGUN: ReadonlySet<RefusalCode> = new Set<RefusalCode>(['invalid_request', 'payment_not_found']);

/** Runs a handler, at most once at a time and until its result is definite, for each key. */
export type RunOnce = (
  endpoint: Endpoint & Required<Pick<Endpoint, 'replay'>>,
  exchange: Exchange,
  /** Objects whose names are the request's fields. */
  payload: readonly unknown[],
) => Promise<void>;

export function createRunOnce({ db, now }: Pick<Api, 'db' | 'now'>): RunOnce {
  return async (endpoint, exchange, payload) => {
    const { request, response } = exchange;
    const access = exchange.access as Access;
    // Keys are their merchant's: whoever has a client token must not use them up, nor learn what they stand for.
    if (access.kind === 'token') return await endpoint.handle(exchange);
    const key = readKey(request);
    if (key === undefined) return await endpoint.handle(exchange);

    const route = `${endpoint.method.toUpperCase()} ${endpoint.path}`;
    const { merchantId } = access.caller;
    const claim = await claimKey(
      db,
      { merchantId, key, route, requestHash: hashOf(payload), fields: fieldsOf(payload) },
      now(),
    );
    if (claim.kind === 'reused') {
      const errors = claim.fields.map((path) => ({ path, message: 'differs from the request of this key' }));
      const where = claim.route === route ? '' : `, of ${claim.route}`;
      throw new Refusal(
        'idempotency_key_reused',
        `This key stands for another request${where}: take a new one.`,
        errors.length === 0 ? {} : { errors },
      );
    }
    if (claim.kind === 'in_progress') {
      throw new Refusal('idempotency_key_in_progress', 'The request with this key has not ended yet.', {
        retryAfterSeconds: IN_PROGRESS_RETRY_S,
      });
    }
    if (claim.kind === 'done') {
      response.set(REPLAYED, 'true');
      const { result } = claim;
      if ('refused' in result) {
        const { code, detail, ...more } = result.refused;
        throw new Refusal(code as RefusalCode, detail, more);
      }
      response.status(result.status).json(await endpoint.replay(result.made, access));
      return;
    }
    await run(endpoint, exchange, claim.lease);
  };

  async function run(endpoint: Endpoint, exchange: Exchange, lease: Lease): Promise<void> {
    const { log } = exchange.request;
    /** The work is durable and the answer true, so it goes out though the key could not be settled. */
    const settle = (work: Promise<void>) =>
      work.catch((error: unknown) =>
        log.warn({ err: error }, 'an idempotency key waits for its lease to end'),
      );
    try {
      await endpoint.handle({
        ...exchange,
        async answer(status, body) {
          // 202: it goes on, and the next identical request learns how.
          await settle(
            status === 202 ? releaseKey(db, lease) : keepResult(db, lease, { status, made: body.id }),
          );
          await exchange.answer(status, body);
        },
      });
    } catch (error) {
      const { code, message, errors } = toRefusal(error);
      if (DEFINITE.has(code)) {
        const { status } = REFUSALS[code];
        await settle(
          keepResult(db, lease, {
            status,
            refused: { code, detail: message, ...(errors === undefined ? {} : { errors }) },
          }),
        );
      } else if (NOT_BEGUN.has(code)) await settle(forgetKey(db, lease));
      else await settle(releaseKey(db, lease));
      throw error;
    }
  }
}

/** How a handler without a key answers. */
export const plainAnswer =
  (response: Response): Exchange['answer'] =>
  async (status, body) => {
    response.status(status).json(body);
  };

/** The request's key, if it has one. @throws Refusal `bad_request` */
export function readKey(request: Request): string | undefined {
  const given = request.get(IDEMPOTENCY_KEY);
  if (given === undefined) return undefined;
  const parsed = idempotencyKey.safeParse(given);
  if (parsed.success) return parsed.data;
  throw new Refusal('bad_request', `The header Idempotency-Key ${parsed.error.issues[0]?.message}.`);
}

/**
 * Enough to tell the values of a field apart, and too little to find out which one it was: many have the same.
 */
const FINGERPRINT_DIGITS = 6;

/** The fingerprints of a payload's fields, by their paths. The payload has been validated, so they are few. */
function fieldsOf(payload: readonly unknown[]): Record<string, string> {
  const leaves = (value: unknown, path: readonly string[]): [string, string][] =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.entries(value).flatMap(([name, part]) => leaves(part, [...path, name]))
      : [[path.join('.'), hashOf([path, value]).slice(0, FINGERPRINT_DIGITS)]];
  return Object.fromEntries(payload.flatMap((part) => leaves(part, [])));
}

/** The same for the same JSON value, whatever the order of its names. */
function hashOf(payload: unknown): string {
  const text = JSON.stringify(payload, (_, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return createHash('sha256').update(text).digest('hex');
}
