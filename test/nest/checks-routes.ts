/** Which limits count a request: the default limit, `@Limit` and `@SkipLimit`. */
import assert from 'node:assert/strict';
import { Controller, type ExecutionContext, Get, Param, Req, UseGuards } from '@nestjs/common';
import { KeyedThrottle, Resource, Throttle } from 'headgate';
import { permitOf } from 'headgate/http';
import { HeadgateModule, Limit, LimitGuard, SkipLimit } from 'headgate/nest';
import { get, type Seen } from '../support/http-client.js';
import { type Check, guarded, type Site, UserGuard } from './site.js';

const once = (): Throttle => new Throttle(1, 0, 60);

/** The statuses of requests, one after another. */
const statuses = async (site: Site, ...paths: string[]): Promise<number[]> => {
  const all: number[] = [];
  for (const path of paths) all.push((await get(site, path)).status);
  return all;
};

@Controller()
class PlainController {
  @Get('a')
  a(): string {
    return 'a';
  }

  @Get('b')
  b(): string {
    return 'b';
  }
}

export const routeChecks: Check[] = [
  {
    name: 'LimitGuard applies the default limit to all routes',
    async run(start) {
      const site = await start(guarded({ gate: new Throttle(2, 0, 60, { name: 'api' }) }, [PlainController]));
      const first = await get(site, '/a');
      assert.equal(first.status, 200);
      assert.equal(first.body, 'a');
      assert.equal(first.headers['ratelimit-policy'], '"api";q=2;w=60');
      assert.equal(first.headers['retry-after'], undefined);
      assert.deepEqual(await statuses(site, '/b', '/a'), [200, 429]);
    },
  },
  {
    name: 'the default limit can stand in limits, and LimitGuard on a controller',
    async run(start) {
      @Controller('guarded')
      @UseGuards(LimitGuard)
      class GuardedController {
        @Get()
        get(): string {
          return 'guarded';
        }
      }
      const site = await start({
        imports: [HeadgateModule.forRoot({ limits: { default: once() } })],
        controllers: [GuardedController, PlainController],
      });
      assert.deepEqual(await statuses(site, '/guarded', '/guarded', '/a', '/a'), [200, 429, 200, 200]);
    },
  },
  {
    name: '@Limit applies a limit of the module to a method, without another guard',
    async run(start) {
      @Controller()
      class ExportsController {
        @Get('export')
        @Limit('exports')
        export(): string {
          return 'all of it';
        }

        @Get('free')
        free(): string {
          return 'free';
        }
      }
      const site = await start({
        imports: [HeadgateModule.forRoot({ limits: { exports: once(), others: once() } })],
        controllers: [ExportsController],
      });
      assert.deepEqual(await statuses(site, '/export', '/export', '/free', '/free'), [200, 429, 200, 200]);
    },
  },
  {
    name: '@Limit with options applies to all methods of a controller together',
    async run(start) {
      @Controller()
      @Limit({ gate: once() })
      class LimitedController extends PlainController {}
      const site = await start({ imports: [HeadgateModule.forRoot()], controllers: [LimitedController] });
      assert.deepEqual(await statuses(site, '/a', '/b', '/a'), [200, 429, 429]);
    },
  },
  {
    name: 'a route has its own limits, those of its controller and the default limit; a later refusal refunds all',
    async run(start) {
      const gates = {
        default: new Throttle(10, 0, 60, { name: 'default' }),
        site: new Throttle(10, 0, 60, { name: 'site' }),
        route: new Throttle(1, 0, 60, { name: 'route' }),
        own: new Throttle(10, 0, 60, { name: 'own' }),
      };
      @Controller()
      @Limit('site')
      class SeveralController {
        @Get()
        @Limit('route')
        @Limit({ gate: gates.own })
        get(): string {
          return 'several';
        }
      }
      const site = await start(
        guarded({ limits: { default: gates.default, site: gates.site, route: gates.route } }, [SeveralController]),
      );
      const [first, second] = [await get(site), await get(site)];
      assert.deepEqual([first.status, second.status], [200, 429]);
      for (const { headers } of [first, second])
        assert.deepEqual(
          String(headers['ratelimit-policy'])
            .split(', ')
            .map((member) => member.split(';')[0]),
          ['"default"', '"site"', '"own"', '"route"'],
        );
      assert.deepEqual(
        [gates.default, gates.site, gates.own].map(({ tokens }) => Math.round(tokens)),
        [9, 9, 9],
      );
    },
  },
  {
    name: 'the same limit at several places counts once, at the highest cost',
    async run(start) {
      const gate = new Throttle(10, 0, 3600);
      @Controller()
      @Limit('shared')
      class TwiceController {
        @Get('one')
        @Limit('shared')
        @UseGuards(LimitGuard)
        one(): string {
          return 'one';
        }

        @Get('five')
        @Limit('shared', { cost: 5 })
        five(): string {
          return 'five';
        }
      }
      const site = await start(guarded({ limits: { default: { gate }, shared: { gate } } }, [TwiceController]));
      await get(site, '/one');
      assert.equal(Math.round(gate.tokens), 9);
      await get(site, '/five');
      assert.equal(Math.round(gate.tokens), 4);
      assert.deepEqual(await statuses(site, '/five', '/one'), [429, 200]);
    },
  },
  {
    name: '@SkipLimit exempts from the limits further out, and a @Limit beside it applies',
    async run(start) {
      @Controller()
      @Limit('site')
      class SkippingController {
        @Get('all')
        @SkipLimit()
        all(): string {
          return 'all';
        }

        @Get('site')
        @SkipLimit('site')
        site(): string {
          return 'site';
        }

        @Get('own')
        @SkipLimit()
        @Limit('own', { cost: undefined }) // keeps the cost of the limit
        own(): string {
          return 'own';
        }
      }
      @Controller('exempt')
      @SkipLimit()
      @Limit('own')
      class ExemptController {
        @Get()
        get(): string {
          return 'exempt';
        }
      }
      const gates = {
        default: new Throttle(9, 0, 3600),
        site: new Throttle(9, 0, 3600),
        own: new Throttle(9, 0, 3600),
      };
      const limits = { ...gates, own: { gate: gates.own, cost: 2 } };
      const site = await start(guarded({ limits }, [SkippingController, ExemptController]));
      const spent = async (path: string): Promise<number[]> => {
        const all = [gates.default, gates.site, gates.own];
        const before = all.map(({ tokens }) => tokens);
        await get(site, path);
        return all.map(({ tokens }, index) => Math.round(before[index]! - tokens) + 0);
      };
      assert.deepEqual(await spent('/all'), [0, 0, 0]);
      assert.deepEqual(await spent('/site'), [1, 0, 0]);
      assert.deepEqual(await spent('/own'), [0, 0, 2]);
      assert.deepEqual(await spent('/exempt'), [0, 0, 2]);
    },
  },
  {
    name: 'a subclass has the limits of its base class, and its own',
    async run(start) {
      const gates = { base: new Throttle(9, 0, 3600), derived: new Throttle(9, 0, 3600) };
      @Controller('base')
      @Limit('base')
      class BaseController {
        @Get()
        get(): string {
          return 'get';
        }
      }
      @Controller('derived')
      @Limit('derived')
      class DerivedController extends BaseController {}
      const site = await start({
        imports: [HeadgateModule.forRoot({ limits: gates })],
        controllers: [BaseController, DerivedController],
      });
      await get(site, '/base');
      assert.deepEqual(
        [gates.base, gates.derived].map(({ tokens }) => Math.round(tokens)),
        [8, 9],
      );
      await get(site, '/derived');
      assert.deepEqual(
        [gates.base, gates.derived].map(({ tokens }) => Math.round(tokens)),
        [7, 8],
      );
    },
  },
  {
    name: "the key 'ip' is the platform's own answer: a forwarded address counts only from a trusted proxy",
    async run(start) {
      for (const [trustProxy, expected] of [
        [true, [200, 200, 429]],
        [false, [200, 429, 429]],
      ] as const) {
        const site = await start(guarded({ keyed: new KeyedThrottle(1, 0, 60), key: 'ip' }, [PlainController]), {
          trustProxy,
        });
        const all: number[] = [];
        for (const address of ['192.0.2.1', '192.0.2.2', '192.0.2.2'])
          all.push((await get(site, '/a', { headers: { 'x-forwarded-for': address } })).status);
        assert.deepEqual(all, expected);
      }
    },
  },
  {
    name: 'keys are header fields, users, templates and functions of the context; a request without a key gets a 400',
    async run(start) {
      const limit = (key: string | ((context: ExecutionContext) => string)) => ({
        keyed: new KeyedThrottle(1, 0, 60),
        key,
      });
      @Controller()
      @UseGuards(UserGuard)
      class KeysController {
        @Get('header')
        @Limit(limit('header:x-key'))
        header(): string {
          return 'header';
        }

        @Get('user')
        @Limit(limit('user'))
        user(): string {
          return 'user';
        }

        @Get('template/:tenant')
        @Limit(limit('{params.tenant}:{query.q}:{method}'))
        template(@Param('tenant') tenant: string): string {
          return tenant;
        }

        @Get('function')
        @Limit(
          limit((context) => `${context.getHandler().name}:${context.switchToHttp().getRequest().headers['x-key']}`),
        )
        function(): string {
          return 'function';
        }

        @Get('bare')
        @Limit('perUser', { key: async (context) => context.getClass().name })
        bare(): string {
          return 'bare';
        }
      }
      const site = await start({
        imports: [HeadgateModule.forRoot({ limits: { perUser: new KeyedThrottle(1, 0, 60) } })],
        controllers: [KeysController],
      });
      const ask = async (path: string, headers: Record<string, string> = {}): Promise<Seen> =>
        get(site, path, { headers });
      for (const [path, name] of [
        ['/header', 'x-key'],
        ['/user', 'x-user'],
        ['/function', 'x-key'],
      ] as const) {
        const all: number[] = [];
        for (const value of ['one', 'two', 'one']) all.push((await ask(path, { [name]: value })).status);
        assert.deepEqual(all, [200, 200, 429], path);
      }
      assert.deepEqual(
        await statuses(site, '/template/a?q=1', '/template/b?q=1', '/template/a?q=1', '/bare', '/bare'),
        [200, 200, 429, 200, 429],
      );
      const missing = await ask('/header');
      assert.equal(missing.status, 400);
      assert.match(missing.body, /no value for \{headers\.x-key\}/);
      assert.match(String(missing.headers['content-type']), /^application\/problem\+json/);
    },
  },
  {
    name: 'permitOf returns the permit in a handler: only failures count',
    async run(start) {
      const attempts = new KeyedThrottle(2, 0, 900);
      @Controller()
      class LoginController {
        @Get('login/:password')
        @Limit({ keyed: attempts, key: 'ip' })
        login(@Param('password') password: string, @Req() request: object): boolean {
          if (password === 'right') permitOf(request)?.refund();
          return password === 'right';
        }
      }
      const site = await start({ imports: [HeadgateModule.forRoot()], controllers: [LoginController] });
      const paths = ['right', 'wrong', 'right', 'wrong', 'right'].map((password) => `/login/${password}`);
      assert.deepEqual(await statuses(site, ...paths), [200, 200, 200, 200, 429]);
    },
  },
  {
    name: 'functions of the options receive the context, and skip passes a request uncounted',
    async run(start) {
      const gate = new Throttle(10, 0, 3600);
      const seen: string[] = [];
      const see = (what: string, context: ExecutionContext): void =>
        void seen.push(`${what} ${context.getHandler().name}`);
      const options = {
        gate,
        skip: (context: ExecutionContext) => (see('skip', context), context.getHandler().name === 'a'),
        cost: async (context: ExecutionContext) => (see('cost', context), 3),
      };
      const site = await start(guarded(options, [PlainController]));
      assert.deepEqual(await statuses(site, '/a', '/b'), [200, 200]);
      assert.deepEqual(seen, ['skip a', 'skip b', 'cost b']);
      assert.equal(Math.round(gate.tokens), 7);
    },
  },
  {
    name: 'a gate of requests at a time is free after each response, also after a failed handler',
    async run(start) {
      const gate = new Resource(1);
      @Controller()
      class FailingController {
        @Get()
        get(): string {
          throw new Error('broken');
        }
      }
      const site = await start(guarded({ gate }, [FailingController]));
      assert.deepEqual(await statuses(site, '/', '/', '/'), [500, 500, 500]);
      assert.equal(gate.active, 0);
    },
  },
];
