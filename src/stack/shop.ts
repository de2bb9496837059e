// npm run shop: runs the example shop in the foreground. With the embedded database, the shop is set up first;
// otherwise its settings come from the environment (examples/shop/README.md).
import { loadConfig } from '../config.ts';
import { exitWith } from './errors.ts';
import { requireFreePort } from './ports.ts';
import { prepareShop } from './shop-setup.ts';

if (!process.env.DATABASE_URL) {
  try {
    const config = loadConfig();
    await requireFreePort(config.shop.port, 'the shop', 'NODROP_SHOP_PORT');
    Object.assign(process.env, await prepareShop(config));
  } catch (error) {
    exitWith(error);
  }
}
// The URL of the module is computed at run time, so that the build does not include the shop. A merchant would run the
// shop elsewhere.
await import(new URL('../../examples/shop/main.ts', import.meta.url).href);
