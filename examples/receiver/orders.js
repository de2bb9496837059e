// Commands for the shop's database: create it, add an order, show an order.
//
//   node orders.js init                      creates the database of DATABASE_URL and its tables if they are missing
//   node orders.js add ID AMOUNT CURRENCY    creates an order; the amount is in minor units
//   node orders.js show ID                   prints the order
import { readFileSync } from 'node:fs';
import pg from 'pg';

async function withDatabase(address, work) {
  const client = new pg.Client({ connectionString: String(address), connectionTimeoutMillis: 5_000 });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const commands = {
  async init(url) {
    const name = url.pathname.slice(1);
    if (name === '') throw new Error('DATABASE_URL names no database: put /NAME at its end.');
    const server = new URL(url);
    server.pathname = '/postgres';
    await withDatabase(server, async (db) => {
      const { rowCount } = await db.query('select 1 from pg_database where datname = $1', [name]);
      if (rowCount === 0) await db.query(`create database ${pg.escapeIdentifier(name)}`);
    });
    await withDatabase(url, async (db) => {
      const { rows } = await db.query("select to_regclass('orders') as orders");
      if (rows[0].orders === null)
        await db.query(readFileSync(new URL('schema.sql', import.meta.url), 'utf8'));
    });
    console.log(`The database ${name} has its tables.`);
  },
  async add(url, id, amount, currency) {
    if (id === '') throw new Error('The ID of an order must not be empty.');
    if (!/^[1-9]\d{0,15}$/.test(amount))
      throw new Error(`AMOUNT must be a whole number of minor units: 1990 is CNY 19.90. It is "${amount}".`);
    if (!/^[A-Z]{3}$/.test(currency))
      throw new Error(`CURRENCY must be a code of ISO 4217 in capitals, such as CNY. It is "${currency}".`);
    const sql = 'insert into orders (id, amount, currency) values ($1, $2, $3) on conflict (id) do nothing';
    const { rowCount } = await withDatabase(url, (db) => db.query(sql, [id, amount, currency]));
    if (rowCount === 0) console.error(`Order ${id} exists already and is not changed.`);
    await commands.show(url, id);
  },
  async show(url, id) {
    const { rows } = await withDatabase(url, (db) => db.query('select * from orders where id = $1', [id]));
    if (rows[0] === undefined) throw new Error(`There is no order ${id}: create it with orders.js add.`);
    console.log(JSON.stringify(rows[0]));
  },
};

const [command, ...args] = process.argv.slice(2);
const { DATABASE_URL } = process.env;
try {
  if (!URL.canParse(DATABASE_URL ?? ''))
    throw new Error(
      "DATABASE_URL must be the address of the shop's own database, postgresql://USER:PASSWORD@HOST:PORT/NAME.",
    );
  // The command must exist, and all its arguments must be given. The URL, its first parameter, comes from the
  // environment.
  if (!Object.hasOwn(commands, command ?? '') || commands[command].length !== args.length + 1)
    throw new Error('Use: node orders.js init | add ID AMOUNT CURRENCY | show ID');
  await commands[command](new URL(DATABASE_URL), ...args);
} catch (error) {
  console.error(error.message || `The database of DATABASE_URL cannot be reached (${error.code}).`);
  process.exitCode = 1;
}
