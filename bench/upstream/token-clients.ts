/**
 * The clients for the upstream with two limits. All of them know that a job can cost twice its estimate. Those that
 * take a cost reserve this much, and give back what the answer shows to be unused.
 */
import type Bottleneck from 'bottleneck';
import { JITTER } from './jobs.js';
import { pQueue, type Setting, show } from './setting.js';
import { mostOf } from './tokens.js';
import { REQUESTS, SLOTS, TOKENS, WINDOW } from './two-limits.js';

const WINDOW_OPTIONS = { window: 'sliding', margin: JITTER } as const;

/** One throttle with a cost for each rate. */
const byName: Setting = {
  given: `new Throttle(${REQUESTS}, ${SLOTS}, ${WINDOW}, ${show({
    ...WINDOW_OPTIONS,
    also: [{ name: 'tokens', capacity: TOKENS, period: WINDOW, ...WINDOW_OPTIONS }],
  })})`,
  create: async () => {
    const { Throttle } = await import('headgate');
    const throttle = new Throttle(REQUESTS, SLOTS, WINDOW, {
      ...WINDOW_OPTIONS,
      also: [{ name: 'tokens', capacity: TOKENS, period: WINDOW, ...WINDOW_OPTIONS }],
    });
    return (job, estimate) =>
      throttle.run(
        async (permit) => {
          const answer = await job();
          permit.settle({ tokens: answer.tokens });
          return answer;
        },
        { tokens: mostOf(estimate) },
      );
  },
};

/** Two throttles, one inside the other: a request counts when the outer one grants it, and is sent later. */
const nested: Setting = {
  given:
    `new Throttle(${REQUESTS}, ${SLOTS}, ${WINDOW}, ${show(WINDOW_OPTIONS)}) around ` +
    `new Throttle(${TOKENS}, 0, ${WINDOW}, ${show(WINDOW_OPTIONS)})`,
  create: async () => {
    const { Throttle } = await import('headgate');
    const requests = new Throttle(REQUESTS, SLOTS, WINDOW, WINDOW_OPTIONS);
    const tokens = new Throttle(TOKENS, 0, WINDOW, WINDOW_OPTIONS);
    return (job, estimate) =>
      requests.run(() =>
        tokens.run(async (permit) => {
          const answer = await job();
          permit.settle(answer.tokens);
          return answer;
        }, mostOf(estimate)),
      );
  },
};

/** `chain` would charge both reservoirs with the same weight, so a job of one limiter runs inside the other. */
function bottleneck(
  requestOptions: ConstructorParameters<typeof Bottleneck>[0],
  tokenOptions: ConstructorParameters<typeof Bottleneck>[0],
): Setting {
  return {
    given: `new Bottleneck(${show(requestOptions ?? {})}) around new Bottleneck(${show(tokenOptions ?? {})})`,
    create: async () => {
      const { default: Library } = await import('bottleneck');
      const requests = new Library(requestOptions);
      const tokens = new Library(tokenOptions);
      return (job, estimate) =>
        requests.schedule(() => {
          const weight = mostOf(estimate);
          return tokens.schedule({ weight }, async () => {
            const answer = await job();
            await tokens.incrementReservoir(weight - answer.tokens);
            return answer;
          });
        });
    },
  };
}

/** A reservoir that is full again after each window. */
const reservoir = (amount: number): ConstructorParameters<typeof Bottleneck>[0] => ({
  reservoir: amount,
  reservoirRefreshAmount: amount,
  reservoirRefreshInterval: WINDOW * 1000,
});

/** By name. */
export const tokenClients: Readonly<Record<string, Setting>> = {
  headgate: byName,
  'headgate, nested': nested,
  bottleneck: bottleneck({ maxConcurrent: SLOTS, ...reservoir(REQUESTS) }, reservoir(TOKENS)),
  'bottleneck, half': bottleneck({ maxConcurrent: SLOTS, ...reservoir(REQUESTS / 2) }, reservoir(TOKENS / 2)),
  // p-queue takes no costs.
  'p-queue': pQueue({
    concurrency: SLOTS,
    intervalCap: REQUESTS,
    interval: 1000 * (WINDOW + JITTER),
    strict: true,
  }),
  // A client without a limiter, such as an SDK with many retries.
  'own retries': { given: 'maxRetries: Infinity', create: async () => (job) => job() },
};
