import { createPublicKey, X509Certificate } from 'node:crypto';
import { expect, test, vi } from 'vitest';
import { readMerchant } from '../../../src/channels/wechatpay/merchant.ts';
import { authorize, decrypt, isSignedBy, signedOf } from '../../../src/channels/wechatpay/signature.ts';
import { makeApiV3Key, makeKey } from '../../doubles/wechatpay/keys.ts';

/**
 * Examples that WeChat Pay publishes in the tests of its own library, under the Apache License 2.0:
 * https://github.com/wechatpay-apiv3/wechatpay-go, core/notify/notify_test.go. Their key has only 16 bytes, because
 * they use AES-128. So this test checks only the signature, and that nodrop refuses the key.
 */
const PUBLIC_KEY = `-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2VCTd91fnUn73Xy9DLvt
/V62TVxRTEEstVdeRaZ3B3leO0pldE806mXO4RwdHXagHQ4vGeZN0yqm++rDsGK+
U3AH7kejyD2pXshNP9Cq5YwbptiLGtjcquw4HNxJQUOmDeJf2vg6byms9RUipiq4
SzbJKqJFlUpbuIPDpSpWz10PYmyCNeDGUUK65E5h2B834uxl1zNLYQCrkdBzb8oU
xwYeP5a2DNxmjL5lsJML7DGr5znsevnoqGRwTm9fxCGfy8wus7hwKz6clt3Whmmd
a7UAdb1c08hEQFVRbF14AR73xbnd8N0obCWJPCbzMCtkaSef4FdEEgEXJiw0VAJT
8wIDAQAB
-----END PUBLIC KEY-----`;
const HEADERS: Readonly<Record<string, string>> = {
  'wechatpay-nonce': 'EcZ9Cmy4Xyx1i6RlJQzLcCyEqDa26NBz',
  'wechatpay-timestamp': '1624523846',
  'wechatpay-serial': 'D7CE59D1F522D701',
  'wechatpay-signature':
    'tJHIiIS9eB2hAYstmAmbbD3ZE5LiIm/Ug5tuL4fC0YOFRWIHV39UFIZXC0e9Wl6lBu6sKvkqDkzpqzBsVHyXF' +
    'lbYZTOQrVdG4b6LfTnK4mikv9++ixJMd3vTf2yCqvBkh98zs3Ds5zsYQakzbcwhmw4fMJs4nPLws28H0UW9FjDR//rxELLwXvV1VEA1I' +
    'BLX70xptjL8hrfUjEE8kkry6yNJTHZRU8CAc7qHli2Ng1V1qb9ARbK8A3ThmFmPQvRGrapI/jS2laKKgYUmfdEdkNO6B2Cke5e8VTxY4' +
    '06ArAmQ90GAihDwIcb16TQMnzCMBoutnwZKNiKRACrFmtxw2Q==',
};
const RESOURCE = {
  associated_data: 'payscore',
  nonce: 'Kj7QIyUiYx1q',
  ciphertext:
    'YDS3lKPaC4Y52Gf3uhft5qUBlIa8b428AWTtTauHQfQrRw+X1WpiuHIDy0vo1Vd6VEq67aVyqPdDYMkRVSDaZL3iZt' +
    'tevRMOoPKMifozg6XPWjIZumks/GpT48lI4NizyeaqLBokNebthah3o1H76qSlO9NkDjp9bzmKLEYYH9TEklFUpsvPqOTOcgSLgh21YJXYR' +
    '7dEBXFgRLiNIKRgO5JdXh1hccRUAlyVWxE54PXpnQ==',
};
const BODY =
  '{"id":"3119dfba-e649-5eec-ab1e-3412bc4d2e17","create_time":"2021-06-24T16:37:26+08:00",' +
  '"resource_type":"encrypt-resource","event_type":"PAYSCORE.USER_OPEN_SERVICE","summary":"签约成功",' +
  '"resource":{"original_type":"payscore","algorithm":"AEAD_AES_256_GCM",' +
  `"ciphertext":"${RESOURCE.ciphertext}","associated_data":"payscore","nonce":"Kj7QIyUiYx1q"}}`;

test('the published example of a callback is verified with its key, but is not verified after a change of a header or the body', () => {
  const signed = signedOf((name) => HEADERS[name]);
  if (signed === undefined) throw new Error('the headers are incomplete');
  const key = createPublicKey(PUBLIC_KEY);
  expect(isSignedBy(key, signed, Buffer.from(BODY))).toBe(true);
  expect(isSignedBy(key, signed, Buffer.from(BODY.replace('3119', '3110')))).toBe(false);
  expect(isSignedBy(key, { ...signed, nonce: 'x' }, Buffer.from(BODY))).toBe(false);
  expect(isSignedBy(key, { ...signed, timestamp: '1624523847' }, Buffer.from(BODY))).toBe(false);
});

/**
 * These values come from core/cipher/AeadAesCipherTest.java and core/model/TestConfig.java of
 * https://github.com/wechatpay-apiv3/wechatpay-java.
 */
const SEALED = {
  key: Buffer.from('a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb'),
  resource: {
    ...{ associated_data: 'associatedData', nonce: 'uluk4a9R25RW' },
    ciphertext: 'ulwSiIajGClcvcOYvOQ7+l+0PAbzzwI=',
  },
};

test('the published example of a resource is decrypted with its key, but is not decrypted after a change', () => {
  const { key, resource } = SEALED;
  expect(decrypt(key, resource)).toBe('message');
  for (const change of [
    { associated_data: 'associatedDatA' },
    { nonce: 'uluk4a9R25RX' },
    { ciphertext: 'ulwSiIajGClcvcOYvOQ7+l+0PAbzzwE=' },
    { ciphertext: 'vlwSiIajGClcvcOYvOQ7+l+0PAbzzwI=' },
  ])
    expect(decrypt(key, { ...resource, ...change }), JSON.stringify(change)).toBeUndefined();
});

test('a resource cannot be decrypted with a wrong key', () => {
  expect(decrypt(Buffer.from(makeApiV3Key()), RESOURCE)).toBeUndefined();
});

test('a signature header that is missing or has another type is rejected', () => {
  for (const name of Object.keys(HEADERS)) {
    expect(
      signedOf((asked) => (asked === name ? undefined : HEADERS[asked])),
      name,
    ).toBeUndefined();
  }
  const typed = { ...HEADERS, 'wechatpay-signature-type': 'WECHATPAY2-SM2-WITH-SM3' } as Record<
    string,
    string
  >;
  expect(signedOf((name) => typed[name])).toBeUndefined();
});

test('the Authorization header of a request has five fields, and never contains the key', () => {
  vi.useFakeTimers({ toFake: ['Date'], now: 1_554_208_460_000 });
  try {
    const { serial, privateKey, certificate } = makeKey('merchant');
    expect(new X509Certificate(certificate).serialNumber).toBe(serial);
    const merchant = readMerchant({
      ...{ mchid: '1900009191', appid: 'wx8888888888888888', serial_no: serial.toLowerCase() },
      ...{ private_key: privateKey, api_v3_key: makeApiV3Key() },
    });
    const header = authorize(merchant, { method: 'GET', path: '/v3/certificates', body: '' });
    expect(header).toMatch(
      new RegExp(
        `^WECHATPAY2-SHA256-RSA2048 mchid="1900009191",nonce_str="[0-9A-F]{32}",signature="[^"]{344}",timestamp="1554208460",serial_no="${serial}"$`,
      ),
    );
  } finally {
    vi.useRealTimers();
  }
});
