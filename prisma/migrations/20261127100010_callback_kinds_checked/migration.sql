ALTER TABLE "callbacks" VALIDATE CONSTRAINT "callbacks_kind_check";
