/**
 * The checks in a worker. A worker forbids timers and randomness while it imports its modules. So this file imports
 * headgate and constructs one of each kind at import.
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
  name: 'created at import',
});
const keyed = new KeyedThrottle(10, 2);
const database = new Resource(1);
const limited = new Limiter({ timeout: 1, resources: [database] }).resources([database])(async () => database.active);
const polite = throttledFetch(throttle, { fetch: async () => new Response('served') });
const serve = web(() => new Response('hello'), concurrencyLimit({ key: 'header:x-api-key', maxConcurrent: 1 }));

const atImport: Check = {
  name: 'gates created at import, without timers and randomness, work in a request',
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

/** The part of the Durable Object binding that is used here. */
interface Gates {
  idFromName(name: string): unknown;
  get(id: unknown): { fetch(url: string): Promise<Response> };
}

/**
 * A throttle that requests share. It needs a Durable Object: in a plain worker, a request that waits for another
 * request without a timer counts as hung, and a timer ends with the request that armed it.
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
  name: 'requests that wait for one another share the throttle of a Durable Object',
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
