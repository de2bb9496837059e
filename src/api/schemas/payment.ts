import { DECLARATIONS } from '../../channels/registry.ts';
import { ACCOUNT_NAME, ACCOUNT_NAME_RULE, FIRST_ACCOUNT } from '../../domain/channel.ts';
import { mayReturnTo } from '../../domain/return-scheme.ts';
import { z } from '../http/zod.ts';
import {
  amount,
  currency,
  cursor,
  EXPIRY_RULE,
  expiresInSeconds,
  INT64,
  limit,
  metadata,
  orderId,
  orNull,
  text,
  time,
  wait,
} from './common.ts';
import { newOrder } from './new-order.ts';
import {
  ATTENTION_MEANING,
  attention,
  openSet,
  orderUpdate,
  payerOrderState,
  paymentStatus,
  refundReason,
  refundStatus,
  settledBy,
} from './sets.ts';

/** Schemas of payments, for requests and answers. */

const channelName = text(32).openapi({ example: 'simulator' });

/** A list of all channels and their methods, for API descriptions. */
const METHODS = DECLARATIONS.map(
  ({ name, methods }) => `${name} (${methods.map((method) => method.name).join(', ')})`,
).join('; ');

/**
 * A text for API descriptions. For each channel that supports adoption, it says which reference identifies the trade.
 */
const REFERENCES = DECLARATIONS.flatMap(({ name, adoption }) =>
  adoption === undefined ? [] : [`${name}: ${adoption.rule}, as ${adoption.example}`],
).join('; ');

const method = text(32).openapi({
  description: "One of the channel's methods. Default: the first.",
  example: 'wallet',
});

const accountName = z.string().regex(ACCOUNT_NAME, ACCOUNT_NAME_RULE).openapi({ example: FIRST_ACCOUNT });

export const RETURN_URL_RULE =
  "must be an http or https URL, or a URL with an app's scheme that the merchant has allowed";

/**
 * The schema of a return URL. nodrop stores the URL in the normalised form of the URL parser, so that every later
 * parser reads the same URL.
 */
const returnUrl = text(2048)
  // Control characters are checked here, because the URL parser would remove them without an error.
  .refine((value) => !/\p{Cc}/u.test(value), 'must not contain control characters')
  .pipe(z.url({ normalize: true, error: RETURN_URL_RULE }))
  .refine(mayReturnTo, RETURN_URL_RULE)
  .refine((value) => {
    const url = URL.parse(value);
    return url === null || (url.username === '' && url.password === '');
  }, 'must not contain a user name or password')
  .openapi({
    type: 'string',
    format: 'uri',
    description:
      'Where the payer goes after the wallet. nodrop adds `paymentId` to it, never a status. An http or https URL, or a URL ' +
      "with a scheme of the merchant's own app (`myapp://thanks`) after `merchants set --return-schemes` has allowed it.",
    example: 'https://shop.example/thanks',
  });

export const newPayment = z
  .strictObject({
    orderId: orderId.optional(),
    order: newOrder.optional(),
    channel: channelName.openapi({
      description: `The channel to pay with. The merchant needs an account there. Channels and their methods: ${METHODS}.`,
    }),
    method: method.optional(),
    account: accountName.optional().openapi({
      description:
        "The name of the merchant's account at the channel. Default: the merchant's default account. If a live attempt " +
        'uses another account than the named one, that attempt is closed first.',
    }),
    payer: z
      .strictObject({
        id: text(128).optional(),
        ip: z.union([z.ipv4(), z.ipv6()], { error: 'must be an IPv4 or IPv6 address' }).optional(),
      })
      .optional()
      .openapi({
        description:
          'Who pays, for channels that need to know. A request without a field that the method needs is refused. If the live payment has a different `id`, the request is refused ' +
          '(`payer_differs`). Fields that the live payment does not have are added to it, until nodrop has asked the channel to create the trade.',
      }),
    adopt: z
      .strictObject({
        reference: text(200).openapi({
          description: `The channel's reference of the trade. ${REFERENCES}`,
          example: 'cs_test_a1b2c3',
        }),
        own: z
          .boolean()
          .optional()
          .openapi({
            description:
              'True: nodrop treats the trade like one that it has created. It closes the trade at its expiry or when it is cancelled, ' +
              'and refunds a duplicate payment. Default: false: nodrop never closes the trade, and a duplicate payment waits for an operator.',
          }),
      })
      .optional()
      .openapi({
        description:
          "Adopts a trade that the merchant's own code has created at the channel; nodrop does not create one. nodrop queries the trade: its amount and currency " +
          'must be those of the order. From then on the trade is queried, settled and reported like any other payment. A request with the same order and reference returns the ' +
          'same payment, with the `own` of the first request. `returnUrl` and `payer` are ignored. See docs/adopt.md.',
      }),
    returnUrl: returnUrl.optional(),
    expiresInSeconds: expiresInSeconds(7 * 86_400)
      .optional()
      .openapi({
        description: `How long the payer has to pay; the payment never expires after its order. ${EXPIRY_RULE} Default: a setting of the deployment.`,
        example: 1800,
      }),
    metadata: metadata.optional().openapi({
      description:
        'At most 20 pairs of texts, names up to 40 and values up to 500 characters. Default: a new payment has none, and a ' +
        'live one keeps what it has.',
    }),
  })
  .refine(({ orderId, order }) => (orderId === undefined) !== (order === undefined), {
    path: ['orderId'],
    error: 'give either orderId or order',
    // The API checks this rule even if another field is wrong, so that one answer names all mistakes.
    when: ({ value }) => typeof value === 'object' && value !== null && !Array.isArray(value),
  })
  .openapi('NewPayment', { description: 'Must have exactly one of `orderId` and `order`.' });

