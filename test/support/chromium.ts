import { existsSync } from 'node:fs';

export const CHROMIUM_PATHS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The path of the system's Chromium; undefined on machines without it. */
export const findChromium = (): string | undefined => CHROMIUM_PATHS.find((path) => existsSync(path));
