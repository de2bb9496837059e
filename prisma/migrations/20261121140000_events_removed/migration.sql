-- AlterTable
ALTER TABLE "merchants" ADD COLUMN     "events_removed_to" BIGINT NOT NULL DEFAULT 0;
