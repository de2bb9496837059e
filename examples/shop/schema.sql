-- The shop's own database. The shop creates missing tables at every start. Amounts are in minor units.

create table if not exists orders (
  id text primary key,
  product text not null,
  subject text not null,
  amount bigint not null check (amount > 0),
  currency text not null,
  created_at timestamptz not null default now(),
  cancelled_at timestamptz,
  -- nodrop's id of the one payment that pays the order.
  paid_payment_id text unique,
  paid_at timestamptz,
  -- The customer shows this code to get the goods.
  pickup_code text,
  refunded bigint not null default 0 check (refunded >= 0),
  -- Incremented with every change, for pages that wait for a change.
  revision integer not null default 1,
  check (paid_payment_id is null or cancelled_at is null),
  check ((paid_payment_id is null) = (pickup_code is null))
);

create table if not exists payments (
  id text primary key,
  order_id text not null references orders (id),
  -- The version of the newest event; 0 before the first event.
  version integer not null default 0,
  -- 'open', or the state of the newest event: see stateOf in events.ts.
  state text not null default 'open',
  refunded bigint not null default 0,
  created_at timestamptz not null default now()
);
create index if not exists payments_order on payments (order_id, created_at);

-- Every event that was applied or ignored as older, by its webhook-id.
create table if not exists events (
  id text primary key,
  payment_id text not null,
  version integer not null,
  type text not null,
  outcome text not null default 'applied' check (outcome in ('applied', 'older')),
  received_at timestamptz not null default now()
);
