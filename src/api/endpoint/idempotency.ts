import { createHash } from 'node:crypto';
import type { Request, Response } from 'express';
import { REFUSALS, Refusal, type RefusalCode } from '../../domain/refusal.ts';
import { claimKey, forgetKey, keepResult, type Lease, releaseKey } from '../../ledger/idempotency.ts';
import type { Api } from '../api-deps.ts';
import { toRefusal } from '../http/problems.ts';
import { idempotencyKey } from '../schemas/common.ts';
import type { Access } from './auth.ts';
import type { Endpoint, Exchange } from './endpoint.ts';

/**
 * Implements `Idempotency-Key` for routes that declare `replay`. If a caller sends a request several times with one
 * key, the request runs once.
 */

export const IDEMPOTENCY_KEY = 'idempotency-key';
/** The header that marks an answer as the result of an earlier request with the same key. */
export const REPLAYED = 'idempotency-replayed';

/**
 * The `Retry-After` for a request whose `Idempotency-Key` is still in use by an earlier request. A request usually
 * takes less than a second. If the process of the earlier request died, the key stays in use until its lease expires.
 */
const IN_PROGRESS_RETRY_S = 2;

/**
 * Refusals that every retry of the same request would get again. nodrop stores such a refusal under the
 * `Idempotency-Key`. After any other refusal, a retry may succeed, so nodrop releases the key. `order_exists` is not in
 * this list, because the order can still be changed to match the request.
 */
const DEFINITE: ReadonlySet<RefusalCode> = new Set<RefusalCode>([
  'order_already_paid',
  'order_not_payable',
  'channel_rejected',
]);

/**
 * Refusals that happen before any work has started. After such a refusal, the caller may use the `Idempotency-Key` for
 * another request.
 */
const NOT_BEGUN: ReadonlySet<RefusalCode> = new Set<RefusalCode>(['invalid_request', 'payment_not_found']);

/**
 * Runs a handler under an `Idempotency-Key`. The handler never runs twice at the same time under one key. After a final
 * result, it does not run again.
 */
export type RunOnce = (
  endpoint: Endpoint & Required<Pick<Endpoint, 'replay'>>,
  exchange: Exchange,
  /** The path parameters and the body of the request. */
  payload: readonly unknown[],
) => Promise<void>;

export function createRunOnce({ db, now }: Pick<Api, 'db' | 'now'>): RunOnce {
  return async (endpoint, exchange, payload) => {
    const { request, response } = exchange;
    const access = exchange.access as Access;
    // An `Idempotency-Key` belongs to the merchant. So nodrop ignores the key of a payer with a client token. The payer
    // must neither use up the merchant's keys nor learn about the merchant's requests.
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
      const errors = claim.fields.map((path) => ({
        path,
        message: 'differs from the first request with this key',
      }));
      const where = claim.route === route ? '' : `, of ${claim.route}`;
      throw new Refusal(
        'idempotency_key_reused',
        `This key belongs to another request${where}: use a new key.`,
        errors.length === 0 ? {} : { errors },
      );
    }
    if (claim.kind === 'in_progress') {
      throw new Refusal('idempotency_key_in_progress', 'A request with this key is still in progress.', {
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
    /**
     * Updates the stored `Idempotency-Key`. If the update fails, the process only logs the error. The caller gets the
     * answer anyway, because the work is already durable.
     */
    const settle = (work: Promise<void>) =>
      work.catch((error: unknown) =>
        log.warn({ err: error }, 'an idempotency key could not be updated and waits for its lease to expire'),
      );
    try {
      await endpoint.handle({
        ...exchange,
        async answer(status, body) {
          // Status 202 means that the work is not finished. So the key is released, and the next identical request runs
          // the handler again to get the result.
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

/** Sends the answer of a request that has no `Idempotency-Key`. */
export const plainAnswer =
  (response: Response): Exchange['answer'] =>
  async (status, body) => {
    response.status(status).json(body);
  };

/** Returns the `Idempotency-Key` of the request, if the request has one. @throws Refusal `bad_request` */
export function readKey(request: Request): string | undefined {
  const given = request.get(IDEMPOTENCY_KEY);
  if (given === undefined) return undefined;
  const parsed = idempotencyKey.safeParse(given);
  if (parsed.success) return parsed.data;
  throw new Refusal('bad_request', `The header Idempotency-Key ${parsed.error.issues[0]?.message}.`);
}

/**
 * Length of a fingerprint. A fingerprint shows that a field has changed. It does not reveal the value of the field,
 * because many values have the same fingerprint.
 */
const FINGERPRINT_DIGITS = 6;

/**
 * Returns the fingerprints of a payload's fields, by path. The payload has been validated, so it has only a few
 * fields.
 */
function fieldsOf(payload: readonly unknown[]): Record<string, string> {
  const leaves = (value: unknown, path: readonly string[]): [string, string][] =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.entries(value).flatMap(([name, part]) => leaves(part, [...path, name]))
      : [[path.join('.'), hashOf([path, value]).slice(0, FINGERPRINT_DIGITS)]];
  return Object.fromEntries(payload.flatMap((part) => leaves(part, [])));
}

/** A hash of a JSON value that does not depend on the order of property names. */
function hashOf(payload: unknown): string {
  const text = JSON.stringify(payload, (_, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return createHash('sha256').update(text).digest('hex');
}
