/**
 * The cost of the Express adapter for a server: requests to Express, with a gate that grants at once and without a
 * gate.
 */
import type { AddressInfo } from 'node:net';
import autocannon from 'autocannon';
import createApp from 'express';
import { Throttle } from 'headgate';
import { express } from 'headgate/http';

const CONNECTIONS = 20;
/** Seconds. */
const WARM_UP = 1;
const DURATION = 3;

/** Express alone. */
export function withoutAdapter(): Promise<number> {
  return nanosecondsPerRequest(createApp());
}

export function withAdapter(): Promise<number> {
  const app = createApp();
  app.use(express({ gate: new Throttle(Infinity) }));
  return nanosecondsPerRequest(app);
}

/** A separate thread sends the requests. In this thread, sending would take time from the server and hide the cost. */
async function nanosecondsPerRequest(app: ReturnType<typeof createApp>): Promise<number> {
  app.get('/', (_request, response) => void response.send('hello'));
  const server = app.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const load = (duration: number): Promise<autocannon.Result> =>
    autocannon({
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      connections: CONNECTIONS,
      duration,
      workers: 1,
    });
  await load(WARM_UP);
  const { duration, '2xx': served, non2xx } = await load(DURATION);
  if (non2xx > 0 || served === 0) throw new Error(`${non2xx} of ${served + non2xx} requests were refused`);
  server.closeAllConnections();
  server.close();
  return (duration * 1e9) / served;
}
