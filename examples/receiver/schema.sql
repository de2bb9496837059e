create table orders (
  id text primary key,
  amount bigint not null,
  currency text not null,
  cancelled boolean not null default false,
  paid_payment_id text unique
);
create table nodrop_payments (id text primary key, version integer not null);
