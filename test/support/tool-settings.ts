import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, loadConfig } from '../../src/config.ts';

/** Where the tools are, from the environment as every program reads it. */
export function toolSettings(): Config['stack'] {
  const home = mkdtempSync(join(tmpdir(), 'nodrop-tools-'));
  try {
    return loadConfig({ ...process.env, NODROP_HOME: home }).stack;
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}
