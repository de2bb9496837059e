-- AlterTable
ALTER TABLE "orders" ADD COLUMN     "cancel_requested_at" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "refunds" ADD COLUMN     "failure" TEXT,
ADD COLUMN     "unknown_since" TIMESTAMPTZ(3);

-- CreateTable
CREATE TABLE "idempotency_keys" (
    "merchant_id" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "route" TEXT NOT NULL,
    "request_hash" TEXT NOT NULL,
    "locked_until" TIMESTAMPTZ(3),
    "response_status" INTEGER,
    "response_body" JSONB,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "idempotency_keys_pkey" PRIMARY KEY ("merchant_id","key")
);

-- CreateTable
CREATE TABLE "unverified_callbacks" (
    "id" TEXT NOT NULL,
    "channel_account_id" TEXT NOT NULL,
    "address" TEXT NOT NULL,
    "body_hash" TEXT NOT NULL,
    "body_head" BYTEA NOT NULL,
    "reason" TEXT NOT NULL,
    "received_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "unverified_callbacks_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "unverified_callback_counts" (
    "channel_account_id" TEXT NOT NULL,
    "address" TEXT NOT NULL,
    "minute" TIMESTAMPTZ(3) NOT NULL,
    "count" INTEGER NOT NULL,

    CONSTRAINT "unverified_callback_counts_pkey" PRIMARY KEY ("channel_account_id","address","minute")
);

-- CreateIndex
CREATE INDEX "idempotency_keys_created_at_idx" ON "idempotency_keys"("created_at");

-- CreateIndex
CREATE INDEX "unverified_callbacks_received_at_idx" ON "unverified_callbacks"("received_at");

-- CreateIndex
CREATE INDEX "unverified_callbacks_channel_account_id_address_received_at_idx" ON "unverified_callbacks"("channel_account_id", "address", "received_at");

-- CreateIndex
CREATE INDEX "unverified_callback_counts_minute_idx" ON "unverified_callback_counts"("minute");

-- AddForeignKey
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_merchant_id_fkey" FOREIGN KEY ("merchant_id") REFERENCES "merchants"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "unverified_callbacks" ADD CONSTRAINT "unverified_callbacks_channel_account_id_fkey" FOREIGN KEY ("channel_account_id") REFERENCES "channel_accounts"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- What Prisma cannot express.
ALTER TABLE "idempotency_keys"
  ADD CONSTRAINT "idempotency_keys_key_check" CHECK (length(key) BETWEEN 1 AND 255),
  ADD CONSTRAINT "idempotency_keys_result_check" CHECK ((response_status IS NULL) = (response_body IS NULL));

-- What the sweep looks for: its cost follows the anomalies.
CREATE INDEX "refunds_unfinished_idx" ON "refunds" (created_at) WHERE status IN ('created', 'processing');
CREATE INDEX "callbacks_unmatched_idx" ON "callbacks" (received_at) WHERE payment_id IS NULL;
CREATE INDEX "orders_ending_idx" ON "orders" (expires_at) WHERE status IN ('unpaid', 'paying');
