/** The driver for objects of a user with `eval` and `subscribe`. */
import type { RedisCommands } from '../client.js';
import { type Driver, ignore } from './driver.js';
import { keepSubscribed } from './subscription.js';

export function customDriver(client: RedisCommands): Driver {
  let stop = ignore;
  return {
    run: (script, keys, args) => client.eval(script.source, keys, args),
    listen(channel, listener, onGap) {
      stop = keepSubscribed(() => ({ started: client.subscribe(channel, listener), end: ignore }), onGap);
    },
    close: () => stop(),
  };
}
