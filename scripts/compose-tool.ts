import { spawnSync } from 'node:child_process';

/** The command that runs docker-compose on this machine; undefined when there is none. */
export const findComposeTool = (): readonly string[] | undefined =>
  [['docker', 'compose'], ['docker-compose']].find(([command = '', ...args]) =>
    /version v?\d/i.test(spawnSync(command, [...args, 'version'], { encoding: 'utf8' }).stdout ?? ''),
  );
