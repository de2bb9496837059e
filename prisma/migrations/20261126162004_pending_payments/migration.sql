-- The sweep finds what nobody shows by the deliveries that wait, whatever they are of.
DROP INDEX "payments_pending_idx";
