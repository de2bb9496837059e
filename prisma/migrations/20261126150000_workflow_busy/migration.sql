-- A payment whose workflow had an unfinished task when the sweep looked is looked at again, also once it is settled.
ALTER TABLE "payments" ADD COLUMN "workflow_busy_since" TIMESTAMPTZ(3);

-- What Prisma cannot express.
CREATE INDEX "payments_workflow_busy_idx" ON "payments" (workflow_busy_since) WHERE workflow_busy_since IS NOT NULL;
