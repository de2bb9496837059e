import { describe, expect, test } from 'vitest';
import { ensureMerchant, findOrderService, rotateSecret, setMerchant } from '../../src/ledger/merchants.ts';
import { newSecret, openSecret, sealSecret } from '../../src/order-service/secrets.ts';
import { queryOnce, useDatabase } from '../support/stack.ts';

// Tests how signing secrets are stored, and which of them sign at a given time.

const KEY = 'a secret of at least thirty-two characters';
const OTHER_KEY = 'another secret of thirty-two characters';
const URL = 'https://shop.example/hooks';

describe('a sealed secret', () => {
  const secret = newSecret();

  test('can be decrypted with the same key for the same merchant', () => {
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    const sealed = sealSecret(KEY, 'mer_1', secret);
    expect(openSecret(KEY, 'mer_1', sealed)).toBe(secret);
    expect(Buffer.from(sealed).includes(secret.slice(6))).toBe(false);
    expect(Buffer.from(sealed).includes(Buffer.from(secret.slice(6), 'base64'))).toBe(false);
    // Each encryption uses a new nonce.
    expect(sealSecret(KEY, 'mer_1', secret)).not.toEqual(sealed);
  });

  test('cannot be decrypted with another key, for another merchant, or after a change of a single bit', () => {
    const sealed = sealSecret(KEY, 'mer_1', secret);
    const refusal = /^A signing secret of merchant mer_\d cannot be read: .*NODROP_SECRET/;
    expect(() => openSecret(OTHER_KEY, 'mer_1', sealed)).toThrow(refusal);
    expect(() => openSecret(KEY, 'mer_2', sealed)).toThrow(refusal);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = sealed.slice();
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => openSecret(KEY, 'mer_1', changed)).toThrow(refusal);
    }
    for (let length = 0; length < sealed.length; length++) {
      expect(() => openSecret(KEY, 'mer_1', sealed.subarray(0, length))).toThrow(refusal);
    }
  });

  test('does not appear in the error message if it cannot be decrypted', () => {
    const sealed = sealSecret(KEY, 'mer_1', secret);
    try {
      openSecret(OTHER_KEY, 'mer_1', sealed);
      expect.unreachable();
    } catch (error) {
      expect(`${(error as Error).message}${(error as Error).cause}`).not.toContain(KEY);
      expect(`${(error as Error).message}${(error as Error).cause}`).not.toContain(secret);
    }
  });
});

describe('a merchant’s secrets', () => {
  const { db, databaseUrl } = useDatabase();
  let n = 0;

  const NOW = new Date('2026-11-21T10:00:00Z');
  const later = (hours: number) => new Date(NOW.getTime() + hours * 3_600_000);
  async function merchantWithSecret() {
    const name = `m${n++}`;
    const { merchant } = await ensureMerchant(db, name, []);
    const set = await setMerchant(db, name, { orderServiceUrl: URL }, KEY, NOW);
    return { id: merchant.id, name, secret: set?.secret ?? '' };
  }
  const secretsAt = async (id: string, at: Date, key = KEY) =>
    (await findOrderService(db, id, key, at))?.secrets;

  test('exist only if the merchant has an order service, and setting the first order service creates one', async () => {
    const { merchant } = await ensureMerchant(db, 'embedded', []);
    expect(await findOrderService(db, merchant.id, KEY, NOW)).toBeNull();
    expect(await findOrderService(db, 'mer_nobody', KEY, NOW)).toBeNull();
    const settings = { orderServiceUrl: URL, orderStatusUrl: `${URL}/{orderId}` };
    const first = await setMerchant(db, 'embedded', settings, KEY, NOW);
    expect(await findOrderService(db, merchant.id, KEY, NOW)).toEqual({
      url: URL,
      statusUrl: `${URL}/{orderId}`,
      secrets: [first?.secret],
    });
    // If the URL is set again, the secret stays the same. Settings that the command leaves out also stay
    // unchanged.
    const again = await setMerchant(db, 'embedded', { latePayment: 'review' }, KEY, NOW);
    expect([again?.secret, again?.merchant.orderStatusUrl]).toEqual([null, `${URL}/{orderId}`]);
    const back = { orderServiceUrl: null, orderStatusUrl: null };
    expect((await setMerchant(db, 'embedded', back, KEY, NOW))?.secret).toBeNull();
    expect(await findOrderService(db, merchant.id, KEY, NOW)).toBeNull();
    // After the order service is set again, its old secret signs again.
    expect((await setMerchant(db, 'embedded', settings, KEY, NOW))?.secret).toBeNull();
    expect(await secretsAt(merchant.id, NOW)).toEqual([first?.secret]);
  });

  test('are not created for an unknown merchant, whose settings are refused', async () => {
    expect(await setMerchant(db, 'nobody', {}, KEY, NOW)).toBeNull();
    expect(await rotateSecret(db, 'nobody', 0, KEY, NOW)).toBeNull();
  });

  test('are never stored in plain text', async () => {
    const { secret } = await merchantWithSecret();
    const rows = await queryOnce(
      databaseUrl,
      "select encode(ciphertext, 'escape') as text, hint from signing_secrets",
    );
    expect(rows.length).toBeGreaterThan(0);
    for (const row of rows) expect(row.text).not.toContain(secret.slice(6));
    expect(rows.map(({ hint }) => hint)).toContain(secret.slice(-4));
  });

  test('all sign during a rotation, the new secret first, until the old secret expires at the requested time', async () => {
    const { id, name, secret: first } = await merchantWithSecret();
    const second = (await rotateSecret(db, name, 24 * 3_600_000, KEY, later(1)))?.secret;
    expect(await secretsAt(id, later(1))).toEqual([second, first]);
    expect(await secretsAt(id, new Date(later(25).getTime() - 1))).toEqual([second, first]);
    expect(await secretsAt(id, later(25))).toEqual([second]);
  });

  test('expire at their own times after two rotations', async () => {
    const { id, name, secret: first } = await merchantWithSecret();
    const second = (await rotateSecret(db, name, 24 * 3_600_000, KEY, NOW))?.secret;
    const third = (await rotateSecret(db, name, 48 * 3_600_000, KEY, later(1)))?.secret;
    expect(await secretsAt(id, later(2))).toEqual([third, second, first]);
    expect(await secretsAt(id, later(24))).toEqual([third, second]);
    // After a secret has leaked, a rotation with no overlap ends all old secrets immediately, whatever overlap
    // was requested before.
    const fourth = (await rotateSecret(db, name, 0, KEY, later(2)))?.secret;
    expect(await secretsAt(id, later(2))).toEqual([fourth]);
  });

  test('include exactly one current secret after two concurrent rotations', async () => {
    const { id, name } = await merchantWithSecret();
    const made = await Promise.all(
      Array.from({ length: 5 }, () => rotateSecret(db, name, 3_600_000, KEY, later(1))),
    );
    expect(await db.signingSecret.count({ where: { merchantId: id, expiresAt: null } })).toBe(1);
    const secrets = await secretsAt(id, later(1));
    expect(secrets).toHaveLength(6);
    for (const one of made) expect(secrets).toContain(one?.secret);
  });

  test('can be used again after the loss of NODROP_SECRET, as soon as they have been rotated', async () => {
    const { id, name } = await merchantWithSecret();
    await expect(findOrderService(db, id, OTHER_KEY, NOW)).rejects.toThrow('NODROP_SECRET');
    const fresh = (await rotateSecret(db, name, 24 * 3_600_000, OTHER_KEY, NOW))?.secret;
    expect(await secretsAt(id, NOW, OTHER_KEY)).toEqual([fresh]);
  });
});
