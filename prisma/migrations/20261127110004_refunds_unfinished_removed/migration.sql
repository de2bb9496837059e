DROP INDEX CONCURRENTLY IF EXISTS "refunds_unfinished_idx";
