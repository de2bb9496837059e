-- AlterTable
ALTER TABLE "merchants" ADD COLUMN     "order_service_url" TEXT,
ADD COLUMN     "order_status_url" TEXT;

-- AlterTable
ALTER TABLE "payments" ADD COLUMN     "event_version" INTEGER NOT NULL DEFAULT 0;

-- CreateTable
CREATE TABLE "signing_secrets" (
    "id" TEXT NOT NULL,
    "merchant_id" TEXT NOT NULL,
    "ciphertext" BYTEA NOT NULL,
    "hint" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(3),

    CONSTRAINT "signing_secrets_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "events" (
    "id" TEXT NOT NULL,
    "seq" BIGSERIAL NOT NULL,
    "merchant_id" TEXT NOT NULL,
    "payment_id" TEXT NOT NULL,
    "type" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "data" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "events_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "deliveries" (
    "id" TEXT NOT NULL,
    "event_id" TEXT NOT NULL,
    "merchant_id" TEXT NOT NULL,
    "payment_id" TEXT NOT NULL,
    "status" TEXT NOT NULL DEFAULT 'pending',
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "first_attempt_at" TIMESTAMPTZ(3),
    "next_attempt_at" TIMESTAMPTZ(3),
    "settled_at" TIMESTAMPTZ(3),
    "next_sweep_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "deliveries_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "delivery_attempts" (
    "id" BIGSERIAL NOT NULL,
    "delivery_id" TEXT NOT NULL,
    "at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "outcome" TEXT NOT NULL,
    "status_code" INTEGER,
    "detail" TEXT NOT NULL,
    "duration_ms" INTEGER NOT NULL,

    CONSTRAINT "delivery_attempts_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "signing_secrets_merchant_id_idx" ON "signing_secrets"("merchant_id");

-- CreateIndex
CREATE UNIQUE INDEX "events_seq_key" ON "events"("seq");

-- CreateIndex
CREATE INDEX "events_merchant_id_seq_idx" ON "events"("merchant_id", "seq");

-- CreateIndex
CREATE INDEX "events_created_at_idx" ON "events"("created_at");

-- CreateIndex
CREATE UNIQUE INDEX "events_payment_id_version_key" ON "events"("payment_id", "version");

-- CreateIndex
CREATE UNIQUE INDEX "deliveries_event_id_key" ON "deliveries"("event_id");

-- CreateIndex
CREATE INDEX "deliveries_payment_id_idx" ON "deliveries"("payment_id");

-- CreateIndex
CREATE INDEX "delivery_attempts_delivery_id_id_idx" ON "delivery_attempts"("delivery_id", "id");

-- AddForeignKey
ALTER TABLE "signing_secrets" ADD CONSTRAINT "signing_secrets_merchant_id_fkey" FOREIGN KEY ("merchant_id") REFERENCES "merchants"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "events" ADD CONSTRAINT "events_merchant_id_fkey" FOREIGN KEY ("merchant_id") REFERENCES "merchants"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "events" ADD CONSTRAINT "events_payment_id_fkey" FOREIGN KEY ("payment_id") REFERENCES "payments"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "deliveries" ADD CONSTRAINT "deliveries_event_id_fkey" FOREIGN KEY ("event_id") REFERENCES "events"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "deliveries" ADD CONSTRAINT "deliveries_merchant_id_fkey" FOREIGN KEY ("merchant_id") REFERENCES "merchants"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "deliveries" ADD CONSTRAINT "deliveries_payment_id_fkey" FOREIGN KEY ("payment_id") REFERENCES "payments"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "delivery_attempts" ADD CONSTRAINT "delivery_attempts_delivery_id_fkey" FOREIGN KEY ("delivery_id") REFERENCES "deliveries"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- What Prisma cannot express.
ALTER TABLE "merchants"
  -- The order is read back only where it is told.
  ADD CONSTRAINT "merchants_order_service_check" CHECK (order_status_url IS NULL OR order_service_url IS NOT NULL);
ALTER TABLE "events"
  ADD CONSTRAINT "events_version_check" CHECK (version >= 1);
ALTER TABLE "deliveries"
  ADD CONSTRAINT "deliveries_status_check" CHECK (status IN ('pending', 'delivered', 'conflict', 'gone')),
  ADD CONSTRAINT "deliveries_settled_check" CHECK ((status = 'pending') OR (settled_at IS NOT NULL));
ALTER TABLE "delivery_attempts"
  ADD CONSTRAINT "delivery_attempts_outcome_check" CHECK (outcome IN ('agreed', 'conflict', 'gone', 'not_applied', 'unknown'));

-- No order is told to be paid by another amount than asked, unless an operator accepted the difference.
ALTER TABLE "payments" DROP CONSTRAINT "payments_exact_amount_check";
ALTER TABLE "payments" ADD CONSTRAINT "payments_exact_amount_check" CHECK (
  order_update IS NULL OR order_update NOT IN ('pending', 'applied') OR settled_by = 'operator'
    OR (received_amount = amount AND received_currency = currency)
);

-- What the sweep looks for: its cost follows the anomalies.
CREATE INDEX "deliveries_pending_idx" ON "deliveries" (created_at) WHERE status = 'pending';

-- A refund is news to whoever watches its payment, though the payment's row may not change.
CREATE FUNCTION nodrop_refund_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('nodrop', 'payment/' || NEW.payment_id);
  RETURN NULL;
END $$;
CREATE TRIGGER "refunds_changed" AFTER INSERT OR UPDATE ON "refunds" FOR EACH ROW EXECUTE FUNCTION nodrop_refund_changed();

-- What a payer may do depends on the order and on its other attempts: whoever watches one of them hears of those too.
-- Only of what is shown: most changes of a payment concern itself alone.
CREATE FUNCTION nodrop_attempt_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('nodrop', 'payment/' || id) FROM payments
    WHERE merchant_id = NEW.merchant_id AND order_id = NEW.order_id AND id <> NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER "payments_attempt_made" AFTER INSERT ON "payments" FOR EACH ROW EXECUTE FUNCTION nodrop_attempt_changed();
CREATE TRIGGER "payments_attempt_changed" AFTER UPDATE ON "payments" FOR EACH ROW
  WHEN ((OLD.status, OLD.order_update, OLD.channel_state, OLD.channel_answer, OLD.channel_error_since)
    IS DISTINCT FROM (NEW.status, NEW.order_update, NEW.channel_state, NEW.channel_answer, NEW.channel_error_since))
  EXECUTE FUNCTION nodrop_attempt_changed();

CREATE FUNCTION nodrop_order_decided() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('nodrop', 'payment/' || id) FROM payments WHERE merchant_id = NEW.merchant_id AND order_id = NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER "orders_decided" AFTER UPDATE ON "orders" FOR EACH ROW
  WHEN ((OLD.status, OLD.cancel_requested_at) IS DISTINCT FROM (NEW.status, NEW.cancel_requested_at)
    AND (NEW.status NOT IN ('unpaid', 'paying') OR NEW.cancel_requested_at IS NOT NULL))
  EXECUTE FUNCTION nodrop_order_decided();

-- Who waits at the merchant's feed.
CREATE FUNCTION nodrop_event_recorded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('nodrop', 'events/' || NEW.merchant_id);
  RETURN NULL;
END $$;
CREATE TRIGGER "events_recorded" AFTER INSERT ON "events" FOR EACH ROW EXECUTE FUNCTION nodrop_event_recorded();
