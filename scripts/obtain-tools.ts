// node --import tsx scripts/obtain-tools.ts TOOL...
//
// Obtains those of the tools that this machine does not have, all at once, and says what it does and how long it takes.
// A process of its own, so that it runs beside other work and outside vitest. Exit code 1 when one of them is missing
// in the end; its last lines say which, and what to do, and so do its messages to a parent.
import { hasMaven } from '../src/stack/build.ts';
import { StackError } from '../src/stack/errors.ts';
import {
  hasPip,
  lookUpPaymentLibrary,
  obtainPaymentLibrary,
  type PaymentLibrary,
} from '../src/stack/payment-libraries.ts';
import { findTemporalCli, findTestServer } from '../src/stack/tools.ts';
import { CHROMIUM_PATHS, findChromium } from '../test/support/chromium.ts';
import { toolSettings } from '../test/support/tool-settings.ts';
import { obtainCaddy } from './caddy.ts';
import { findComposeTool } from './compose-tool.ts';
import { GENERATORS, obtainGenerator } from './generators.ts';
import { findNode, hasNodes, NODES } from './nodes.ts';
import { obtainStripeServer, STRIPE_SERVERS } from './stripe-servers.ts';
import { CHROMIUM, COMPOSE, installSystemPackages, MAVEN } from './system-packages.ts';
import type { Tool } from './tools.ts';

/** Commands that run are ended with us, whether Ctrl-C ends us or our parent ends. */
const end = () => process.exit(1);
process.once('SIGINT', end).once('SIGTERM', end).once('disconnect', end);
process.channel?.unref();

const wanted = new Set(process.argv.slice(2) as Tool[]);

async function obtainNodes(cacheDir: string) {
  if (!hasNodes()) return;
  for (const version of NODES) {
    if ((await findNode(version, cacheDir)) !== undefined) continue;
    throw new StackError(
      `Node ${version} could not be obtained: check that npm reaches its registry, and run the command again.`,
    );
  }
}

async function installPackages() {
  const packages = [
    ...(wanted.has('chromium') && findChromium() === undefined ? [CHROMIUM] : []),
    ...(wanted.has('docker-compose') && findComposeTool() === undefined ? [COMPOSE] : []),
  ];
  await installSystemPackages(packages);
  if (wanted.has('chromium') && findChromium() === undefined) {
    throw new StackError(
      'There is no Chromium, so the browser tests cannot run, which counts as a failure: install it ' +
        `(apt-get install chromium, as root, or any at ${CHROMIUM_PATHS.join(', ')}) and run npm test again.`,
    );
  }
}

/** @param packages the installation under way: apt-get does one at a time. */
async function obtainTestServer(settings: ReturnType<typeof toolSettings>, packages: Promise<void>) {
  try {
    await findTestServer(settings);
  } catch (error) {
    // A JDK alone is enough where Maven can be installed.
    if (hasMaven()) throw error;
    await packages.catch(() => undefined);
    await installSystemPackages([MAVEN]);
    if (!hasMaven()) throw error;
    await findTestServer(settings);
  }
}

/** @param packages the installation under way, which reads the lists of packages that are missing. */
async function obtainProxy(cacheDir: string, packages: Promise<void>) {
  await packages.catch(() => undefined);
  const failure = await obtainCaddy(cacheDir);
  if (failure === undefined) return;
  console.error(
    `There is no Caddy, so the tests of deploy/caddy/Caddyfile are SKIPPED: put caddy on the PATH. Debian's package could not be unpacked: ${failure}`,
  );
}

/** @param testServer for which Maven may be installed. */
function obtainGenerators(cacheDir: string, testServer: readonly Promise<void>[]) {
  return GENERATORS.map(async (generator) => {
    if (generator === 'java' && !hasMaven()) await Promise.allSettled(testServer);
    await obtainGenerator(generator, cacheDir);
  });
}

/** Where the machine lacks what a library runs on, its tests are skipped. */
async function obtainForDoubles(library: PaymentLibrary, cacheDir: string) {
  if (lookUpPaymentLibrary(library, cacheDir) === undefined && !hasPip()) {
    console.error(`The tests against ${library} are skipped: they need Python 3.10 or newer with pip.`);
    return;
  }
  await obtainPaymentLibrary(library, cacheDir);
}

async function say(error: unknown) {
  const sentence = error instanceof StackError ? error.message : `A tool could not be obtained: ${error}`;
  console.error(sentence);
  process.exitCode = 1;
  if (process.send !== undefined) await new Promise((sent) => process.send?.(sentence, sent));
}

try {
  const settings = toolSettings();
  const packages = installPackages();
  const testServer = wanted.has('test-server') ? [obtainTestServer(settings, packages)] : [];
  const work = [
    ...(wanted.has('temporal') ? [findTemporalCli(settings)] : []),
    ...testServer,
    ...(wanted.has('caddy') ? [obtainProxy(settings.cacheDir, packages)] : []),
    ...(wanted.has('generators') ? obtainGenerators(settings.cacheDir, testServer) : []),
    ...(wanted.has('nodes') ? [obtainNodes(settings.cacheDir)] : []),
    ...(wanted.has('python-alipay-sdk') ? [obtainForDoubles('python-alipay-sdk', settings.cacheDir)] : []),
    ...(wanted.has('stripe-servers')
      ? STRIPE_SERVERS.map((server) => obtainStripeServer(server, settings.cacheDir))
      : []),
    ...(wanted.has('wechatpayv3') ? [obtainForDoubles('wechatpayv3', settings.cacheDir)] : []),
    packages,
  ];
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'rejected') await say(result.reason);
  }
} catch (error) {
  await say(error);
}
