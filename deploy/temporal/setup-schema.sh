#!/bin/sh
# Brings Temporal's two databases up to the schema of this image's version; run before the server, at every start. The
# connection comes from SQL_* in the environment.
set -eu

for database in temporal:temporal temporal_visibility:visibility; do
  name=${database%%:*}
  schema=/etc/temporal/schema/postgresql/v12/${database#*:}/versioned
  # Makes the version tables; leaves a database that has them as it is.
  temporal-sql-tool --database "$name" setup-schema --version 0.0
  temporal-sql-tool --database "$name" update-schema --schema-dir "$schema"
done
echo "Temporal's databases are up to date."
