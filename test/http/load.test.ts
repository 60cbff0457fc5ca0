/** 20,000 requests to each adapter: at most 8 handlers run at once. */
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
          [name, 'queues', 30, serve],
          [name, 'refuses', 0, serve],
        ] as const),
  ),
)('%s %s requests over the limit, and never runs more than 8 handlers', async (name, kind, wait, serve) => {
  const gate = new Throttle(Infinity, LIMIT);
  let running = 0;
  let maxRunning = 0;
  let served = 0;
  const site = await serve(
    { gate, wait },
    {
      handler: async () => {
        maxRunning = Math.max(maxRunning, ++running);
        await new Promise((resolve) => void setImmediate(resolve));
        running--;
        served++;
        return 'done';
      },
    },
  );
  // Refusals need only a twentieth of the requests.
  const amount = kind === 'queues' ? REQUESTS : REQUESTS / 20;
  const result = await autocannon({ url: `http://127.0.0.1:${site.port}/`, connections: 40, amount });
  expect({
    errors: result.errors,
    timeouts: result.timeouts,
    total: result['1xx'] + result['2xx'] + result['4xx'] + result['5xx'],
  }).toEqual({ errors: 0, timeouts: 0, total: amount });
  expect([result['2xx'], result['5xx']]).toEqual([served, 0]);
  if (wait > 0) expect(result['4xx']).toBe(0);
  else expect(result['4xx']).toBeGreaterThan(0);
  expect(maxRunning).toBe(LIMIT);
  await until(() => gate.active === 0);
  expect([gate.waiting, running, site.failures, site.logged]).toEqual([0, 0, [], []]);
  const refused = `${result['4xx']} refused, at most ${maxRunning} handlers at once`;
  console.info(`${name} ${kind}: ${amount} requests in ${result.duration} s, ${served} served, ${refused}`);
});
