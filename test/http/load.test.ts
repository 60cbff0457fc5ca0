/**
 * Under load: 20,000 requests and more against each adapter, and not once more than 8 inside.
 */
import autocannon from 'autocannon';
import { Throttle } from 'headgate';
import { expect, test } from 'vitest';
import { until } from '../support/http-client.js';
import { sites } from '../support/framework-servers.js';

const LIMIT = 8;
const REQUESTS = 20_000;

test.each(
  sites.flatMap(([name, serve]) =>
    name === 'connect'
      ? []
      : ([
          [name, 'who queue', 30, serve],
          [name, 'who are refused', 0, serve],
        ] as const),
  ),
)('%s: %s', { timeout: 60_000 }, async (_, kind, wait, serve) => {
  const gate = new Throttle(Infinity, LIMIT);
  let inside = 0;
  let most = 0;
  let served = 0;
  const site = await serve(
    { gate, wait },
    {
      handler: async () => {
        most = Math.max(most, ++inside);
        await new Promise((resolve) => void setImmediate(resolve));
        inside--;
        served++;
        return 'done';
      },
    },
  );
  // Where nobody queues, a twentieth of the requests shows as much.
  const amount = kind === 'who queue' ? REQUESTS : REQUESTS / 20;
  const result = await autocannon({ url: `http://127.0.0.1:${site.port}/`, connections: 40, amount });
  expect({
    errors: result.errors,
    timeouts: result.timeouts,
    total: result['1xx'] + result['2xx'] + result['4xx'] + result['5xx'],
  }).toEqual({ errors: 0, timeouts: 0, total: amount });
  expect([result['2xx'], result['5xx']]).toEqual([served, 0]);
  if (wait > 0) expect(result['4xx']).toBe(0);
  else expect(result['4xx']).toBeGreaterThan(0);
  expect(most).toBe(LIMIT);
  await until(() => gate.active === 0);
  expect([gate.waiting, inside, site.failures, site.logged]).toEqual([0, 0, [], []]);
  console.info(
    `${_}, ${kind}: ${amount} requests in ${result.duration} s, ${served} served, ${result['4xx']} refused, at most ${most} inside`,
  );
});
