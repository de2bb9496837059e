import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, unlinkSync, writeFileSync } from 'node:fs';
import {
  type Config,
  type EmbeddedSecrets,
  embeddedHome,
  loadConfig,
  secretsFile,
  unusableHome,
} from '../config.ts';
import { privateFolder } from '../private-folder.ts';

/**
 * Loads the configuration of a program that starts the stack. With the embedded database, it first creates the secrets
 * of the data folder if there are none.
 * @throws ConfigError naming the setting that is wrong or missing.
 */
export function loadStackConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const home = embeddedHome(env);
  if (home !== undefined) makeEmbeddedSecrets(home);
  return loadConfig(env);
}

/**
 * Creates the secrets of a data folder, but keeps existing ones.
 * @throws ConfigError when the folder cannot be written
 */
export function makeEmbeddedSecrets(home: string): void {
  const file = secretsFile(home);
  try {
    privateFolder(home);
    if (existsSync(file)) return;
    const fresh: EmbeddedSecrets = {
      secret: randomBytes(32).toString('base64'),
      simulator: `whsec_${randomBytes(32).toString('base64')}`,
      simulator2: `whsec_${randomBytes(32).toString('base64')}`,
    };
    // The file is written as a draft and then linked. If several processes start together, exactly one of them creates
    // the file, and the file is complete.
    const draft = `${file}.${process.pid}`;
    writeFileSync(draft, JSON.stringify(fresh, null, 2), { mode: 0o600 });
    try {
      linkSync(draft, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      unlinkSync(draft);
    }
  } catch (error) {
    throw unusableHome(home, error);
  }
}
