/**
 * Two copies of the package in one program: bundled and installed, or ESM and CommonJS. Gates, errors and events of one
 * copy work with the limiters, adapters and recorders of another copy (FAULTS 9).
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import * as installed from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { web } from 'headgate/http';
import { ManualClock, record } from 'headgate/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

type Copy = typeof installed;

const folder = mkdtempSync(join(tmpdir(), 'headgate-copies-'));
const copies: Record<string, Copy> = {};

beforeAll(async () => {
  for (const format of ['esm', 'cjs'] as const) {
    const outfile = join(folder, format === 'esm' ? 'copy.mjs' : 'copy.cjs');
    await build({ entryPoints: ['src/index.ts'], bundle: true, format, platform: 'neutral', minify: true, outfile });
    copies[format] = (
      format === 'esm' ? await import(/* @vite-ignore */ pathToFileURL(outfile).href) : createRequire(outfile)(outfile)
    ) as Copy;
  }
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(['esm', 'cjs'])('a copy as %s', (format) => {
  const copy = (): Copy => copies[format] as Copy;

  test('has other classes than the installed copy', () => {
    expect(copy().Throttle).not.toBe(installed.Throttle);
    expect(copy().ThrottleError).not.toBe(installed.ThrottleError);
  });

  test('a timeout of its gate in the installed Limiter is a ServerBusyError and holds nothing', async () => {
    const [first, second] = [new installed.Resource(1), new (copy().Throttle)(1, 0, 60)];
    second.tryAcquire();
    const limiter = new installed.Limiter({ timeout: 0, resources: [first, second] });
    const error: unknown = await limiter.acquire([first, second]).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'ServerBusyError', status: 503, cause: { code: 'ERR_THROTTLE_TIMEOUT' } });
    expect(first.active).toBe(0);
  });

  test.each([false, true])(
    'a refusal by its gate is a 429 of the installed adapter, with failOpen: %s',
    async (failOpen) => {
      const keyed = new (copy().KeyedThrottle)(1, 0, 60);
      const handler = web(() => new Response('served'), { keyed, key: () => 'ada', failOpen });
      expect((await handler(new Request('http://localhost/'))).status).toBe(200);
      const refused = await handler(new Request('http://localhost/'));
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '60']);
    },
  );

  test('its full queue, closed gate and busy limiter are a 503 of the installed adapter', async () => {
    const { Throttle, Limiter, Resource } = copy();
    const full = new Throttle(1, 1, 60, { maxQueue: 0 });
    full.tryAcquire();
    const closed = new Throttle(1);
    closed.close();
    const busy = new Resource(1);
    busy.tryAcquire();
    const limiter = new Limiter({ timeout: 0, resources: [busy] }).resources([busy]);
    for (const [gate, wait] of [
      [full, 100],
      [closed, 0],
      [limiter, 0],
    ] as const) {
      const response = await web(() => new Response('served'), { gate, wait })(new Request('http://localhost/'));
      expect(response.status).toBe(503);
    }
  });

  test('a cost above the burst of its gate goes to the error handler, even with failOpen', async () => {
    const gate = new (copy().Throttle)(1);
    await expect(
      web(() => new Response(''), { gate, cost: 2, failOpen: true })(new Request('http://localhost/')),
    ).rejects.toThrow('cost must be at most 1');
  });

  test('its gate limits the installed fetch, which pauses the gate on a refusal', async () => {
    const clock = new ManualClock();
    const gate = new (copy().Throttle)(10, 2, 1, { clock });
    let calls = 0;
    const fetch = throttledFetch(gate, {
      fetch: async () => new Response('', calls++ === 0 ? { status: 429, headers: { 'retry-after': '7' } } : {}),
    });
    const response = fetch('https://api.example/');
    await clock.advance(6);
    expect([calls, gate.waiting]).toEqual([1, 1]);
    await clock.advance(4);
    expect([(await response).status, calls]).toEqual([200, 2]);
  });

  test('the installed recorder records its gates', () => {
    for (const gate of [new (copy().Throttle)(10), new (copy().Resource)(1)]) {
      const trace = record(gate);
      gate.tryAcquire()?.release();
      trace.stop();
      expect(trace.events.map(({ kind }) => kind)).toEqual(['granted', 'released']);
    }
  });

  test('waiters of both copies on one signal both abort', async () => {
    const stop = new AbortController();
    const gates = [new installed.Throttle(1, 1), new (copy().Throttle)(1, 1)];
    const waiting = gates.map((gate) => {
      gate.tryAcquire();
      return gate.acquire(1, { signal: stop.signal }).catch((reason: unknown) => reason);
    });
    stop.abort('enough');
    expect(await Promise.all(waiting)).toEqual(['enough', 'enough']);
    expect(gates.map(({ waiting: left }) => left)).toEqual([0, 0]);
  });
});

test('no module uses `instanceof` with a class of the package or an error class', () => {
  const files = (readdirSync('src', { recursive: true }) as string[]).filter((file) => file.endsWith('.ts'));
  expect(files.length).toBeGreaterThan(30);
  const usesInstanceof =
    /instanceof (?:\w*Error|Throttle|KeyedThrottle|Resource|Limiter|Redis\w*|Grant|Lease|TokenBucket|SlidingWindow)\b/;
  const lines = files.flatMap((file) =>
    readFileSync(join('src', file), 'utf8')
      .split('\n')
      .map((line) => `${file}: ${line}`),
  );
  // Examples in doc comments may use `instanceof`, because the code of a caller uses one copy.
  expect(lines.filter((line) => usesInstanceof.test(line) && !/: \s*\*/.test(line))).toEqual([]);
});
