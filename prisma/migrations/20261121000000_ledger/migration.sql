-- CreateSchema
CREATE SCHEMA IF NOT EXISTS "public";

-- CreateTable
CREATE TABLE "merchants" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "late_payment" TEXT NOT NULL DEFAULT 'apply',
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "merchants_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "api_keys" (
    "id" TEXT NOT NULL,
    "merchant_id" TEXT NOT NULL,
    "role" TEXT NOT NULL,
    "hash" TEXT NOT NULL,
    "hint" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "revoked_at" TIMESTAMPTZ(3),

    CONSTRAINT "api_keys_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "channel_accounts" (
    "id" TEXT NOT NULL,
    "merchant_id" TEXT NOT NULL,
    "channel" TEXT NOT NULL,
    "is_default" BOOLEAN NOT NULL DEFAULT false,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "channel_accounts_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "orders" (
    "merchant_id" TEXT NOT NULL,
    "id" TEXT NOT NULL,
    "amount" BIGINT NOT NULL,
    "currency" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "status" TEXT NOT NULL DEFAULT 'unpaid',
    "paid_payment_id" TEXT,
    "paid_at" TIMESTAMPTZ(3),
    "metadata" JSONB NOT NULL DEFAULT '{}',
    "expires_at" TIMESTAMPTZ(3),
    "next_sweep_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "orders_pkey" PRIMARY KEY ("merchant_id","id")
);

