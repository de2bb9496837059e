import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** The keys of an application at the double, as the platform shows them to the merchant. */
export interface AppKeys {
  /** PKCS #8 in PEM. */
  readonly privateKey: string;
  /** In PEM. */
  readonly certificates: { readonly app: string; readonly alipay: string; readonly root: string };
  /** The serial numbers of the certificates in the form that the protocol uses. python-alipay-sdk computes them. */
  readonly numbers: { readonly app: string; readonly alipay: string; readonly root: string };
}

export interface Keys {
  readonly alipayPublicKey: string;
  /** The key with which tests sign in Alipay's name. */
  readonly alipayPrivateKey: string;
  /** A key that belongs neither to Alipay nor to a merchant. */
  readonly strangerKey: string;
  readonly apps: Readonly<Record<string, AppKeys>>;
}

type Params = Readonly<Record<string, string>>;

export interface Oracle {
  setup(apps: readonly string[]): Promise<Keys>;
  verify(appId: string, params: Params, sign: string): Promise<'good' | 'bad' | 'unknown'>;
  signText(text: string): Promise<string>;
  signParams(params: Params): Promise<string>;
  verifyNotification(params: Params, sign: string): Promise<boolean>;
}

/** Starts python-alipay-sdk in a process that ends with this one. @param folder the folder of the library */
export function startOracle(folder: string): Oracle {
  const child = spawn('python3', ['test/doubles/alipay/oracle.py'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1' },
  });
  const waiting: { resolve(value: unknown): void; reject(error: Error): void }[] = [];
  createInterface(child.stdout).on('line', (line) => waiting.shift()?.resolve(JSON.parse(line)));
  child.once('exit', () => {
    for (const { reject } of waiting) reject(new Error('the oracle ended'));
  });
  const ask = <T>(command: string, ...args: readonly unknown[]) =>
    new Promise<T>((resolve, reject) => {
      waiting.push({ resolve: resolve as (value: unknown) => void, reject });
      child.stdin.write(`${JSON.stringify([command, args])}\n`);
    });
  return {
    setup: (apps) => ask('setup', apps),
    verify: (appId, params, sign) => ask('verify', appId, params, sign),
    signText: (text) => ask('signText', text),
    signParams: (params) => ask('signParams', params),
    verifyNotification: (params, sign) => ask('verifyNotification', params, sign),
  };
}
