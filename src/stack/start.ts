// npm start: runs the stack, the simulator, the API, a worker and, with the embedded database, the example shop.
import type { Config } from '../config.ts';
import { runForeground } from './foreground.ts';
import { requireFreePort } from './ports.ts';
import { answers, program } from './program-spec.ts';
import { shopUrl } from './shop-setup.ts';
import { startStack } from './stack.ts';
import { requireProgramPorts, startPrograms } from './start-programs.ts';

const started = Date.now();
await runForeground(async (supervisor, config) => {
  // The ports are checked before anything starts, so that an occupied port is reported immediately.
  await requireProgramPorts(config);
  if (config.embeddedDatabase) await requireFreePort(config.shop.port, 'the shop', 'NODROP_SHOP_PORT');
  console.log('Starting the stack, the simulator, the API and a worker ...');
  await startStack(supervisor, config);
  await startPrograms(supervisor, config, 'log');
  if (config.embeddedDatabase) {
    const shop = program('shop', 'stack/shop.ts', () => answers(`${shopUrl(config)}/healthz`));
    await supervisor.start({ ...shop, output: 'log' });
  }
  console.log(summary(config));
});

function summary(config: Config): string {
  const { api, admin, embeddedDatabase, home, simulator, temporal } = config;
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  // The development key only works with the embedded database.
  const key = embeddedDatabase ? 'sk_dev_nodrop' : '$KEY';
  const makeKey = embeddedDatabase
    ? ''
    : '\n  export KEY=... # from: npm run nodrop -- keys create --merchant shop\n';
  return `
nodrop is ready in ${seconds} s. Ctrl-C stops it. The data stay in ${home}
${embeddedDatabase ? `\nOpen ${shopUrl(config)} and buy something.\n` : ''}
  API              ${api.publicUrl}
  API reference    ${api.publicUrl}/docs
  Simulator        ${simulator.url}
  Its faults       ${simulator.url}/_control/faults
  Temporal Web UI  ${temporal.uiUrl ?? 'the one of your own server'}
  Metrics          http://${admin.host}:${admin.port}/metrics
  Logs             ${home}/logs

To create a payment by hand (then open the payUrl of the answer, pay, and read the order):
${makeKey}
  curl -s ${api.publicUrl}/v1/payments \\
    -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' \\
    -d '{"order":{"id":"order-1","amount":1990,"currency":"CNY","subject":"Coffee"},"channel":"simulator"}'

  curl -s '${api.publicUrl}/v1/orders/order-1?wait=30' -H "Authorization: Bearer ${key}"

With the subject "Coffee [sim:paid callback-lost]" the wallet pays automatically, and its callback is lost.
docs/sandbox.md lists all such subjects, and the faults (without a token, only from this machine).
`;
}
