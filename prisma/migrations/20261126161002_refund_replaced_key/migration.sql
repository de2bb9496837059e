CREATE UNIQUE INDEX CONCURRENTLY "refunds_replaced_by_key" ON "refunds"("replaced_by");
