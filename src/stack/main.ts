// npm run stack: PostgreSQL with its migrations, and Temporal, in the foreground.
import { runForeground } from './foreground.ts';
import { startStack } from './stack.ts';

const started = Date.now();
await runForeground(async (supervisor, config) => {
  // The servers stay up with another secret too: `secret replace` needs the database, and no other process may run then.
  await startStack(supervisor, config, ({ message }) => console.error(message));
  console.log(`PostgreSQL       ${withoutPassword(config.databaseUrl)}`);
  console.log(`Temporal         ${config.temporal.address}`);
  if (config.temporal.uiUrl !== undefined) console.log(`Temporal Web UI  ${config.temporal.uiUrl}`);
  console.log(`Logs             ${config.home}/logs`);
  console.log(`stack ready in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  if (!config.embeddedDatabase && !config.embeddedTemporal) {
    console.log(
      'DATABASE_URL and TEMPORAL_ADDRESS are both set: the migrations are applied, and nothing stays running.',
    );
    await supervisor.stop();
    process.exit(0);
  }
});

function withoutPassword(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  url.password = '';
  return url.href;
}
