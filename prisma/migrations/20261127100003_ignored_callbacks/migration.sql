-- Callbacks that are none of ours, and how many came of the kinds of which only so many are kept.
CREATE TABLE "ignored_callbacks" (
    "channel_account_id" TEXT NOT NULL,
    "notification_id" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "body_head" BYTEA NOT NULL,
    "received_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "ignored_callbacks_pkey" PRIMARY KEY ("channel_account_id","notification_id"),
    CONSTRAINT "ignored_callbacks_head_check" CHECK (octet_length(body_head) <= 4096)
);

CREATE TABLE "callback_counts" (
    "channel_account_id" TEXT NOT NULL,
    "kind" TEXT NOT NULL,
    "hour" TIMESTAMPTZ(3) NOT NULL,
    "count" INTEGER NOT NULL,

    CONSTRAINT "callback_counts_pkey" PRIMARY KEY ("channel_account_id","kind","hour"),
    CONSTRAINT "callback_counts_kind_check" CHECK (kind IN ('ignored', 'notice'))
);

CREATE INDEX "ignored_callbacks_received_at_idx" ON "ignored_callbacks"("received_at");
CREATE INDEX "callback_counts_hour_idx" ON "callback_counts"("hour");
