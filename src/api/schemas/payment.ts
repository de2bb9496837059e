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

/** Payments as they come in and go out. */

const channelName = text(32).openapi({ example: 'simulator' });

/** The channels, and their methods, in words. */
const METHODS = DECLARATIONS.map(
  ({ name, methods }) => `${name} (${methods.map((method) => method.name).join(', ')})`,
).join('; ');

/** How trades that can be adopted are named, in words. */
const REFERENCES = DECLARATIONS.flatMap(({ name, adoption }) =>
  adoption === undefined ? [] : [`${name}: ${adoption.rule}, as ${adoption.example}`],
).join('; ');

const method = text(32).openapi({
  description: "One of the channel's methods; its first by default.",
  example: 'wallet',
});

const accountName = z.string().regex(ACCOUNT_NAME, ACCOUNT_NAME_RULE).openapi({ example: FIRST_ACCOUNT });

export const RETURN_URL_RULE =
  "must be an http or https URL, or one of an app's scheme that the merchant has allowed";

/** What is kept is the URL as it was read, so that whoever reads it again reads the same. */
const returnUrl = text(2048)
  // The parser would leave them out.
  .refine((value) => !/\p{Cc}/u.test(value), 'must not contain control characters')
  .pipe(z.url({ normalize: true, error: RETURN_URL_RULE }))
  .refine(mayReturnTo, RETURN_URL_RULE)
  .refine((value) => {
    const url = URL.parse(value);
    return url === null || (url.username === '' && url.password === '');
  }, 'must not carry a user name or password')
  .openapi({
    type: 'string',
    format: 'uri',
    description:
      'Where the payer goes after the wallet; `paymentId` is added, never a status. An http or https URL, or one of a ' +
      "scheme of the merchant's own app (`myapp://thanks`), once it is allowed: `merchants set --return-schemes`.",
    example: 'https://shop.example/thanks',
  });

export const newPayment = z
  .strictObject({
    orderId: orderId.optional(),
    order: newOrder.optional(),
    channel: channelName.openapi({
      description: `The channel. There are, with their methods: ${METHODS}. The merchant needs an account there.`,
    }),
    method: method.optional(),
    account: accountName.optional().openapi({
      description:
        "Which of the merchant's accounts at the channel, by its name. Default: the merchant's default account. A live " +
        'attempt at another account than the one that is named is closed first.',
    }),
    payer: z
      .strictObject({
        id: text(128).optional(),
        ip: z.union([z.ipv4(), z.ipv6()], { error: 'must be an IPv4 or IPv6 address' }).optional(),
      })
      .optional()
      .openapi({
        description:
          'Who pays, for channels that want to know; what the method needs and is not there is refused. Another `id` than that of the live payment is refused ' +
          '(`payer_differs`); what the live payment does not know is added to it until the channel has been asked for its trade.',
      }),
    adopt: z
      .strictObject({
        reference: text(200).openapi({
          description: `What the trade is called at the channel. ${REFERENCES}`,
          example: 'cs_test_a1b2c3',
        }),
        own: z
          .boolean()
          .optional()
          .openapi({
            description:
              'True: nodrop closes the trade at its expiry or when it is cancelled, and gives back what comes in twice, as with ' +
              'trades of its own. Default: false, the trade stays as it is, and a second success waits for a person.',
          }),
      })
      .optional()
      .openapi({
        description:
          "The trade is there: the merchant's own code has made it, and nodrop makes none. The channel is asked what it is for, " +
          'which must be what the order costs; then it is watched, settled and told as any payment. The same order and reference again is the ' +
          'same payment, with the `own` of the first. `returnUrl` and `payer` go unused. See docs/adopt.md.',
      }),
    returnUrl: returnUrl.optional(),
    expiresInSeconds: expiresInSeconds(7 * 86_400)
      .optional()
      .openapi({
        description: `How long the payer has; never longer than the order. ${EXPIRY_RULE} Default: the deployment's.`,
        example: 1800,
      }),
    metadata: metadata.optional().openapi({
      description:
        'At most 20 pairs of texts, names up to 40 and values up to 500 characters. Default: none for a new payment, ' +
        'and for the live one those it has.',
    }),
  })
  .refine(({ orderId, order }) => (orderId === undefined) !== (order === undefined), {
    path: ['orderId'],
    error: 'give either orderId or order',
    // Also when another field is wrong: all mistakes are named at once.
    when: ({ value }) => typeof value === 'object' && value !== null && !Array.isArray(value),
  })
  .openapi('NewPayment', { description: 'Of `orderId` and `order` exactly one.' });

export const paymentQuery = z.strictObject({ wait });

