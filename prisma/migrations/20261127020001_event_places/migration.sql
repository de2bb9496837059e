-- An event is written without a place in the feed: who reads gives it one (src/ledger/feed-places.ts), from the same
-- sequence as before.
ALTER TABLE "events" ALTER COLUMN "seq" DROP DEFAULT, ALTER COLUMN "seq" DROP NOT NULL;
