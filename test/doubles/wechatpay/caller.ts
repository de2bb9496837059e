import { randomBytes, randomUUID } from 'node:crypto';
import type { Books, Merchant, Order, Refund } from './books.ts';
import { inChina } from './books.ts';
import type { Oracle } from './oracle.ts';

export type CallbackPlan = 'sent' | 'lost' | 'held' | 'doubled';

export interface MadeCallback {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The maximum number of attempts to send a callback. A refused callback is repeated immediately. */
const AGAIN_AT_MOST = 3;

/** Encrypts, signs and sends callbacks. */
export class Caller {
  plan: CallbackPlan = 'sent';
  readonly #books: Books;
  readonly #oracle: Oracle;
  readonly #held: (() => void)[] = [];

  constructor(books: Books, oracle: Oracle) {
    this.#books = books;
    this.#oracle = oracle;
  }

  /** The key that signs callbacks to this merchant. */
  signerOf({ publicKeyId }: Merchant) {
    const key = publicKeyId === null ? undefined : this.#books.publicKeys.get(publicKeyId);
    if (key !== undefined) return { ...key, serial: publicKeyId ?? '' };
    const newest = this.#books.platform.at(-1);
    if (newest === undefined) throw new Error('there is no platform key');
    return newest;
  }

  async sign(merchant: Merchant, body: string, atMs: number): Promise<Record<string, string>> {
    const [timestamp, nonce] = [String(Math.floor(atMs / 1000)), randomBytes(16).toString('hex')];
    const { serial, privateKey } = this.signerOf(merchant);
    return {
      'wechatpay-timestamp': timestamp,
      'wechatpay-nonce': nonce,
      'wechatpay-serial': serial,
      'wechatpay-signature-type': 'WECHATPAY2-SHA256-RSA2048',
      'wechatpay-signature': await this.#oracle.sign(privateKey, [timestamp, nonce, body]),
    };
  }

  async seal(merchant: Merchant, text: string, associated_data: string, apiV3Key = merchant.apiV3Key) {
    const nonce = randomBytes(6).toString('hex');
    const ciphertext = await this.#oracle.encrypt(apiV3Key, nonce, associated_data, text);
    return { algorithm: 'AEAD_AES_256_GCM', nonce, associated_data, ciphertext };
  }

  async make(
    merchant: Merchant,
    event_type: string,
    content: object,
    { atMs = this.#books.signedAt(), apiV3Key }: { atMs?: number; apiV3Key?: string | undefined } = {},
  ): Promise<MadeCallback> {
    const original_type = event_type.split('.')[0]?.toLowerCase() ?? '';
    const sealed = await this.seal(merchant, JSON.stringify(content), original_type, apiV3Key);
    const body = JSON.stringify({
      id: randomUUID(),
      create_time: inChina(atMs),
      event_type,
      resource_type: 'encrypt-resource',
      summary: '摘要',
      resource: { original_type, ...sealed },
    });
    const headers = { 'content-type': 'application/json', ...(await this.sign(merchant, body, atMs)) };
    return { headers, body };
  }

  /** The content of the callback is created once. Each attempt signs it again. */
  send(merchant: Merchant, url: string, eventType: string, content: object): void {
    if (this.plan === 'lost') return;
    const times = this.plan === 'doubled' ? 2 : 1;
    const deliver = () => {
      void (async () => {
        const { body } = await this.make(merchant, eventType, content);
        for (let again = 0, done = 0; again < AGAIN_AT_MOST && done < times; again += 1) {
          const headers = {
            'content-type': 'application/json',
            ...(await this.sign(merchant, body, this.#books.signedAt())),
          };
          const answer = await fetch(url, { method: 'POST', headers, body }).catch(() => undefined);
          if (answer !== undefined && [200, 204].includes(answer.status)) done += 1;
        }
      })();
    };
    if (this.plan === 'held') this.#held.push(deliver);
    else deliver();
  }

  release(): void {
    for (const deliver of this.#held.splice(0)) deliver();
  }

  tellOfOrder(order: Order): void {
    this.send(order.merchant, order.notifyUrl, 'TRANSACTION.SUCCESS', this.#books.showOrder(order));
  }

  tellOfRefund(refund: Refund): void {
    const { merchant } = refund.order;
    const url = refund.notifyUrl ?? merchant.refundNotifyUrl;
    if (url === null) return;
    const {
      status,
      channel: _channel,
      create_time: _time,
      amount,
      ...shown
    } = this.#books.showRefund(refund);
    const { currency: _currency, ...sums } = amount;
    const { mchid, sp_mchid, sub_mchid } = this.#books.partiesOf(refund.order) as Record<string, string>;
    const content = { mchid, sp_mchid, sub_mchid, ...shown, refund_status: status, amount: sums };
    this.send(merchant, url, `REFUND.${status}`, content);
  }
}
