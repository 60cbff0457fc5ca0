/** The behaviour of the adapter for Express, on Express itself. */
import createExpress, {
  type NextFunction,
  type Request as ExpressRequest,
  type Response as ExpressResponse,
} from 'express';
import http from 'node:http';
import { Readable } from 'node:stream';
import { KeyedThrottle, Throttle } from 'headgate';
import { concurrencyLimit, express } from 'headgate/http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { fullGate, refusingGate } from '../support/fixed-gates.js';
import { startServer } from '../support/framework-servers.js';
import { call, get, Latch, type Seen, until } from '../support/http-client.js';

const summaryOf = ({ status, headers, body }: Seen): unknown => [status, headers['retry-after'], body];

describe('express', () => {
  test('a key on a route can use its parameters and the properties that earlier middleware has set', async () => {
    const { keyed, keys } = refusingGate();
    const app = createExpress();
    app.use((req, res, next) => {
      Object.assign(req, { tenant: { id: 'acme' } });
      res.locals['plan'] = 'free';
      next();
    });
    app.get('/p/:project', express({ keyed, key: '{tenant.id}:{params.project}' }));
    app.use('/mounted', express({ keyed, key: '{path}' }));
    app.use(express({ keyed, key: (_req: ExpressRequest, res: ExpressResponse) => String(res.locals['plan']) }));
    const site = await startServer(http.createServer(app));
    for (const path of ['/p/one%3Atwo', '/mounted/x?y', '/else']) expect((await get(site, path)).status).toBe(429);
    expect(keys).toEqual(['acme:one%3atwo', '/mounted/x', 'free']);
  });

  test.each<[string, (res: ExpressResponse) => unknown]>([
    ['and return it', (res) => res.json({ own: true })],
    ['and return nothing', (res) => void res.json({ own: true })],
    [
      'and then throw',
      (res) => {
        res.json({ own: true });
        throw new Error('too late');
      },
    ],
  ])('onLimited can send the response %s', async (_, respond) => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    onTestFinished(() => log.mockRestore());
    const app = createExpress();
    app.use(
      express({
        gate: fullGate(),
        onLimited: (_refusal, _req: ExpressRequest, res: ExpressResponse) => respond(res) as undefined,
      }),
    );
    const site = await startServer(http.createServer(app));
    expect(summaryOf(await get(site))).toEqual([429, '1', '{"own":true}']);
    expect(log.mock.calls).toHaveLength(_ === 'and then throw' ? 1 : 0);
  });

  test('a response whose header was sent is ended, and its header stays unchanged', async () => {
    const app = createExpress();
    app.use((_req, res, next) => (res.write('begun '), next()));
    app.use('/in', express({ gate: new Throttle(Infinity, 1) }), (_req, res) => void res.end('done'));
    app.use('/out', express({ gate: fullGate() }));
    const site = await startServer(http.createServer(app));
    expect(summaryOf(await get(site, '/in'))).toEqual([200, undefined, 'begun done']);
    expect(summaryOf(await get(site, '/out'))).toEqual([200, undefined, 'begun ']);
  });

  test.each([undefined, 'route', 'router', 0])(
    'a function that rejects with %j causes an Error that names it',
    async (thrown) => {
      const failures: unknown[] = [];
      const app = createExpress();
      app.use(
        express({ gate: new Throttle(1), skip: () => Promise.reject(thrown as never) }),
        (_req, res) => void res.send('admitted'),
      );
      app.use(
        (error: unknown, _req: ExpressRequest, res: ExpressResponse, _next: NextFunction) => (
          failures.push(error),
          res.sendStatus(500)
        ),
      );
      const site = await startServer(http.createServer(app));
      expect((await get(site)).status).toBe(500);
      expect(failures).toEqual([new Error(`${thrown} was thrown`)]);
    },
  );

  test('an onLimited that only sets a header field gets the default body', async () => {
    const app = createExpress();
    app.use(
      express({ gate: fullGate(), onLimited: (_refusal, _req, res: ExpressResponse) => res.set('Retry-After', '60') }),
    );
    const site = await startServer(http.createServer(app));
    const { status, headers, body } = await get(site);
    expect([status, headers['retry-after'], JSON.parse(body)]).toEqual([
      429,
      '60',
      expect.objectContaining({ status: 429 }),
    ]);
  });

  test('six limits on one route cause no warning about leaked listeners', async () => {
    const warned = vi.fn();
    process.on('warning', warned);
    onTestFinished(() => void process.off('warning', warned));
    const gates = Array.from({ length: 6 }, () => new Throttle(Infinity, 1));
    const active = (): number => gates.reduce((sum, gate) => sum + gate.active, 0);
    const app = createExpress();
    for (const gate of gates) app.use(express({ gate, wait: 1 }));
    app.get('/', (_req, res) => void res.send(String(active())));
    const site = await startServer(http.createServer(app));
    expect((await get(site)).body).toBe('6');
    await until(() => active() === 0);
    expect(warned).not.toHaveBeenCalled();
  });

  test('a template reads the getters of classes', async () => {
    class User {
      get id(): number {
        return 42;
      }
    }
    const keyed = new KeyedThrottle(Infinity, 1);
    const acquire = vi.spyOn(keyed, 'acquire');
    const app = createExpress();
    app.use((req, _res, next) => next(void Object.assign(req, { user: new User() })));
    app.use('/user', express({ keyed, key: 'user:{user.id}' }), (_req, res) => void res.send('done'));
    app.use('/constructor', express({ keyed, key: '{user.constructor.name}' }), (_req, res) => void res.send('done'));
    const site = await startServer(http.createServer(app));
    expect([(await get(site, '/user')).status, (await get(site, '/constructor')).status]).toEqual([200, 400]);
    expect(acquire.mock.calls.map(([key]) => key)).toEqual(['user:42']);
  });

  test('a piped response holds its permit until it ends or its client disconnects', async () => {
    const gate = new Throttle(Infinity, 1);
    const latch = new Latch();
    const app = createExpress();
    app.use(
      express({ gate }),
      (_req, res) =>
        void Readable.from(
          (async function* () {
            yield 'first';
            await latch.opened;
          })(),
        ).pipe(res),
    );
    const site = await startServer(http.createServer(app));
    const dropped = call(site);
    await dropped.started;
    expect([gate.active, (await get(site)).status]).toEqual([1, 429]);
    dropped.hangUp();
    await until(() => gate.active === 0);
    const staying = call(site);
    await staying.started;
    expect(gate.active).toBe(1);
    latch.open();
    expect((await staying.seen).body).toBe('first');
    await until(() => gate.active === 0);
  });

  test('an error that Express answers itself releases the permit', async () => {
    const gate = new Throttle(Infinity, 1);
    const app = createExpress().set('env', 'test');
    app.use(express({ gate }), () => {
      throw new Error('no');
    });
    const site = await startServer(http.createServer(app));
    for (let index = 0; index < 3; index++) {
      expect((await get(site)).status).toBe(500);
      await until(() => gate.active === 0);
    }
  });

  test('concurrencyLimit admits 5 simultaneous exports per user', async () => {
    const latch = new Latch();
    let running = 0;
    const app = createExpress();
    app.use((req, _res, next) => next(void Object.assign(req, { user: { id: req.get('x-user') } })));
    app.get('/export', express(concurrencyLimit({ key: 'user', maxConcurrent: 5 })), async (_req, res) => {
      running++;
      await latch.opened;
      res.send('all of it');
    });
    const site = await startServer(http.createServer(app));
    const as = (user: string): { headers: Record<string, string> } => ({ headers: { 'x-user': user } });
    const calls = Array.from({ length: 5 }, () => call(site, '/export', as('ada')));
    await until(() => running === 5);
    expect((await get(site, '/export', as('ada'))).status).toBe(429);
    const other = call(site, '/export', as('bob'));
    await until(() => running === 6);
    latch.open();
    for (const { seen } of [...calls, other]) expect((await seen).status).toBe(200);
  });
});
