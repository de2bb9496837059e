// The interface between the two parts of the client. It is not part of the package, because only server.js uses these
// exports of index.js.
import type { CallOptions, ClientOptions, WaitOptions } from './index.d.ts';

/** The calls that both parts of the client make. */
export interface Connected {
  call(
    path: string,
    options: CallOptions & {
      readonly method?: string | undefined;
      readonly token?: string | undefined;
      readonly body?: unknown;
      readonly headers?: Record<string, string> | undefined;
    },
    // biome-ignore lint/suspicious/noExplicitAny: each caller states the type of its answer.
  ): Promise<any>;
  getPayment(
    id: string,
    options?: CallOptions & { readonly token?: string | undefined; readonly wait?: number | undefined },
    // biome-ignore lint/suspicious/noExplicitAny: the type is PaymentForPayer with a token, and Payment with a key.
  ): Promise<any>;
  waitForResult(
    id: string,
    // biome-ignore lint/suspicious/noExplicitAny: the type is PaymentForPayer with a token, and Payment with a key.
    options?: WaitOptions<any> & { readonly token?: string | undefined },
    // biome-ignore lint/suspicious/noExplicitAny: the type is PaymentForPayer with a token, and Payment with a key.
  ): Promise<any>;
  hint(id: string, options?: CallOptions & { readonly token?: string | undefined }): Promise<void>;
  switchChannel(
    id: string,
    to: { readonly channel: string; readonly method?: string | undefined },
    options?: CallOptions & { readonly token?: string | undefined },
    // biome-ignore lint/suspicious/noExplicitAny: the caller with a token gets a SwitchedPayment.
  ): Promise<any>;
}

declare module './index.d.ts' {
  export function connect(options: ClientOptions & { readonly key?: string }): Connected;

  /** The pause after `before` failed tries, in ms. It is never shorter than the error's `Retry-After`. */
  export function pauseAfter(error: unknown, before: number): number;
}
