import { expect, test } from 'vitest';
import { ensureMerchant, setMerchant } from '../../src/ledger/merchants.ts';
import { SecretCheck } from '../../src/ledger/secret-check.ts';
import { replaceSecret, requireSecret, WrongSecret } from '../../src/ledger/secret-fingerprint.ts';
import { queryOnce, useDatabase } from '../support/stack.ts';

/**
 * Tests that a database belongs to one NODROP_SECRET. The first process records the fingerprint of its secret. All
 * other processes compare their secret with this fingerprint.
 */

const RIGHT = 'the secret that was here first, 32+';
const OTHER = 'another secret, which came later, 32+';
const own = (secret: string, secretFile: string | null = null, embeddedDatabase = true) => ({
  ...{ secret, secretFile, embeddedDatabase },
});

const database = useDatabase({ perTest: true });

const refusal = (secret: string, secretFile: string | null = null): Promise<Error> =>
  requireSecret(database.db, own(secret, secretFile)).then(
    () => {
      throw new Error('It was not refused.');
    },
    (error) => {
      expect(error).toBeInstanceOf(WrongSecret);
      for (const text of [RIGHT, OTHER]) expect(error.message).not.toContain(text);
      return error;
    },
  );

test('the fingerprint of the first secret is recorded without revealing the secret, and from then on only that secret is accepted', async () => {
  await requireSecret(database.db, own(RIGHT));
  await requireSecret(database.db, own(RIGHT));
  const rows = await database.db.secretFingerprint.findMany();
  expect(rows).toMatchObject([{ id: 1, fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/), keptIn: null }]);
  expect(JSON.stringify(rows)).not.toContain(RIGHT);
  expect((await refusal(OTHER)).message).toMatch(
    /^NODROP_SECRET is not the secret .*: the right one was set as NODROP_SECRET in /,
  );
});

test('if the secret is wrong, the message names the file that contains the right secret', async () => {
  await requireSecret(database.db, own(RIGHT, '/srv/one/secrets.json'));
  expect((await refusal(OTHER)).message).toContain(
    'the right one is in /srv/one/secrets.json. Set NODROP_HOME',
  );
  expect((await refusal(OTHER, '/srv/two/secrets.json')).message).toMatch(
    /^The secret in \/srv\/two\/secrets\.json is not the secret .* the right one is in \/srv\/one\/secrets\.json\./,
  );
  expect((await refusal(OTHER, '/srv/one/secrets.json')).message).toContain(
    'the right one was in the same file before. Restore the file',
  );
  // If the database is external, no process reads the file with the secret. So the message tells the operator to set
  // NODROP_SECRET.
  await expect(requireSecret(database.db, own(OTHER, null, false))).rejects.toThrow(
    'the right one is in /srv/one/secrets.json. Set NODROP_SECRET to the `secret` in that file. To change it',
  );
  // In this case, the data folder was moved.
  await requireSecret(database.db, own(RIGHT, '/srv/moved/secrets.json'));
  expect((await refusal(OTHER)).message).toContain('the right one is in /srv/moved/secrets.json.');
});

test('of several concurrent processes, one records its secret, and processes with another secret are refused', async () => {
  const others = Array.from({ length: 4 }, () => database.connect());
  const results = await Promise.allSettled(
    others.map((client, index) => requireSecret(client, own(index % 2 === 0 ? RIGHT : OTHER))),
  );
  expect(results.map(({ status }) => status).sort()).toEqual([
    'fulfilled',
    'fulfilled',
    'rejected',
    'rejected',
  ]);
  expect(results[0]?.status).toBe(results[2]?.status);
  expect(await database.db.secretFingerprint.count()).toBe(1);
});

const merchantUnder = async (name: string, secret: string) => {
  await ensureMerchant(database.db, name, []);
  await setMerchant(database.db, name, { orderServiceUrl: 'https://shop.example/' }, secret, new Date());
};

test('if the database has no fingerprint, a secret that cannot decrypt the stored secrets is not recorded', async () => {
  await merchantUnder('acme', RIGHT);
  expect((await refusal(OTHER)).message).toContain('encrypted the signing secrets of acme');
  expect(await database.db.secretFingerprint.count()).toBe(0);
  await requireSecret(database.db, own(RIGHT));
  expect(await database.db.secretFingerprint.count()).toBe(1);
});

test('if signing secrets are encrypted with two different secrets, the message names the merchants whose secrets must be rotated', async () => {
  await merchantUnder('acme', RIGHT);
  await merchantUnder('lost', OTHER);
  expect((await refusal(RIGHT)).message).toContain('of lost.');
  expect((await refusal(OTHER)).message).toContain('of acme.');
  expect(await replaceSecret(database.db, own(RIGHT), new Date())).toEqual(['lost']);
  await requireSecret(database.db, own(RIGHT));
  await refusal(OTHER);
});

test('the check of the secret is repeated after a database error, but not after a wrong secret', async () => {
  await queryOnce(database.databaseUrl, 'alter table secret_fingerprint rename to away');
  const check = new SecretCheck(database.db, own(RIGHT));
  await expect(check.pass()).rejects.not.toBeInstanceOf(WrongSecret);
  await queryOnce(database.databaseUrl, 'alter table away rename to secret_fingerprint');
  await Promise.all([check.pass(), check.pass()]);
  const other = new SecretCheck(database.db, own(OTHER));
  await expect(other.pass()).rejects.toBeInstanceOf(WrongSecret);
  await expect(other.passInTime(new AbortController().signal)).rejects.toBeInstanceOf(WrongSecret);
});

test('the table of the secret’s fingerprint has at most one row', async () => {
  await requireSecret(database.db, own(RIGHT));
  await expect(
    queryOnce(database.databaseUrl, "insert into secret_fingerprint (id, fingerprint) values (2, 'x')"),
  ).rejects.toThrow('secret_fingerprint_id_check');
});
