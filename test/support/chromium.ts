import { existsSync } from 'node:fs';

export const CHROMIUM_PATHS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The system's Chromium; undefined on machines without one. */
export const findChromium = (): string | undefined => CHROMIUM_PATHS.find((path) => existsSync(path));
