-- The postgres image runs this script once, when its volume is empty. It creates separate users and databases for
-- nodrop and Temporal, so that neither can read the other's data. The passwords come from the container's environment.
\getenv nodrop_password NODROP_DB_PASSWORD
\getenv temporal_password TEMPORAL_DB_PASSWORD

CREATE ROLE nodrop LOGIN PASSWORD :'nodrop_password';
CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';

CREATE DATABASE nodrop OWNER nodrop;
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;

-- By default, every user may connect to a new database.
REVOKE ALL ON DATABASE nodrop, temporal, temporal_visibility FROM PUBLIC;
