-- One row that is written to find out whether the database can be written to. Room in its page for its next version, so
-- that writing it again makes the table no larger.
CREATE TABLE "write_probe" (
    "id" INTEGER NOT NULL,
    "probed_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "write_probe_pkey" PRIMARY KEY ("id")
);

-- What Prisma cannot express.
ALTER TABLE "write_probe" SET (fillfactor = 10);
ALTER TABLE "write_probe" ADD CONSTRAINT "write_probe_id_check" CHECK (id = 1);
