#!/bin/sh
# Creates Temporal's two databases, or brings them to the schema of this version. May be repeated; run it before a newer server starts.
set -eu

for database in temporal temporal_visibility; do
  # The folder of the second one is called "visibility".
  schema=/etc/temporal/schema/postgresql/v12/${database#temporal_}/versioned
  sql() { temporal-sql-tool --plugin postgres12 --ep postgres -p 5432 -u temporal --db "$database" "$@"; }
  sql create
  sql setup-schema -v 0.0
  sql update-schema -d "$schema"
done
