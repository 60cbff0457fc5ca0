/**
 * The scenario of the README's picture: some six seconds of an API client. A manual clock makes the picture the same on
 * every machine. The throttle and the recording are real; the scenario sets the durations of the jobs and the
 * responses of the API.
 */
import { Throttle } from 'headgate';
import { ManualClock, record, toSVG } from 'headgate/testing';

/** Plays the scenario, and returns the picture as SVG. */
export async function drawDemoScenario(): Promise<string> {
  const clock = new ManualClock();
  const throttle = new Throttle(4, 3, 1, { clock });
  const trace = record(throttle);
  const sleep = (seconds: number): Promise<void> => new Promise((resolve) => clock.schedule(seconds, resolve));
  const job = (seconds: number, cost = 1, options?: { signal?: AbortSignal; timeout?: number }): void => {
    throttle.run(() => sleep(seconds), cost, options).catch(() => 'refused');
  };

  // Ten calls at once find three free slots and four tokens. Then four tokens come back per second.
  for (const [seconds, cost] of [[0.4], [0.5], [0.6], [0.4], [0.5], [0.5], [0.6, 2], [0.4], [0.5], [0.6]] as const)
    job(seconds, cost);

  await clock.advance(1.6);
  const impatient = new AbortController();
  job(0.5, 3);
  job(0.7);
  job(0.5, 1, { signal: impatient.signal });
  job(0.5, 1, { timeout: 2.5 });
  job(0.6);

  // The API answers one request with 429 and `Retry-After: 2`.
  await clock.advance(1);
  throttle.pause(2);
  await clock.advance(0.7);
  impatient.abort();
  for (const seconds of [0.5, 0.7, 0.5, 0.6, 0.5]) job(seconds);
  await clock.runAll();
  trace.stop();
  return toSVG(trace, { title: 'A gate at work' });
}
