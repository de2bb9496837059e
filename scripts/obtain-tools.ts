// node --import tsx scripts/obtain-tools.ts TOOL...
//
// Downloads, builds or installs the tools that this machine does not have, all at the same time, and prints its
// progress. It is a separate process, so that it runs beside other work and outside vitest. Exits with 1 if a tool is
// missing at the end. Its last lines name the missing tools and the fix. It also sends these lines as messages to a
// parent process.
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

/** Ends this process after Ctrl-C, or when the parent process has ended. The exit also stops the running commands. */
const end = () => process.exit(1);
process.once('SIGINT', end).once('SIGTERM', end).once('disconnect', end);
process.channel?.unref();

const wanted = new Set(process.argv.slice(2) as Tool[]);

async function obtainNodes(cacheDir: string) {
  if (!hasNodes()) return;
  for (const version of NODES) {
    if ((await findNode(version, cacheDir)) !== undefined) continue;
    throw new StackError(
      `Node ${version} could not be installed: check that npm can reach its registry, and run the command again.`,
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
      'There is no Chromium, so the browser tests cannot run, which counts as a failure. Install it ' +
        `(as root: apt-get install chromium, or any Chromium at ${CHROMIUM_PATHS.join(', ')}) and run npm test again.`,
    );
  }
}

/**
 * @param packages the running installation of other packages. The installation of Maven waits for it, because apt-get
 * cannot run twice at the same time.
 */
async function obtainTestServer(settings: ReturnType<typeof toolSettings>, packages: Promise<void>) {
  try {
    await findTestServer(settings);
  } catch (error) {
    // The test server needs Maven. If only Maven is missing, try to install it.
    if (hasMaven()) throw error;
    await packages.catch(() => undefined);
    await installSystemPackages([MAVEN]);
    if (!hasMaven()) throw error;
    await findTestServer(settings);
  }
}

/**
 * @param packages the running installation of other packages. The function waits for it, because both may update the
 * package lists.
 */
async function obtainProxy(cacheDir: string, packages: Promise<void>) {
  await packages.catch(() => undefined);
  const failure = await obtainCaddy(cacheDir);
  if (failure === undefined) return;
  console.error(
    `There is no Caddy, so the tests of deploy/caddy/Caddyfile are SKIPPED: put caddy on the PATH. Debian's package could not be unpacked: ${failure}`,
  );
}

/** @param testServer the running installation of the test server, which may install Maven. */
function obtainGenerators(cacheDir: string, testServer: readonly Promise<void>[]) {
  return GENERATORS.map(async (generator) => {
    if (generator === 'java' && !hasMaven()) await Promise.allSettled(testServer);
    await obtainGenerator(generator, cacheDir);
  });
}

/** Installs a payment library. If the machine has no suitable Python, prints that the library's tests are skipped. */
async function obtainForDoubles(library: PaymentLibrary, cacheDir: string) {
  if (lookUpPaymentLibrary(library, cacheDir) === undefined && !hasPip()) {
    console.error(`The tests against ${library} are skipped: they need Python 3.10 or newer with pip.`);
    return;
  }
  await obtainPaymentLibrary(library, cacheDir);
}

async function say(error: unknown) {
  const sentence = error instanceof StackError ? error.message : `A tool could not be installed: ${error}`;
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
