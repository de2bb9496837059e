// node scripts/check-compose.mjs [FOLDER]
//
// Checks docker-compose.yml and Dockerfile without a Docker engine: always against nodrop's own rules, and if possible
// also with docker-compose. It installs docker-compose if it may do so (see system-packages.ts). Exits with 1 and
// prints one line per problem. Only the test of this script gives a FOLDER.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import 'tsx';

const { settings } = await import('../src/config.ts');
const { findComposeTool } = await import('./compose-tool.ts');
const { COMPOSE, installSystemPackages } = await import('./system-packages.ts');

const root = process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url));
const read = (path) => readFileSync(join(root, path), 'utf8');
const problems = [];

/**
 * The allowed keys of a service. Any other key is reported, because it may be misspelled. Add a new correct key here.
 */
const SERVICE_KEYS = new Set([
  ...['image', 'build', 'command', 'entrypoint', 'environment', 'depends_on', 'profiles', 'restart', 'init'],
  ...['ports', 'networks', 'volumes', 'tmpfs', 'read_only', 'cap_drop', 'cap_add', 'security_opt', 'logging'],
  ...['healthcheck', 'stop_grace_period', 'pull_policy', 'mem_limit', 'pids_limit', 'scale'],
]);
/** The only service with a writable file system: its entrypoint creates the configuration there. */
const WRITABLE = 'temporal';
/** The only service with added capabilities: its entrypoint starts as root and changes to another user. */
const PRIVILEGED = 'postgres';
/** The service that builds the image. The other services use the same image. */
const BUILDER = 'migrate';
/** Files that contain commands for operators. */
const INSTRUCTIONS = ['README.md', 'docs/operations.md', 'deploy/.env.example', 'docker-compose.yml'];
const CONDITIONS = ['service_healthy', 'service_completed_successfully'];
const SECRET = /PASSWORD|PWD|SECRET/;
/**
 * Matches a value that the environment must provide. Without it, Compose fails, or the value is empty or `missing`,
 * which nodrop refuses.
 */
const NO_DEFAULT = /^\$\{\w+:(\?[^}]+|-|-missing)\}$/;
/** The keys whose values are durations. docker-compose itself does not validate durations. */
const DURATIONS = ['interval', 'timeout', 'start_period'];
/** Only the API authenticates its callers. So only the port of the API may be published beyond loopback. */
const LOOPBACK = /^127\.0\.0\.1:/;
const LOOPBACK_BY_DEFAULT = /^(\$\{PUBLISH_HOST:-127\.0\.0\.1\}|127\.0\.0\.1):/;

function checkService(name, service, compose) {
  const say = (problem) => problems.push(`docker-compose.yml: ${name} ${problem}.`);
  for (const key of Object.keys(service)) if (!SERVICE_KEYS.has(key)) say(`has the unknown key ${key}`);
  if (!/:v?\d+\.\d+/.test(service.image ?? ''))
    say(`needs an image of a fixed version, not ${service.image}`);
  if (service.logging?.options?.['max-size'] === undefined) say('keeps logs without a limit');
  if (!service.security_opt?.includes('no-new-privileges:true')) say('may gain privileges');

  if (!service.cap_drop?.includes('ALL')) say('keeps capabilities');
  if (service.cap_add !== undefined && name !== PRIVILEGED) say('adds capabilities');
  if (service.read_only !== true && name !== WRITABLE) say('has a writable file system');
  if (!/^\d+[mg]$/.test(service.mem_limit ?? '')) say('may take all memory');
  if (!(service.pids_limit > 0)) say('may start any number of processes');

  const oneShot = service.restart === 'no';
  if (!oneShot && service.restart !== 'unless-stopped') say('has no restart policy');
  if (!oneShot && !Array.isArray(service.healthcheck?.test)) say('runs on and has no health check');
  const { healthcheck = {}, stop_grace_period: grace = '10s' } = service;
  for (const duration of [grace, ...DURATIONS.map((key) => healthcheck[key] ?? '1s')]) {
    if (!/^\d+[smh]$/.test(duration)) say(`has the duration ${duration}`);
  }
  for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
    const target = compose.services[other];
    if (target === undefined) say(`depends on ${other}, which does not exist`);
    if (!CONDITIONS.includes(condition)) say(`depends on ${other} without a condition`);
    if (target !== undefined && (target.restart === 'no') !== (condition === CONDITIONS[1])) {
      say(`waits for ${other} to be ${condition}, which never happens`);
    }
  }

  for (const [key, value] of Object.entries(service.environment ?? {})) {
    if (SECRET.test(key) && !NO_DEFAULT.test(value)) say(`has a literal or default secret in ${key}`);
    if (/:\/\/[^/@]*:[^$/@][^/@]*@/.test(value)) say(`has a literal password in ${key}`);
  }
  for (const port of service.ports ?? []) {
    if (!(name === 'api' ? LOOPBACK_BY_DEFAULT : LOOPBACK).test(port)) {
      say(`publishes ${port} beyond loopback${name === 'api' ? ' by default' : ''}`);
    }
  }
  const networks = Array.isArray(service.networks) ? service.networks : Object.keys(service.networks ?? {});
  if (networks.length === 0) say('names no network');
  for (const network of networks) {
    if (!(network in compose.networks)) say(`is on network ${network}, which is not declared`);
  }
  for (const volume of service.volumes ?? []) {
    const [source] = volume.split(':');
    if (source.startsWith('.') ? !existsSync(join(root, source)) : !(source in compose.volumes)) {
      say(`mounts ${source}, which does not exist`);
    }
  }
}

