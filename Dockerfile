# One image for API, worker, simulator and migrations; the command says which. docker-compose.yml has them all.

# Node's newest LTS that the Temporal SDK names as supported, on glibc: its native module has no musl build.
# A slice of the tests runs on exactly this version (scripts/nodes.ts).
FROM node:24.21.0-bookworm-slim AS base
WORKDIR /app
ENV npm_config_update_notifier=false

# Compiles TypeScript to dist/.
FROM base AS build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY prisma.config.ts ./
COPY prisma ./prisma
# Generating needs no schema engine; any existing file keeps prisma from downloading one.
RUN PRISMA_SCHEMA_ENGINE_BINARY=/usr/local/bin/node CHECKPOINT_DISABLE=1 node_modules/.bin/prisma generate
COPY tsconfig.json tsconfig.build.json ./
COPY clients ./clients
COPY src ./src
# tsc leaves behind what is not TypeScript (pages, styles). The workers' workflow bundle is made last.
RUN node_modules/.bin/tsc -p tsconfig.build.json \
  && (cd src && find . -type f ! -name '*.ts' -exec cp --parents '{}' ../dist/ ';') \
  && node dist/worker/bundle-main.js

# What runs in production.
FROM base AS dependencies
COPY package.json package-lock.json .npmrc ./
COPY deploy/prune-modules.mjs ./deploy/prune-modules.mjs
# In one layer: what a later one takes away is still carried.
RUN npm ci --ignore-scripts --omit=dev && node deploy/prune-modules.mjs node_modules

FROM base
# Two arenas instead of eight a core: glibc keeps in each what it was once given, and the worker has many threads. A heap
# of several GB would grow to three times of what is in use (src/stack/program.ts).
ENV NODE_ENV=production NODE_OPTIONS="--enable-source-maps --max-old-space-size=768" NODROP_HOME=/data MALLOC_ARENA_MAX=2
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json LICENSE NOTICE ./
COPY prisma ./prisma
COPY deploy/health.mjs ./deploy/health.mjs
COPY clients ./clients
COPY --from=build /app/dist ./dist
# The simulator's ledger; a volume mounted here takes over the owner. Everything else stays root's and unwritable.
RUN install -d -o node -g node /data
USER node
EXPOSE 3000
# Of the default command; docker-compose.yml has the other programs'.
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=3 CMD ["node", "deploy/health.mjs", "api"]
CMD ["node", "dist/api/main.js"]
