/**
 * The checks in a worker. While a worker's modules are imported, timers and randomness are forbidden: so headgate is
 * imported, and everything that it has is constructed, without either.
 */
import { KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { concurrencyLimit, web } from 'headgate/http';
import { type Check, checks, runChecks } from './checks.js';

const isForbidden = (action: () => unknown): boolean => {
  try {
    action();
    return false;
  } catch {
    return true;
  }
};
const forbidden = [isForbidden(() => setTimeout(() => undefined, 1)), isForbidden(() => crypto.randomUUID())];

const throttle = new Throttle(10, 2, 1, {
  also: [{ capacity: 100, period: 60, window: 'sliding' }],
  name: 'made at import',
});
const keyed = new KeyedThrottle(10, 2);
const database = new Resource(1);
const limited = new Limiter({ timeout: 1, resources: [database] }).resources([database])(async () => database.active);
const polite = throttledFetch(throttle, { fetch: async () => new Response('served') });
const serve = web(() => new Response('hello'), concurrencyLimit({ key: 'header:x-api-key', maxConcurrent: 1 }));

const atImport: Check = {
  name: 'made at import, where timers and randomness are forbidden; used in a request',
  async run() {
    if (forbidden.includes(false))
      throw new Error(`expected timers and randomness to be forbidden at import, got ${forbidden.join(', ')}`);
    const request = new Request('https://example.com/', { headers: { 'x-api-key': 'ada' } });
    const got = [
      await throttle.run(() => throttle.active),
      await keyed.run('ada', (permit) => permit.cost),
      await limited(),
      await (await polite('https://example.com/')).text(),
      (await serve(request)).status,
    ];
    if (got.join(' ') !== '1 1 1 served 200') throw new Error(`expected 1 1 1 served 200, got ${got.join(' ')}`);
  },
};

/** What is used of a Durable Object from outside. */
interface Gates {
  idFromName(name: string): unknown;
  get(id: unknown): { fetch(url: string): Promise<Response> };
}

/**
 * A throttle that requests share. A worker itself is no place for one: what waits for another request, and has no timer
 * of its own, counts as hung there, and timers end with the request that set them. An object has its own.
 */
export class SharedGate {
  readonly #throttle: Throttle = new Throttle(20, 1, 1, { burst: 1 });
  #running = 0;

  fetch(): Promise<Response> {
    return this.#throttle.run(async ({ waited }) => {
      this.#running++;
      await new Promise((resolve) => void setTimeout(resolve, 5));
      return Response.json([this.#running--, waited]);
    });
  }
}

const inObject = (gates: Gates): Check => ({
  name: 'a throttle of a Durable Object, shared by requests that wait for one another',
  async run() {
    const object = gates.get(gates.idFromName('shared'));
    const answers = await Promise.all(
      [1, 2, 3, 4].map(
        async () => (await (await object.fetch('https://object/')).json()) as [running: number, waited: number],
      ),
    );
    const waits = answers.map(([, waited]) => waited);
    if (answers.some(([running]) => running !== 1) || Math.max(...waits) < 0.12)
      throw new Error(`expected one at a time, and waits of up to 0.15 s, got ${JSON.stringify(answers)}`);
  },
});

const worker: { fetch(request: Request, env: { gates: Gates }): Promise<Response> } = {
  fetch: async (_, { gates }) => Response.json(await runChecks([atImport, inObject(gates), ...checks])),
};
export default worker;
