// npm run stack: runs Temporal and a migrated PostgreSQL in the foreground.
import { runForeground } from './foreground.ts';
import { startStack } from './stack.ts';

const started = Date.now();
await runForeground(async (supervisor, config) => {
  // With a wrong secret, the command prints the error, but the servers stay up. The reason is that `secret replace`
  // needs the database, and no other process may use the database at that time.
  await startStack(supervisor, config, ({ message }) => console.error(message));
  console.log(`PostgreSQL       ${withoutPassword(config.databaseUrl)}`);
  console.log(`Temporal         ${config.temporal.address}`);
  if (config.temporal.uiUrl !== undefined) console.log(`Temporal Web UI  ${config.temporal.uiUrl}`);
  console.log(`Logs             ${config.home}/logs`);
  console.log(`stack ready in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  if (!config.embeddedDatabase && !config.embeddedTemporal) {
    console.log(
      'DATABASE_URL and TEMPORAL_ADDRESS are both set: the migrations were applied, and there is nothing to run.',
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
