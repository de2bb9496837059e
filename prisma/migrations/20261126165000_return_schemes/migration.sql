-- The schemes of a merchant's own apps that a payer may be sent back to, besides http and https.
ALTER TABLE "merchants" ADD COLUMN "return_schemes" TEXT[] NOT NULL DEFAULT ARRAY[]::TEXT[];
