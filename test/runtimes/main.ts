/**
 * The checks in a process of Node, Bun or Deno. The script prints its results as text, and as data for the runner.
 * Then it leaves throttles without waiters behind. They must not keep the process alive.
 */
import { KeyedThrottle, Throttle } from 'headgate';
import { runChecks } from './checks.js';

const report = await runChecks();
const failed = report.outcomes.filter(({ failure }) => failure !== undefined);
for (const { name, failure } of failed) console.log(`FAILED ${name}: ${failure}`);
console.log(`${report.agent}: ${report.outcomes.length - failed.length} passed, ${failed.length} failed`);
console.log(`report: ${JSON.stringify(report)}`);

const spent = new Throttle(1, 1, 3600);
await spent.acquire();
new Throttle(1).pause();
new Throttle(1).pause(3600);
await new KeyedThrottle(1, 1, 3600).acquire('ada');
const controller = new AbortController();
const left = spent.acquire(1, { signal: controller.signal, timeout: 7200 }).catch(() => undefined);
controller.abort();
await left;

process.exitCode = failed.length === 0 ? 0 : 1;
