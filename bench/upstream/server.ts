/**
 * An upstream over HTTP on loopback: `GET /JOB/ATTEMPT`. A request travels, is judged, is worked on, and its answer
 * travels back; all of that is the upstream's doing, so it is the same for every client.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { journey, now, work } from './jobs.js';
import { type UpstreamId, upstreams } from './judges.js';

export interface Served {
  readonly port: number;
  /** When a job was let in, by its number; seconds. */
  readonly admitted: ReadonlyMap<number, number>;
  /** How many requests were refused so far. */
  readonly refused: () => number;
  readonly close: () => void;
}

export async function serve(id: UpstreamId): Promise<Served> {
  const judge = upstreams[id].judge();
  const at = createAgenda();
  const admitted = new Map<number, number>();
  let refused = 0;
  const server = createServer((request, response) => {
    const [, job = NaN, attempt = NaN] = (request.url ?? '').split('/').map(Number);
    // Opens a connection, and is none of the jobs.
    if (Number.isNaN(job)) return at(now() + 0.02, () => response.end());
    at(now() + journey(job, attempt, 'there'), (arrived) => {
      const back = journey(job, attempt, 'back');
      const wait = judge.admit(arrived);
      if (wait > 0) {
        refused++;
        // In seconds, with what a whole number of them would hide: nobody waits longer than needed.
        return at(arrived + back, () => response.writeHead(429, { 'Retry-After': wait.toFixed(3) }).end());
      }
      if (admitted.has(job)) throw new Error(`job ${job} was let in twice`);
      admitted.set(job, arrived);
      at(arrived + work(job), (finished) => {
        judge.leave();
        at(finished + back, () => response.end());
      });
    });
  });
  // Connections outlast the rest between two waves.
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
 * Acts in the order of the instants, and tells each its own: where a timer comes late because the machine is busy,
 * nobody is judged as if he had come late.
 */
function createAgenda(): (instant: number, act: (instant: number) => void) => void {
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
    // A timer may come 1 ms early, and drops fractions: this one never comes before its instant.
    setTimeout(run, Math.ceil((instant - now()) * 1000) + 1);
  };
}
