/**
 * An upstream over HTTP on loopback: `GET /JOB/ATTEMPT`. The upstream simulates the journey of the request, admits or
 * refuses the request, works on it, and simulates the journey of the response. So all of this is the same for every
 * client.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { journey, now, work } from './jobs.js';
import { tokensOf } from './tokens.js';
import { type UpstreamId, upstreams } from './upstreams.js';

export interface Served {
  readonly port: number;
  /** The instant at which each job was admitted, in seconds, by the number of the job. */
  readonly admitted: ReadonlyMap<number, number>;
  /** How many requests the upstream has refused so far. */
  readonly refused: () => number;
  readonly close: () => void;
}

export async function serve(id: UpstreamId): Promise<Served> {
  const quota = upstreams[id].createQuota();
  const at = createSchedule();
  const admitted = new Map<number, number>();
  let refused = 0;
  const server = createServer((request, response) => {
    const [, job = NaN, attempt = NaN] = (request.url ?? '').split('/').map(Number);
    // A request without a job opens a connection.
    if (Number.isNaN(job)) return at(now() + 0.02, () => response.end());
    at(now() + journey(job, attempt, 'there'), (arrived) => {
      const back = journey(job, attempt, 'back');
      const wait = quota.admit(arrived, job);
      if (wait > 0) {
        refused++;
        // Fractions of a second, so that a client waits no longer than necessary.
        return at(arrived + back, () => response.writeHead(429, { 'Retry-After': wait.toFixed(3) }).end());
      }
      if (admitted.has(job)) throw new Error(`job ${job} was admitted twice`);
      admitted.set(job, arrived);
      at(arrived + work(job), (finished) => {
        quota.leave();
        // A language model states the tokens in its answer too.
        at(finished + back, () => response.writeHead(200, { Tokens: tokensOf(job) }).end());
      });
    });
  });
  // Keeps connections open during the rest between two waves.
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    admitted,
    refused: () => refused,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/**
 * Calls functions in the order of their instants, and passes each function its instant. So a timer that fires late on a
 * busy machine does not make a request late.
 */
function createSchedule(): (instant: number, act: (instant: number) => void) => void {
  const entries: { instant: number; act: (instant: number) => void }[] = [];
  const run = (): void => {
    for (let first = entries[0]; first !== undefined && first.instant <= now(); first = entries[0]) {
      entries.shift();
      first.act(first.instant);
    }
  };
  return (instant, act) => {
    const before = entries.findLastIndex((entry) => entry.instant <= instant);
    entries.splice(before + 1, 0, { instant, act });
    // A timer can fire 1 ms early, and drops fractions. One more millisecond lets no timer fire before its instant.
    setTimeout(run, Math.ceil((instant - now()) * 1000) + 1);
  };
}
