/**
 * Valid and invalid uses of the types of `headgate/nest`. This file never runs: `npm run check:types` compiles it, and
 * fails if an expected type error is missing.
 */
import type { DynamicModule, ExecutionContext } from '@nestjs/common';
import { KeyedThrottle, Resource, Throttle } from 'headgate';
import { concurrencyLimit, type Refusal } from 'headgate/http';
import { HeadgateModule, InjectGate, Limit, type LimitException, LimitGuard, SkipLimit } from 'headgate/nest';
import { RedisKeyedThrottle } from 'headgate/redis';
import { expectTypeOf } from 'vitest';

const keyed = new KeyedThrottle(10);
const gate = new Throttle(10);

// Functions receive the context, whose type is inferred.
expectTypeOf(
  HeadgateModule.forRoot({
    keyed,
    key: (context) => {
      expectTypeOf(context).toEqualTypeOf<ExecutionContext>();
      return context.getHandler().name;
    },
    cost: async (context) => context.getArgs().length,
    skip: undefined,
    limits: {
      mail: gate,
      perUser: keyed,
      reports: new Resource(2),
      shared: { gate, wait: 5, onLimited: (refusal, context) => ({ place: context.getClass().name, ...refusal }) },
      exports: concurrencyLimit({ key: 'user', maxConcurrent: 2 }),
      own: concurrencyLimit({ key: (context: ExecutionContext) => context.getHandler().name, maxConcurrent: 2 }),
      fleet: concurrencyLimit({
        key: 'ip',
        maxConcurrent: 2,
        backend: ({ concurrency }) => new RedisKeyedThrottle({ client: { url: 'redis://localhost' }, concurrency }),
      }),
    },
    drain: false,
    global: false,
  }),
).toEqualTypeOf<DynamicModule>();
HeadgateModule.forRoot();
HeadgateModule.forRoot({ limits: {}, drain: 30, http: (context) => context.getArgByIndex(2) });
HeadgateModule.forRootAsync({ inject: ['SETTINGS', { token: 'x', optional: true }], useFactory: () => ({ gate }) });
HeadgateModule.forRootAsync({ useFactory: async (perMinute: number) => ({ gate: new Throttle(perMinute) }) });

// @ts-expect-error a keyed gate needs a key
HeadgateModule.forRoot({ keyed });
// @ts-expect-error a gate has no key
HeadgateModule.forRoot({ gate, key: 'ip' });
// @ts-expect-error a misspelled option
HeadgateModule.forRoot({ gate, wiat: 5 });
// @ts-expect-error drain is a number of seconds, or false
HeadgateModule.forRoot({ drain: true });
// @ts-expect-error a limit is a gate, or options with a gate
HeadgateModule.forRoot({ limits: { exports: { wait: 5 } } });
// @ts-expect-error a factory is required
HeadgateModule.forRootAsync({});

class Controller {
  constructor(@InjectGate('mail') readonly mail: Throttle) {}

  @InjectGate() readonly shared!: Resource;

  @Limit('exports')
  @Limit('exports', { cost: 5, key: (context) => context.getHandler().name })
  @Limit({ keyed, key: 'header:x-key', wait: 1 })
  @Limit(concurrencyLimit({ key: 'user', maxConcurrent: 2 }))
  @SkipLimit('default', 'site')
  method(): void {}
}
Limit({ gate })(Controller);
SkipLimit()(Controller);
expectTypeOf(LimitGuard).instance.toHaveProperty('canActivate');
expectTypeOf<LimitException['refusal']>().toEqualTypeOf<Refusal>();

// @ts-expect-error a limit is a name or options
Limit(5);
// @ts-expect-error a limit needs a gate
Limit({ wait: 5 });
// @ts-expect-error a misspelled override
Limit('exports', { csot: 5 });
// @ts-expect-error the gate of a limit cannot be replaced
Limit('exports', { gate });
// @ts-expect-error names are strings
SkipLimit(1);
