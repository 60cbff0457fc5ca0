/** What a refused client receives, and what exception filters receive. */
import assert from 'node:assert/strict';
import {
  type ArgumentsHost,
  Catch,
  Controller,
  type ExceptionFilter,
  Get,
  HttpException,
  UseFilters,
  UseGuards,
} from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { type Gate, KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { HeadgateModule, Limit, LimitException, LimitGuard } from 'headgate/nest';
import { call, get, until } from '../support/http-client.js';
import { type Check, guarded, UserGuard } from './site.js';

const once = (name?: string): Throttle => new Throttle(1, 0, 60, { name });

@Controller()
class PlainController {
  static calls = 0;

  @Get()
  get(): string {
    PlainController.calls++;
    return 'plain';
  }
}

export const refusalChecks: Check[] = [
  {
    name: 'a refusal is a problem document with Retry-After and the RateLimit fields',
    async run(start) {
      const site = await start(guarded({ gate: once('api') }, [PlainController]));
      await get(site);
      const { status, headers, body } = await get(site);
      assert.equal(status, 429);
      assert.match(String(headers['content-type']), /^application\/problem\+json\b/);
      const retryAfter = Number(headers['retry-after']);
      assert.ok(retryAfter >= 59 && retryAfter <= 60);
      assert.equal(headers['ratelimit-policy'], '"api";q=1;w=60');
      assert.equal(headers['ratelimit'], `"api";r=0;t=${retryAfter}`);
      assert.deepEqual(JSON.parse(body), {
        type: 'about:blank',
        title: 'Too Many Requests',
        status: 429,
        detail: `Too Many Requests: retry in ${retryAfter} s.`,
      });
      assert.deepEqual(site.logged, []);
    },
  },
  {
    name: 'a busy server refuses with 503, and the status of a limit replaces 429',
    async run(start) {
      const database = new Resource(1);
      const limiter = new Limiter({ timeout: 0.01, resources: [database] });
      @Controller()
      class BusyController {
        @Get('busy')
        @Limit({ gate: limiter.resources([database]) })
        busy(): string {
          return 'busy';
        }

        @Get('closed')
        @Limit('closed')
        closed(): string {
          return 'closed';
        }

        @Get('own')
        @Limit({ gate: once(), status: 420 })
        own(): string {
          return 'own';
        }
      }
      const closed = once();
      const site = await start({
        imports: [HeadgateModule.forRoot({ limits: { closed } })],
        controllers: [BusyController],
      });
      closed.close();
      using _ = await database.acquire();
      const busy = await get(site, '/busy');
      assert.equal(busy.status, 503);
      assert.deepEqual(JSON.parse(busy.body), { detail: 'Server busy, please retry later' });
      assert.equal((await get(site, '/closed')).status, 503);
      assert.deepEqual([(await get(site, '/own')).status, (await get(site, '/own')).status], [200, 420]);
    },
  },
  {
    name: 'exception filters receive a LimitException, and may send any body',
    async run(start, platform) {
      const seen: LimitException[] = [];
      @Catch(LimitException)
      class LimitFilter implements ExceptionFilter<LimitException> {
        catch(exception: LimitException, host: ArgumentsHost): void {
          seen.push(exception);
          const response = host.switchToHttp().getResponse();
          response.status(exception.getStatus()).send(`<p>${exception.refusal.retryAfter}</p>`);
        }
      }
      const site = await start(
        guarded(
          { keyed: new KeyedThrottle(1, 0, 60), key: () => 'me' },
          [PlainController],
          [{ provide: APP_FILTER, useClass: LimitFilter }],
        ),
      );
      await get(site);
      const { status, headers, body } = await get(site);
      assert.equal(status, 429);
      assert.match(body, /^<p>(59|60)<\/p>$/);
      assert.match(String(headers['content-type']), platform === 'express' ? /^text\/html/ : /^text\/plain/);
      assert.ok(Number(headers['retry-after']) >= 59);
      const [exception] = seen;
      assert.ok(exception instanceof HttpException);
      assert.equal(exception.name, 'LimitException');
      assert.match(exception.message, /^Too Many Requests: retry in (59|60) s\.$/);
      assert.equal(exception.refusal.key, 'me');
      assert.equal(exception.refusal.error.code, 'ERR_THROTTLE_TIMEOUT');
      assert.equal((exception as { cause?: unknown }).cause, exception.refusal.error);
      assert.equal(exception.headers['Retry-After'], String(exception.refusal.retryAfter));
      assert.doesNotMatch(String(exception.stack), /\n\s+at /);
    },
  },
  {
    name: 'a filter for HttpException on the controller sends its own JSON with its own media type',
    async run(start) {
      @Catch(HttpException)
      class JsonFilter implements ExceptionFilter<HttpException> {
        catch(exception: HttpException, host: ArgumentsHost): void {
          const response = host.switchToHttp().getResponse();
          response.status(exception.getStatus()).send({ own: exception.getStatus() });
        }
      }
      @Controller()
      @UseFilters(JsonFilter)
      class FilteredController extends PlainController {}
      const site = await start(guarded({ gate: once() }, [FilteredController]));
      await get(site);
      const { headers, body } = await get(site);
      assert.equal(body, '{"own":429}');
      assert.match(String(headers['content-type']), /^application\/json/);
    },
  },
  {
    name: 'onLimited answers with an object, a text or a Response; if it throws, the default is sent and logged',
    async run(start) {
      const failure = new Error('onLimited failed');
      const answers: [answer: () => unknown, status: number, body: RegExp, type: RegExp][] = [
        [() => ({ slow: 'down' }), 429, /^\{"slow":"down"\}$/, /^application\/json/],
        [() => 'slow down', 429, /"message":"slow down"/, /^application\/json/],
        [
          async () => Response.json({ own: true }, { status: 420, headers: { 'x-own': 'yes' } }),
          420,
          /^\{"own":true\}$/,
          /^application\/json/,
        ],
        [() => undefined, 429, /"status":429/, /^application\/problem\+json/],
        [
          () => {
            throw failure;
          },
          429,
          /"status":429/,
          /^application\/problem\+json/,
        ],
      ];
      for (const [answer, status, body, type] of answers) {
        const onLimited = (): never => answer() as never;
        const site = await start(guarded({ gate: once(), onLimited }, [PlainController]));
        await get(site);
        const seen = await get(site);
        assert.equal(seen.status, status);
        assert.match(seen.body, body);
        assert.match(String(seen.headers['content-type']), type);
        assert.equal(seen.headers['x-own'], status === 420 ? 'yes' : undefined);
        assert.ok(Number(seen.headers['retry-after']) >= 59);
        assert.deepEqual(site.logged, body.source.includes('status') && answer !== answers[3]![0] ? [failure] : []);
      }
    },
  },
  {
    name: 'a gate that fails goes to the exception filters, or lets the request through with failOpen',
    async run(start) {
      const failure = new Error('the backend is down');
      const broken = Object.assign(once(), { acquire: () => Promise.reject(failure) }) as Gate;
      const site = await start(guarded({ gate: broken }, [PlainController]));
      assert.equal((await get(site)).status, 500);
      assert.deepEqual(site.logged, [failure]);
      const open = await start(guarded({ gate: broken, failOpen: true }, [PlainController]));
      assert.equal((await get(open)).status, 200);
    },
  },
  {
    name: 'block: false lets a request over the limit run, without a permit',
    async run(start) {
      const site = await start(guarded({ gate: once(), block: false, headers: false }, [PlainController]));
      const [first, second] = [await get(site), await get(site)];
      assert.deepEqual([first.status, second.status], [200, 200]);
      assert.equal(second.headers['ratelimit'], undefined);
    },
  },
  {
    name: 'a request queues for wait seconds, and leaves the queue when its client disconnects',
    async run(start) {
      const gate = new Resource(1);
      const statuses: number[] = [];
      @Catch(HttpException)
      class StatusFilter implements ExceptionFilter<HttpException> {
        catch(exception: HttpException): void {
          statuses.push(exception.getStatus());
        }
      }
      const site = await start(
        guarded({ gate, wait: 5 }, [PlainController], [{ provide: APP_FILTER, useClass: StatusFilter }]),
      );
      const before = PlainController.calls;
      const permit = await gate.acquire();
      const [dropped, kept] = [call(site), call(site)];
      await until(() => gate.waiting === 2);
      dropped.hangUp();
      await until(() => gate.waiting === 1);
      permit.release();
      assert.equal((await kept.seen).status, 200);
      await until(() => statuses.length === 1);
      assert.deepEqual(statuses, [499]);
      assert.equal(PlainController.calls, before + 1);
      await until(() => gate.active === 0);
    },
  },
  {
    name: 'a limit by user before authentication counts the address, and warns once',
    async run(start) {
      const warned = new Promise<Error & { code?: string }>((resolve) => {
        const listener = (warning: Error & { code?: string }): void => {
          if (warning.code !== 'HEADGATE_LATE_USER') return;
          process.off('warning', listener);
          resolve(warning);
        };
        process.on('warning', listener);
      });
      // The warning is emitted once for the process.
      (globalThis as never as Record<symbol, Set<string> | undefined>)[Symbol.for('headgate.warnings')]?.delete(
        'HEADGATE_LATE_USER',
      );
      @Controller()
      @UseGuards(LimitGuard, UserGuard)
      class EarlyController extends PlainController {}
      const site = await start({
        imports: [HeadgateModule.forRoot({ keyed: new KeyedThrottle(5, 0, 60), key: 'user' })],
        controllers: [EarlyController],
      });
      await get(site, '/', { headers: { 'x-user': 'ada' } });
      assert.match((await warned).message, /EarlyController\.get.*before authentication/);
    },
  },
];
