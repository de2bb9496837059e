// Tests npm run dev, which restarts a program of nodrop when one of its files changes, and prints a readable
// log.
import { utimesSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually, freePort } from '../support/stack.ts';
import { newPlace, removePlace, type StackPlace, StackProgram } from './program.ts';

let place: StackPlace;
let url: string;
let dev: StackProgram;
beforeAll(async () => {
  place = await newPlace();
  const [api, admin, simulator] = [await freePort(), await freePort(), await freePort()];
  url = `http://127.0.0.1:${api}`;
  const ports = {
    PORT: String(api),
    NODROP_ADMIN_PORT: String(admin),
    NODROP_SIMULATOR_PORT: String(simulator),
  };
  dev = await new StackProgram({ ...place.env, ...ports }, 'dev').ready();
});
afterAll(async () => {
  await dev?.stop();
  removePlace(place);
});

/** Counts the log lines of a program that have this level and message. */
const said = (level: string, program: string, message: string) =>
  dev.output.match(new RegExp(`^[\\d:.]{12} ${level} +${program} +${message}`, 'gm'))?.length ?? 0;

/** Updates the time of a file, as an editor does when it saves the file without changes. */
const save = (file: string) =>
  utimesSync(fileURLToPath(new URL(`../../src/${file}`, import.meta.url)), new Date(), new Date());

test('npm run dev logs a request as one readable line', async () => {
  const response = await fetch(`${url}/v1/orders/none`, {
    headers: { authorization: 'Bearer sk_dev_nodrop', 'x-request-id': 'my-request' },
  });
  expect(response.status).toBe(404);
  await eventually(() => said('WARN', 'api', 'answered GET /v1/orders/none 404 requestId=my-request') === 1);
});

test('saving a file of the API restarts the API, and saving a workflow restarts the worker', async () => {
  expect(said('INFO', 'api', 'API listening')).toBe(1);
  expect(said('INFO', 'worker', 'worker ready')).toBe(1);
  save('api/app.ts');
  await eventually(() => said('INFO', 'api', 'API listening') === 2);
  expect(said('INFO', 'worker', 'worker ready')).toBe(1);
  // The worker does not import workflows/payment.ts, but bundles it for the workflow sandbox.
  save('workflows/payment.ts');
  await eventually(() => said('INFO', 'worker', 'worker ready') === 2);
});

test('npm run dev stops with the exit code 0', async () => {
  expect(await dev.stop()).toBe(0);
  expect(dev.output).toContain('Stopped.');
});