export const paymentListQuery = z.strictObject({
  status: paymentStatus.known.optional(),
  orderId: orderId.optional(),
  channel: channelName.optional(),
  attention: z.enum(['true', 'false']).optional().openapi({
    description: '`true`: only payments a person should look at. `false` is the same as none.',
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

/** What a payer's client token shows: nothing of the merchant's. */
const payerFields = {
  id: z.string().openapi({ example: 'pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M' }),
  channel: channelName,
  method: z.string().openapi({ example: 'wallet' }),
  amount,
  currency,
  status: paymentStatus.open,
  orderUpdate: orNull(orderUpdate.open).openapi({
    description: 'What became of the order; to a payer a payment is paid when it is `applied`.',
    example: null,
  }),
  receivedAmount: z
    .int()
    .nullable()
    .openapi({ ...INT64, description: "The order's total as the channel has it." }),
  refundedAmount: z.int().openapi({ ...INT64, description: 'What has gone back to the payer.', example: 0 }),
  refundReason: orNull(refundReason.open).openapi({
    description:
      'Why all of this payment goes back without anybody having asked for a refund, else null: `duplicate_payment`, ' +
      'the order was paid twice and this is the second; `late_payment`, it came too late for the order; `requested`, ' +
      'it was decided so.',
    example: null,
  }),
  refundStatus: orNull(refundStatus.open).openapi({
    description:
      'How far that is: `created` and `processing`, on its way; `succeeded`, back; `failed`, the channel refused it ' +
      'and a person sees to it. Null without `refundReason`.',
    example: null,
  }),
  nextAction: orNull(nextAction),
  payUrl: z.string().nullable().openapi({ description: "The next action's URL." }),
  checkoutUrl: z.string().nullable().openapi({
    description: "nodrop's own page for the payer. Carries the client token: shown only with it.",
  }),
  createdAt: time,
  expiresAt: time,
  paidAt: time.nullable().openapi({ description: "The channel's clock." }),
};

export const newSwitch = z
  .strictObject({
    channel: channelName,
    method: method.optional(),
  })
  .openapi('NewSwitch', { description: 'How the payer would rather pay.' });

export const payerPayment = z
  .object({
    ...payerFields,
    backUrl: z.string().nullable().openapi({
      description: "Where the payer goes on to: the merchant's `returnUrl` with `paymentId`, as it is now.",
      example: 'https://shop.example/thanks?paymentId=pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M',
    }),
    orderState: payerOrderState.open,
    switchTo: z.array(z.object({ channel: channelName, method: z.string() })).openapi({
      description:
        'What else this order can be paid with, for `POST /v1/payments/{id}/switch`; empty once it cannot.',
      example: [{ channel: 'simulator2', method: 'wallet' }],
    }),
  })
  // Its name follows `Payment`: of an answer that is one of several, Java's generator tries them by their names, and
  // without this a merchant's payment would be read as a payer's.
  .openapi('PaymentForPayer', { description: 'A payment as its client token shows it.' });

const dispute = z
  .object({
    id: z.string().openapi({ description: "The channel's own id." }),
    amount,
    currency,
    state: openSet('DisputeState', ['open', 'won', 'lost']).open,
    isInquiry: z.boolean().openapi({ description: "The payer's bank only asks: no money is put aside yet." }),
    reason: z.string().nullable(),
    respondBy: time.nullable().openapi({ description: 'Until when it can be answered at the channel.' }),
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
      description: "The trade that the merchant's own code has made; null when nodrop has made it.",
      example: null,
    }),
    clientToken: z.string().nullable().openapi({
      description:
        'Opens this payment for its payer. Only in the answers of POST /v1/payments and of `switch`.',
    }),
    payer: z
      .object({ id: z.string().optional(), ip: z.string().optional() })
      .nullable()
      .openapi({ description: 'As it was given.' }),
    returnUrl: z.string().nullable().openapi({
      description: 'Where the payer goes after the wallet, as it was given last.',
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
        'What the payer disputes at their bank, the oldest first. While one is open no refund is asked for; while each ' +
        'open one is an inquiry, those that somebody asks for are. What is lost is among the refunds, with the reason `dispute`.',
      example: [],
    }),
    metadata: z.record(z.string(), z.string()),
    settledAt: time.nullable(),
    orderUpdatedAt: time.nullable(),
    cancelRequestedAt: time.nullable(),
    recoveredAt: time.nullable().openapi({
      description:
        'When the payment was written again after the database had lost it. It is being cancelled, and money that came ' +
        'in for it still pays its order.',
    }),
    temporalUrl: z
      .string()
      .nullable()
      .openapi({ description: 'The workflow in the Temporal Web UI; operators only.' }),
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
      'Oldest first. A query that is answered as the one before has no entry: once the answer changes, or the payment ' +
      'ends without money, one entry has the first time, the last time and the count of the equal answers ' +
      '(`data.first`, `data.last`, `data.count`).',
  });

export type PaymentView = z.infer<typeof payment>;
export const switchedPayment = z
  .object({ ...payerPayment.shape, clientToken: z.string() })
  .openapi('SwitchedPayment', {
    description: 'The new attempt as its payer sees it, with a client token of its own.',
  });

export type PayerPaymentView = z.infer<typeof payerPayment>;
