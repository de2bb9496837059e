-- One row: the fingerprint of the NODROP_SECRET that this database was set up with.
CREATE TABLE "secret_fingerprint" (
    "id" INTEGER NOT NULL,
    "fingerprint" TEXT NOT NULL,
    "kept_in" TEXT,
    "recorded_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "secret_fingerprint_pkey" PRIMARY KEY ("id")
);

-- What Prisma cannot express.
ALTER TABLE "secret_fingerprint" ADD CONSTRAINT "secret_fingerprint_id_check" CHECK (id = 1);
