-- Run once, by the postgres image, when its volume is empty: one user and database each for nodrop and Temporal, so
-- that neither can read or exhaust what is the other's. The passwords come from the container's environment.
\getenv nodrop_password NODROP_DB_PASSWORD
\getenv temporal_password TEMPORAL_DB_PASSWORD

CREATE ROLE nodrop LOGIN PASSWORD :'nodrop_password';
CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';

CREATE DATABASE nodrop OWNER nodrop;
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;

-- Everybody may connect to a new database unless told otherwise.
REVOKE ALL ON DATABASE nodrop, temporal, temporal_visibility FROM PUBLIC;
