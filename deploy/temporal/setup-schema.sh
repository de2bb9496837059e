#!/bin/sh
# Migrates Temporal's two databases to the schema of this image's version. Runs before the server at every start. The
# environment variables SQL_* define the connection.
set -eu

for database in temporal:temporal temporal_visibility:visibility; do
  name=${database%%:*}
  schema=/etc/temporal/schema/postgresql/v12/${database#*:}/versioned
  # Creates the version tables if they are missing.
  temporal-sql-tool --database "$name" setup-schema --version 0.0
  temporal-sql-tool --database "$name" update-schema --schema-dir "$schema"
done
echo "Temporal's databases are up to date."