/** Checks a service that runs nodrop's image. */
function checkOurs(name, service) {
  const say = (problem) => problems.push(`docker-compose.yml: ${name} ${problem}.`);
  const { version } = JSON.parse(read('package.json'));
  if (service.image !== `nodrop:${version}`) say(`does not use version ${version} (package.json)`);
  if (service.init !== true) say('needs init');
  if (service.build !== (name === BUILDER ? '.' : undefined)) {
    say(name === BUILDER ? 'does not build the image' : `builds the image, but only ${BUILDER} may build it`);
  }
  if (service.pull_policy !== 'never') say('may pull an image that exists only locally');
  const program = service.command?.[1] ?? '';
  const source = program.replace(/^dist\//, 'src/').replace(/\.js$/, '.ts');
  if (!existsSync(join(root, source))) say(`runs ${program}, which has no source`);

  const given = Object.keys(service.environment ?? {});
  for (const key of given) {
    const known = key in settings.shape || key.startsWith('NODROP_QUERY_SCHEDULE_');
    if (!known) say(`sets ${key}, which src/config.ts does not know`);
  }
  // NODROP_MODE must have no default. With a default, an operator could test with real money, or accept payments with
  // the simulator, by mistake.
  if (name !== 'simulator' && !/^\$\{NODROP_MODE:\?/.test(service.environment?.NODROP_MODE ?? '')) {
    say('has a default for NODROP_MODE');
  }
  const needed =
    name === 'simulator' ? [] : ['NODROP_SECRET', 'DATABASE_URL', 'TEMPORAL_ADDRESS', 'NODROP_MODE'];
  for (const key of needed) if (!given.includes(key)) say(`does not set ${key}`);
}

function checkCompose(text) {
  let compose;
  try {
    compose = parse(text, { merge: true });
  } catch (error) {
    problems.push(`docker-compose.yml is not YAML: ${error.message.split('\n')[0]}`);
    return;
  }
  const services = Object.entries(compose?.services ?? {});
  for (const name of ['postgres', 'temporal', 'temporal-ui', 'migrate', 'api', 'worker', 'simulator']) {
    if (compose?.services?.[name] === undefined)
      problems.push(`docker-compose.yml: the service ${name} is missing.`);
  }
  for (const [name, service] of services) {
    checkService(name, service, { networks: {}, volumes: {}, ...compose });
    if (service.image?.startsWith('nodrop')) checkOurs(name, service);
  }
  if (compose?.services?.worker?.ports !== undefined) {
    problems.push('docker-compose.yml: worker publishes a port, so a second worker could not start.');
  }
  // The number of workers and the profile must be settings, and not options of a command. A later command does not know
  // the options of an earlier command: `up` would remove the additional workers, and `down` would leave the simulator.
  if (!/^\$\{\w+:-1\}$/.test(compose?.services?.worker?.scale ?? '')) {
    problems.push('docker-compose.yml: worker has a fixed number of containers, which .env cannot change.');
  }
  const example = read('deploy/.env.example');
  for (const profile of new Set(services.flatMap(([, { profiles = [] }]) => profiles))) {
    if (!new RegExp(`^#?COMPOSE_PROFILES=${profile}$`, 'm').test(example)) {
      problems.push(`deploy/.env.example does not set the profile ${profile}.`);
    }
  }
  for (const [, name] of text.matchAll(/\$\{(\w+)/g)) {
    if (!new RegExp(`^#?${name}=`, 'm').test(example))
      problems.push(`deploy/.env.example does not explain ${name}.`);
  }
}

/**
 * Reports each command in the instructions with `--scale` or `--profile`, because every later command would need the
 * same option.
 */
function checkInstructions() {
  for (const file of INSTRUCTIONS) {
    for (const [option] of read(file).matchAll(/--(scale|profile)(?= \w+[= ]\w)/g)) {
      problems.push(
        `${file} has a command with ${option}: later commands would not use it, so set it in .env.`,
      );
    }
  }
}

function checkDockerfile() {
  const say = (problem) => problems.push(`Dockerfile: ${problem}.`);
  const lines = read('Dockerfile').replace(/\\\n/g, ' ').split('\n');
  const allowed = read('.dockerignore').match(/(?<=^!).+/gm) ?? [];
  const stages = [];
  let user;
  let healthy = false;
  let bundles = false;
  let arenas;
  for (const [instruction, ...words] of lines.map((line) => line.trim().split(/\s+/))) {
    if (instruction === 'FROM') {
      const [image, , stage] = words;
      if (!stages.includes(image) && !/:\d+\.\d+/.test(image)) say(`${image} has not a fixed version`);
      if (stage !== undefined) stages.push(stage);
      user = undefined;
      healthy = false;
      arenas = undefined;
    } else if (instruction === 'ADD') say('use COPY instead of ADD');
    else if (instruction === 'USER') [user] = words;
    else if (instruction === 'HEALTHCHECK') healthy = true;
    else if (instruction === 'RUN') bundles ||= words.join(' ').endsWith('node dist/worker/bundle-main.js');
    else if (instruction === 'ENV') arenas ??= words.find((word) => word.startsWith('MALLOC_ARENA_MAX='));
    else if (instruction === 'COPY' && words[0]?.startsWith('--from=')) {
      if (!stages.includes(words[0].slice('--from='.length))) say(`${words[0]} names no earlier stage`);
    } else if (instruction === 'COPY') {
      for (const source of words.slice(0, -1).map((word) => word.replace(/^\.\//, ''))) {
        if (!existsSync(join(root, source))) say(`${source} does not exist`);
        if (!allowed.includes(source)) say(`${source} is excluded by .dockerignore`);
      }
    }
  }
  if (user === undefined || /^(root|0)\b/.test(user)) say('the image runs as root');
  if (!bundles) say('no step creates the workflow bundle, which the worker needs to start');
  if (arenas !== 'MALLOC_ARENA_MAX=2') say('the image does not set MALLOC_ARENA_MAX=2');
  if (!healthy) say('the image has no HEALTHCHECK');
}

function run(command, args, env = process.env) {
  return spawnSync(command, args, { cwd: root, env, encoding: 'utf8' });
}

async function checkByTool(text) {
  if (findComposeTool() === undefined) await installSystemPackages([COMPOSE]);
  const tool = findComposeTool();
  if (tool === undefined) {
    console.error(
      'docker-compose is not installed: docker-compose.yml was only checked with the rules of scripts/check-compose.mjs.',
    );
    return;
  }
  const [command, ...args] = tool;
  // Uses the example file instead of the developer's own .env. In the example file, the required settings are empty.
  const options = ['--env-file', 'deploy/.env.example', '--profile', 'simulator'];
  const config = (env) => run(command, [...args, ...options, 'config', '-q'], env);
  const names = new Set([...text.matchAll(/\$\{(\w+)/g)].map(([, name]) => name));
  const bare = Object.fromEntries(Object.entries(process.env).filter(([name]) => !names.has(name)));
  const required = new Set([...text.matchAll(/\$\{(\w+):\?/g)].map(([, name]) => name));
  const full = { ...bare, ...Object.fromEntries([...required].map((name) => [name, 'a'.repeat(32)])) };

  const { status, stderr } = config(full);
  if (status !== 0) problems.push(`${tool.join(' ')} rejects docker-compose.yml: ${stderr.trim()}`);
  for (const name of required) {
    if (config({ ...full, [name]: '' }).status === 0)
      problems.push(`docker-compose.yml starts without ${name}.`);
  }
}

const text = read('docker-compose.yml');
checkCompose(text);
checkInstructions();
checkDockerfile();
if (problems.length === 0) await checkByTool(text);
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log('docker-compose.yml and Dockerfile are in order.');
