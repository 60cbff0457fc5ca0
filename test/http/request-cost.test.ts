/** The cost of a request: its comparison in two middlewares, and the fields of named rates. */
import { Throttle } from 'headgate';
import { web } from 'headgate/http';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { writeLimitFields } from '../../src/http/ratelimit-fields.js';
import { covers, highestCost } from '../../src/http/request-cost.js';

describe('two costs of one gate', () => {
  // A record charges the main rate 1 and a named rate 0 by default. A number charges every rate.
  test.each([
    [2, 1, true, 2],
    [1, 2, false, 2],
    [1, {}, true, { cost: 1 }],
    [0, {}, false, { cost: 1 }],
    [{ tokens: 5 }, { tokens: 5 }, true, { cost: 1, tokens: 5 }],
    [{ tokens: 5 }, { tokens: 6 }, false, { cost: 1, tokens: 6 }],
    [{ tokens: 5 }, { bytes: 1 }, false, { cost: 1, tokens: 5, bytes: 1 }],
    [{ tokens: 5 }, 1, true, { cost: 1, tokens: 5 }],
    [{ tokens: 5, cost: 3 }, { tokens: undefined }, true, { cost: 3, tokens: 5 }],
    [{ tokens: 0 }, { toString: 1 }, false, { cost: 1, tokens: 0, toString: 1 }],
  ])('%j and %j', (held, requested, isCovered, highest) => {
    const [one, other] = [held, requested] as [number, number];
    expect(covers(one, other)).toBe(isCovered);
    expect(highestCost(one, other)).toEqual(highest);
    expect(highestCost(other, one)).toEqual(highest);
  });
});

describe('the RateLimit fields', () => {
  test('list each named rate, with the seconds until it is full', async () => {
    const clock = new ManualClock();
    const gate = new Throttle(10, 0, 60, {
      clock,
      name: 'llm',
      also: [
        { name: 'tokens', capacity: 1_000, period: 60, burst: 2_000 },
        { name: 'free', capacity: Infinity },
        { capacity: 500, period: 3_600 },
        { name: 'days', capacity: 4, window: 'sliding', period: 86_400 },
      ],
    });
    const handler = web(() => new Response('done'), { gate, cost: { tokens: 500, days: 1 } });
    const { headers } = await handler(new Request('http://localhost/'));
    expect(headers.get('ratelimit-policy')).toBe('"llm";q=10;w=60, "llm-tokens";q=1000;w=60, "llm-days";q=4;w=86400');
    expect(headers.get('ratelimit')).toBe('"llm";r=9;t=6, "llm-tokens";r=1500;t=30, "llm-days";r=3;t=86400');
  });

  test('of a refusal state the level of each named rate', async () => {
    const gate = new Throttle(Infinity, 0, 1, {
      clock: new ManualClock(),
      also: [{ name: 'tokens', capacity: 10, period: 10 }],
    });
    const handler = web(() => new Response('done'), { gate, cost: { tokens: 8 } });
    await (await handler(new Request('http://localhost/'))).text();
    const refused = await handler(new Request('http://localhost/'));
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('6');
    expect(refused.headers.get('ratelimit')).toBe('"default-tokens";r=2;t=8');
  });

  test('of a gate of a user need neither a level for each rate nor an estimate', () => {
    const rate = { name: 'x', capacity: 5 };
    expect(writeLimitFields({ also: [rate], levels: {} }, 'default', undefined)).toEqual({
      policy: '"default-x";q=5;w=1',
      state: '"default-x";r=0',
    });
    const paused = { also: [rate], levels: { x: 5 }, estimateWait: () => Infinity };
    expect(writeLimitFields(paused, 'default', undefined)?.state).toBe('"default-x";r=5');
    expect(writeLimitFields({ also: [rate] }, 'default', undefined)).toBeUndefined();
  });
});
