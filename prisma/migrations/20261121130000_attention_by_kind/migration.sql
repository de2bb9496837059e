-- By kind first: a count of one kind reads none of the others, however many payments a channel's outage has put here.
DROP INDEX "payments_attention_idx";
CREATE INDEX "payments_attention_idx" ON "payments" (attention, attention_since) WHERE attention IS NOT NULL;