export const paymentQuery = z.strictObject({ wait });

export const paymentListQuery = z.strictObject({
  status: paymentStatus.known.optional(),
  orderId: orderId.optional(),
  channel: channelName.optional(),
  attention: z.enum(['true', 'false']).optional().openapi({
    description:
      '`true`: only payments that need attention. `false`: all payments, as without the parameter.',
  }),
  limit: limit(100, 20),
  cursor,
});

export const nextAction = z
  .object({
    type: openSet('NextActionType', ['redirect', 'qr', 'sdk']).open,
    url: z.string().optional(),
    qr: z.string().optional(),
    params: z.record(z.string(), z.string()).optional(),
    expiresAt: time.optional(),
  })
  .openapi('NextAction', { description: 'What the payer does next.' });

/** The fields that a payer with the client token may see. They contain no private data of the merchant. */
const payerFields = {
  id: z.string().openapi({ example: 'pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M' }),
  channel: channelName,
  method: z.string().openapi({ example: 'wallet' }),
  amount,
  currency,
  status: paymentStatus.open,
  orderUpdate: orNull(orderUpdate.open).openapi({
    description:
      'The effect of the received money on the order. Tell a payer that a payment is paid only if this is `applied`.',
    example: null,
  }),
  receivedAmount: z
    .int()
    .nullable()
    .openapi({ ...INT64, description: 'The total amount of the trade, as the channel reports it.' }),
  refundedAmount: z
    .int()
    .openapi({ ...INT64, description: 'The amount refunded to the payer so far.', example: 0 }),
  refundReason: orNull(refundReason.open).openapi({
    description:
      'Why nodrop refunds all of this payment without a refund request; otherwise null. `duplicate_payment`: another payment ' +
      'had already paid the order. `late_payment`: the payment came too late for the order. `requested`: an operator decided ' +
      'it.',
    example: null,
  }),
  refundStatus: orNull(refundStatus.open).openapi({
    description:
      'The status of that refund: `created` and `processing`: not completed yet; `succeeded`: refunded; `failed`: the ' +
      'channel refused it, and an operator has to look at it. Null without `refundReason`.',
    example: null,
  }),
  nextAction: orNull(nextAction),
  payUrl: z.string().nullable().openapi({ description: "The next action's URL." }),
  checkoutUrl: z.string().nullable().openapi({
    description:
      "nodrop's cashier page for the payer. The URL contains the client token, so it is null where the token is not given.",
  }),
  createdAt: time,
  expiresAt: time,
  paidAt: time.nullable().openapi({ description: "When the payer paid, by the channel's clock." }),
};

export const newSwitch = z
  .strictObject({
    channel: channelName,
    method: method.optional(),
  })
  .openapi('NewSwitch', { description: 'The channel and method to switch to.' });