-- CreateTable
CREATE TABLE "payments" (
    "id" TEXT NOT NULL,
    "merchant_id" TEXT NOT NULL,
    "order_id" TEXT NOT NULL,
    "channel" TEXT NOT NULL,
    "channel_account_id" TEXT NOT NULL,
    "method" TEXT NOT NULL,
    "amount" BIGINT NOT NULL,
    "currency" TEXT NOT NULL,
    "status" TEXT NOT NULL DEFAULT 'created',
    "order_update" TEXT,
    "next_action" JSONB,
    "settled_by" TEXT,
    "channel_payment_id" TEXT,
    "received_amount" BIGINT,
    "received_currency" TEXT,
    "payer_amount" BIGINT,
    "refunded_amount" BIGINT NOT NULL DEFAULT 0,
    "channel_state" TEXT,
    "channel_answered_at" TIMESTAMPTZ(3),
    "channel_error_since" TIMESTAMPTZ(3),
    "channel_answer" JSONB,
    "attention" TEXT,
    "attention_since" TIMESTAMPTZ(3),
    "attention_detail" TEXT,
    "payer" JSONB,
    "return_url" TEXT,
    "metadata" JSONB NOT NULL DEFAULT '{}',
    "client_token_hash" TEXT NOT NULL,
    "last_hint_at" TIMESTAMPTZ(3),
    "tight_phases" INTEGER NOT NULL DEFAULT 0,
    "last_query_due_at" TIMESTAMPTZ(3),
    "next_sweep_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(3) NOT NULL,
    "paid_at" TIMESTAMPTZ(3),
    "settled_at" TIMESTAMPTZ(3),
    "order_updated_at" TIMESTAMPTZ(3),
    "cancel_requested_at" TIMESTAMPTZ(3),
    "ended_at" TIMESTAMPTZ(3),
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "payments_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "callbacks" (
    "id" TEXT NOT NULL,
    "channel_account_id" TEXT NOT NULL,
    "notification_id" TEXT NOT NULL,
    "out_trade_no" TEXT NOT NULL,
    "payment_id" TEXT,
    "answer" JSONB NOT NULL,
    "body" BYTEA NOT NULL,
    "received_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "delivered_at" TIMESTAMPTZ(3),
    "next_sweep_at" TIMESTAMPTZ(3),

    CONSTRAINT "callbacks_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "timeline" (
    "id" BIGSERIAL NOT NULL,
    "payment_id" TEXT NOT NULL,
    "at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "kind" TEXT NOT NULL,
    "detail" TEXT NOT NULL,
    "data" JSONB NOT NULL DEFAULT '{}',

    CONSTRAINT "timeline_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "refunds" (
    "id" TEXT NOT NULL,
    "merchant_id" TEXT NOT NULL,
    "payment_id" TEXT NOT NULL,
    "amount" BIGINT NOT NULL,
    "currency" TEXT NOT NULL,
    "status" TEXT NOT NULL DEFAULT 'created',
    "reason" TEXT NOT NULL,
    "note" TEXT,
    "idempotency_key" TEXT,
    "channel_refund_id" TEXT,
    "next_sweep_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "settled_at" TIMESTAMPTZ(3),
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "refunds_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "merchants_name_key" ON "merchants"("name");

-- CreateIndex
CREATE UNIQUE INDEX "api_keys_hash_key" ON "api_keys"("hash");

-- CreateIndex
CREATE UNIQUE INDEX "channel_accounts_merchant_id_channel_key" ON "channel_accounts"("merchant_id", "channel");

-- CreateIndex
CREATE UNIQUE INDEX "orders_paid_payment_id_key" ON "orders"("paid_payment_id");

-- CreateIndex
CREATE INDEX "orders_merchant_id_created_at_id_idx" ON "orders"("merchant_id", "created_at" DESC, "id" DESC);

-- CreateIndex
CREATE INDEX "payments_merchant_id_created_at_id_idx" ON "payments"("merchant_id", "created_at" DESC, "id" DESC);

-- CreateIndex
CREATE INDEX "payments_merchant_id_order_id_idx" ON "payments"("merchant_id", "order_id");

-- CreateIndex
CREATE UNIQUE INDEX "callbacks_channel_account_id_notification_id_key" ON "callbacks"("channel_account_id", "notification_id");

-- CreateIndex
CREATE INDEX "timeline_payment_id_id_idx" ON "timeline"("payment_id", "id");

-- CreateIndex
CREATE INDEX "refunds_payment_id_idx" ON "refunds"("payment_id");

-- CreateIndex
CREATE UNIQUE INDEX "refunds_merchant_id_idempotency_key_key" ON "refunds"("merchant_id", "idempotency_key");

-- AddForeignKey
ALTER TABLE "api_keys" ADD CONSTRAINT "api_keys_merchant_id_fkey" FOREIGN KEY ("merchant_id") REFERENCES "merchants"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "channel_accounts" ADD CONSTRAINT "channel_accounts_merchant_id_fkey" FOREIGN KEY ("merchant_id") REFERENCES "merchants"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "orders" ADD CONSTRAINT "orders_merchant_id_fkey" FOREIGN KEY ("merchant_id") REFERENCES "merchants"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "orders" ADD CONSTRAINT "orders_paid_payment_id_fkey" FOREIGN KEY ("paid_payment_id") REFERENCES "payments"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "payments" ADD CONSTRAINT "payments_merchant_id_fkey" FOREIGN KEY ("merchant_id") REFERENCES "merchants"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "payments" ADD CONSTRAINT "payments_merchant_id_order_id_fkey" FOREIGN KEY ("merchant_id", "order_id") REFERENCES "orders"("merchant_id", "id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "payments" ADD CONSTRAINT "payments_channel_account_id_fkey" FOREIGN KEY ("channel_account_id") REFERENCES "channel_accounts"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "callbacks" ADD CONSTRAINT "callbacks_channel_account_id_fkey" FOREIGN KEY ("channel_account_id") REFERENCES "channel_accounts"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "callbacks" ADD CONSTRAINT "callbacks_payment_id_fkey" FOREIGN KEY ("payment_id") REFERENCES "payments"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "timeline" ADD CONSTRAINT "timeline_payment_id_fkey" FOREIGN KEY ("payment_id") REFERENCES "payments"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "refunds" ADD CONSTRAINT "refunds_merchant_id_fkey" FOREIGN KEY ("merchant_id") REFERENCES "merchants"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "refunds" ADD CONSTRAINT "refunds_payment_id_fkey" FOREIGN KEY ("payment_id") REFERENCES "payments"("id") ON DELETE RESTRICT ON UPDATE CASCADE;


-- What Prisma cannot express: the database refuses what the code promises never to do.

ALTER TABLE "merchants" ADD CONSTRAINT "merchants_late_payment_check" CHECK (late_payment IN ('apply', 'refund', 'review'));
ALTER TABLE "api_keys" ADD CONSTRAINT "api_keys_role_check" CHECK (role IN ('merchant', 'operator'));
-- /callbacks/{channel} without an account id belongs to one account.
CREATE UNIQUE INDEX "channel_accounts_default_key" ON "channel_accounts" (channel) WHERE is_default;

ALTER TABLE "orders"
  ADD CONSTRAINT "orders_amount_check" CHECK (amount BETWEEN 1 AND 9007199254740991),
  ADD CONSTRAINT "orders_currency_check" CHECK (currency ~ '^[A-Z]{3}$'),
  ADD CONSTRAINT "orders_status_check" CHECK (status IN ('unpaid', 'paying', 'succeeded', 'refunded', 'cancelled', 'closed')),
  -- Paid means paid by a payment, and only paid orders name one.
  ADD CONSTRAINT "orders_paid_check" CHECK ((status IN ('succeeded', 'refunded')) = (paid_payment_id IS NOT NULL AND paid_at IS NOT NULL));

ALTER TABLE "payments"
  ADD CONSTRAINT "payments_id_check" CHECK (id ~ '^[0-9A-Za-z_]{1,32}$'),
  ADD CONSTRAINT "payments_amount_check" CHECK (amount BETWEEN 1 AND 9007199254740991),
  ADD CONSTRAINT "payments_currency_check" CHECK (currency ~ '^[A-Z]{3}$'),
  ADD CONSTRAINT "payments_status_check" CHECK (status IN ('created', 'paying', 'succeeded', 'failed', 'cancelled', 'closed')),
  ADD CONSTRAINT "payments_order_update_check" CHECK (order_update IN ('pending', 'applied', 'conflict', 'review')),
  ADD CONSTRAINT "payments_settled_by_check" CHECK (settled_by IN ('callback', 'query', 'hint', 'close', 'statement', 'operator')),
  ADD CONSTRAINT "payments_attention_check" CHECK (attention IN ('channel_unreachable', 'create_unknown', 'order_update_failing', 'order_conflict', 'amount_mismatch', 'late_payment_review', 'refund_failing', 'statement_mismatch', 'disputed', 'channel_reversed')),
  ADD CONSTRAINT "payments_attention_since_check" CHECK ((attention IS NULL) = (attention_since IS NULL)),
  -- Succeeded says who said so, when, and how much came in; nothing else claims money.
  ADD CONSTRAINT "payments_succeeded_check" CHECK (
    (status = 'succeeded') = (settled_at IS NOT NULL AND settled_by IS NOT NULL AND received_amount IS NOT NULL
      AND received_currency IS NOT NULL AND paid_at IS NOT NULL AND order_update IS NOT NULL)
  ),
  -- No order becomes paid by another amount than asked, unless an operator accepted the difference.
  ADD CONSTRAINT "payments_exact_amount_check" CHECK (
    order_update IS DISTINCT FROM 'applied' OR settled_by = 'operator'
      OR (received_amount = amount AND received_currency = currency)
  ),
  ADD CONSTRAINT "payments_refunded_amount_check" CHECK (refunded_amount >= 0 AND refunded_amount <= COALESCE(received_amount, 0));

-- The duplicate-submission guard: one live payment per order, channel and method.
CREATE UNIQUE INDEX "payments_live_key" ON "payments" (merchant_id, order_id, channel, method) WHERE status IN ('created', 'paying');
-- An order is paid by at most one payment.
CREATE UNIQUE INDEX "payments_paying_the_order_key" ON "payments" (merchant_id, order_id) WHERE order_update IN ('pending', 'applied');
-- What the sweep and the operators' list look for: their cost follows the anomalies.
CREATE INDEX "payments_created_idx" ON "payments" (created_at) WHERE status = 'created';
CREATE INDEX "payments_unfinished_idx" ON "payments" (expires_at) WHERE status IN ('created', 'paying');
CREATE INDEX "payments_cancelling_idx" ON "payments" (cancel_requested_at) WHERE status IN ('created', 'paying') AND cancel_requested_at IS NOT NULL;
CREATE INDEX "payments_unsettled_idx" ON "payments" (channel_answered_at) WHERE status <> 'succeeded' AND channel_answer->>'state' IN ('paid', 'refunded');
CREATE INDEX "payments_attention_idx" ON "payments" (attention_since) WHERE attention IS NOT NULL;
CREATE INDEX "callbacks_undelivered_idx" ON "callbacks" (received_at) WHERE delivered_at IS NULL;

ALTER TABLE "refunds"
  ADD CONSTRAINT "refunds_id_check" CHECK (id ~ '^[0-9A-Za-z_]{1,32}$'),
  ADD CONSTRAINT "refunds_amount_check" CHECK (amount BETWEEN 1 AND 9007199254740991),
  ADD CONSTRAINT "refunds_status_check" CHECK (status IN ('created', 'processing', 'succeeded', 'failed')),
  ADD CONSTRAINT "refunds_reason_check" CHECK (reason IN ('requested', 'duplicate_payment', 'late_payment', 'external'));

-- Only the legal transitions of src/domain/states.ts; in particular succeeded never goes back.
CREATE FUNCTION nodrop_payment_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.status <> OLD.status AND NOT (
       (OLD.status = 'created' AND NEW.status IN ('paying', 'succeeded', 'failed', 'cancelled', 'closed'))
    OR (OLD.status = 'paying' AND NEW.status IN ('succeeded', 'failed', 'cancelled', 'closed'))
    OR (OLD.status IN ('failed', 'cancelled', 'closed') AND NEW.status = 'succeeded')
  ) THEN
    RAISE EXCEPTION 'payment % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  IF OLD.received_amount IS NOT NULL
     AND (NEW.received_amount, NEW.received_currency) IS DISTINCT FROM (OLD.received_amount, OLD.received_currency) THEN
    RAISE EXCEPTION 'the money received for payment % is recorded for good', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER "payments_guard" BEFORE UPDATE ON "payments" FOR EACH ROW EXECUTE FUNCTION nodrop_payment_guard();

CREATE FUNCTION nodrop_order_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.status <> OLD.status AND NOT (
       (OLD.status = 'unpaid' AND NEW.status IN ('paying', 'succeeded', 'cancelled', 'closed'))
    OR (OLD.status = 'paying' AND NEW.status IN ('unpaid', 'succeeded', 'cancelled', 'closed'))
    OR (OLD.status = 'succeeded' AND NEW.status = 'refunded')
  ) THEN
    RAISE EXCEPTION 'order % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER "orders_guard" BEFORE UPDATE ON "orders" FOR EACH ROW EXECUTE FUNCTION nodrop_order_guard();

-- All refunds of a payment that may still succeed stay within what it received. The row lock makes
-- two refunds at once see each other.
CREATE FUNCTION nodrop_refund_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  received bigint;
  others bigint;
BEGIN
  SELECT received_amount INTO received FROM payments WHERE id = NEW.payment_id FOR NO KEY UPDATE;
  SELECT COALESCE(SUM(amount), 0) INTO others FROM refunds
    WHERE payment_id = NEW.payment_id AND id <> NEW.id AND status <> 'failed';
  IF NEW.status <> 'failed' AND others + NEW.amount > COALESCE(received, 0) THEN
    RAISE EXCEPTION 'refunds of payment % would exceed what it received', NEW.payment_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'refunds_within_received_check';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER "refunds_guard" BEFORE INSERT OR UPDATE ON "refunds" FOR EACH ROW EXECUTE FUNCTION nodrop_refund_guard();

-- Readers that wait (?wait=) learn of every change, whichever process made it.
CREATE FUNCTION nodrop_payment_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('nodrop', 'payment/' || NEW.id);
  RETURN NULL;
END $$;
CREATE TRIGGER "payments_changed" AFTER INSERT OR UPDATE ON "payments" FOR EACH ROW EXECUTE FUNCTION nodrop_payment_changed();

CREATE FUNCTION nodrop_order_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('nodrop', 'order/' || NEW.merchant_id || '/' || md5(NEW.id));
  RETURN NULL;
END $$;
CREATE TRIGGER "orders_changed" AFTER INSERT OR UPDATE ON "orders" FOR EACH ROW EXECUTE FUNCTION nodrop_order_changed();
