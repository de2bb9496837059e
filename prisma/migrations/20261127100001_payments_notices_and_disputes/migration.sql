-- That the channel has news, the payer's disputes, and what is shown once they are decided.
ALTER TABLE "payments"
  ADD COLUMN "noticed_at" TIMESTAMPTZ(3),
  ADD COLUMN "disputes" JSONB,
  ADD COLUMN "hidden_attention" TEXT,
  ADD COLUMN "hidden_attention_since" TIMESTAMPTZ(3),
  ADD COLUMN "hidden_attention_detail" TEXT;
