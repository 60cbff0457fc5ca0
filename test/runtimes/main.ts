/**
 * The checks in a process: Node, Bun, Deno. It says what it found, in words and, for the runner, as data. Then it leaves
 * throttles behind that nobody waits for: the process has to end by itself.
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
