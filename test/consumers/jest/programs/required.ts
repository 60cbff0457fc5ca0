/** A program that TypeScript compiles to CommonJS. */
import { KeyedThrottle, Limiter, Resource, Throttle, ThrottleTimeoutError } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { web } from 'headgate/http';
import { instrument } from 'headgate/otel';
import { RedisThrottle } from 'headgate/redis';
import { ManualClock, record } from 'headgate/testing';
import headgate = require('headgate');

async function main(): Promise<void> {
  const clock = new ManualClock();
  const throttle = new Throttle(1, 1, 60, { clock });
  const trace = record(throttle);
  {
    await using permit = await throttle.acquire();
    console.log('slots', permit.slots, throttle.active);
  }
  const second = throttle.run(() => clock.now());
  await clock.advance(60);
  console.log('second', await second, trace.events.length);
  const refused = await throttle.acquire(1, { timeout: 1 }).catch((error: unknown) => error);
  console.log('refused', refused instanceof ThrottleTimeoutError, headgate.Throttle === Throttle);
  const database = new Resource(1);
  const limiter = new Limiter({ timeout: 1, resources: [database] });
  const serve = web(() => new Response('served'), { gate: limiter.resources([database]) });
  const send = throttledFetch(new KeyedThrottle<string>(10), {
    fetch: async (url) => serve(new Request(url as string)),
  });
  console.log('served', await (await send('http://localhost/')).text());
  const fleet = new RedisThrottle({ client: { url: process.env['REDIS_URL'] ?? '' }, key: 'program', concurrency: 1 });
  console.log('slot', await fleet.run((permit) => permit.slot), typeof instrument);
  await fleet.close();
}

void main();
