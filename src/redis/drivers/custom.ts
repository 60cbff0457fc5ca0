/** The driver for objects of a user with `eval` and `subscribe`. */
import type { RedisCommands } from '../client.js';
import { type Driver, ignore, type Listening } from './driver.js';
import { keepSubscribed } from './subscription.js';

export function customDriver(client: RedisCommands): Driver {
  let listening: Listening | undefined;
  return {
    run: (script, keys, args) => client.eval(script.source, keys, args),
    // Such a client cannot unsubscribe: a second subscription would deliver every message twice.
    listen(channel, receiver) {
      listening = keepSubscribed(
        () => ({
          started: client.subscribe(channel, (message) => receiver.onMessage(message)),
          end: ignore,
          permanent: true,
        }),
        receiver,
      );
      return listening;
    },
    close: () => listening?.stop(),
  };
}