export const payerPayment = z
  .object({
    ...payerFields,
    backUrl: z.string().nullable().openapi({
      description:
        "Where the page sends the payer afterwards: the merchant's current `returnUrl` with `paymentId`.",
      example: 'https://shop.example/thanks?paymentId=pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M',
    }),
    orderState: payerOrderState.open,
    switchTo: z.array(z.object({ channel: channelName, method: z.string() })).openapi({
      description:
        'The other ways to pay this order, for `POST /v1/payments/{id}/switch`. Empty once the order can no longer be paid.',
      example: [{ channel: 'simulator2', method: 'wallet' }],
    }),
  })
  // The name of this schema must sort after `Payment`. For a `oneOf`, the Java generator tries the schemas in
  // alphabetical order. If this schema came first, the generated client would read a merchant's payment as a payer's
  // payment.
  .openapi('PaymentForPayer', { description: 'A payment as its payer sees it, with the client token.' });

const dispute = z
  .object({
    id: z.string().openapi({ description: "The channel's own id." }),
    amount,
    currency,
    state: openSet('DisputeState', ['open', 'won', 'lost']).open,
    isInquiry: z
      .boolean()
      .openapi({ description: "True while the payer's bank only inquires: no money is withheld yet." }),
    reason: z.string().nullable(),
    respondBy: time
      .nullable()
      .openapi({ description: 'Deadline for an answer to the dispute at the channel.' }),
    openedAt: time,
    decidedAt: time.nullable(),
  })
  .openapi('Dispute');

export const payment = z
  .object({
    ...payerFields,
    orderId: z.string().openapi({ example: 'order-1001' }),
    account: z.string().openapi({
      description: "The name of the merchant's account at the channel.",
      example: FIRST_ACCOUNT,
    }),
    adopted: z.object({ reference: z.string(), own: z.boolean() }).nullable().openapi({
      description:
        "The adopted trade, which the merchant's own code has created. Null if nodrop has created the trade.",
      example: null,
    }),
    clientToken: z.string().nullable().openapi({
      description:
        'Lets the payer read this payment. Only in the answers of `POST /v1/payments` and of `switch`; otherwise null.',
    }),
    payer: z
      .object({ id: z.string().optional(), ip: z.string().optional() })
      .nullable()
      .openapi({ description: 'The `payer` of the request.' }),
    returnUrl: z.string().nullable().openapi({
      description: 'Where the payer goes after the wallet: the value of the last request that gave one.',
      example: 'https://shop.example/thanks',
    }),
    settledBy: orNull(settledBy.open),
    channelPaymentId: z.string().nullable(),
    receivedCurrency: z.string().nullable(),
    attention: orNull(attention.open).openapi({ description: ATTENTION_MEANING }),
    attentionSince: time.nullable(),
    attentionDetail: z.string().nullable(),
    disputes: z.array(dispute).openapi({
      description:
        'Disputes that the payer opened at their bank, the oldest first. While a dispute is open, nodrop sends no refund to the channel. If all open disputes ' +
        'are inquiries, it sends only requested refunds. The money of a lost dispute is in the list of refunds, with the reason `dispute`.',
      example: [],
    }),
    metadata: z.record(z.string(), z.string()),
    settledAt: time.nullable(),
    orderUpdatedAt: time.nullable(),
    cancelRequestedAt: time.nullable(),
    recoveredAt: time.nullable().openapi({
      description:
        'When the payment was restored after the database had lost it; otherwise null. nodrop cancels a restored payment, but ' +
        'money received for it still pays its order.',
    }),
    temporalUrl: z
      .string()
      .nullable()
      .openapi({ description: 'The workflow in the Temporal Web UI. Only for operators.' }),
  })
  .openapi('Payment');

export const paymentPage = z
  .object({ data: z.array(payment), nextCursor: z.string().nullable() })
  .openapi('PaymentPage', { description: 'Newest first.' });

export const timelineQuery = z.strictObject({ limit: limit(1000, 1000), cursor });

export const timelinePage = z
  .object({
    data: z.array(
      z.object({
        at: time,
        kind: z.string().openapi({ example: 'query' }),
        detail: z.string().openapi({ example: 'The channel answered unpaid.' }),
        data: z.record(z.string(), z.unknown()),
      }),
    ),
    nextCursor: z.string().nullable(),
  })
  .openapi('TimelinePage', {
    description:
      'Oldest first. A query whose answer equals the previous one has no entry of its own. When the answer changes, or the ' +
      'payment ends without money, one entry gives the first time, the last time and the count of the equal answers ' +
      '(`data.first`, `data.last`, `data.count`).',
  });

export type PaymentView = z.infer<typeof payment>;
export const switchedPayment = z
  .object({ ...payerPayment.shape, clientToken: z.string() })
  .openapi('SwitchedPayment', {
    description: 'The new attempt as its payer sees it, with its own client token.',
  });

export type PayerPaymentView = z.infer<typeof payerPayment>;
