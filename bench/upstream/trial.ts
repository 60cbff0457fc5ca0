/**
 * The client of a trial, in a process of its own: it sends every job of every wave through its limiter. A refused job
 * waits as long as the upstream states, and then joins the limiter's queue like a new job. No client informs its
 * limiter of a refusal.
 */
// oxlint-disable no-await-in-loop -- the waves come one after the other
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { clients } from './clients.js';
import { countJobs, now } from './jobs.js';
import type { Answer } from './setting.js';
import { estimateOf } from './tokens.js';
import { type UpstreamId, upstreams } from './upstreams.js';

/** Enough connections that no job waits for one. */
const CONNECTIONS = 100;

/** Resolves to the instants, in seconds, at which the client received the rest of each wave. */
export async function trial(id: UpstreamId, client: string, port: number): Promise<number[]> {
  const create = clients[client]?.[id]?.create;
  if (create === undefined) throw new Error(`${client} does not take part in ${id}`);
  const agent = new Agent({ keepAlive: true, maxFreeSockets: CONNECTIONS });
  const request = async (path: string): Promise<Answer> => {
    const [response] = (await once(get({ agent, host: '127.0.0.1', port, path }), 'response')) as [IncomingMessage];
    await once(response.resume(), 'end');
    const { statusCode, headers } = response;
    // A refused request uses no tokens.
    return { status: statusCode, retryAfter: Number(headers['retry-after']), tokens: Number(headers['tokens'] ?? 0) };
  };
  // Opens connections and compiles code before the first job.
  for (let i = 0; i < 3; i++) await Promise.all(Array.from({ length: CONNECTIONS }, () => request('/connect')));

  const limited = await create();
  const done = async (job: number): Promise<void> => {
    for (let attempt = 0; ; attempt++) {
      const { status, retryAfter } = await limited(() => request(`/${job}/${attempt}`), estimateOf(job));
      if (status === 200) return;
      if (status !== 429) throw new Error(`job ${job} was answered with ${status}`);
      await sleep(retryAfter * 1000);
    }
  };

  const { waves, rest: pause } = upstreams[id];
  let next = 0;
  const jobs = (count: number): Promise<void>[] => Array.from({ length: count }, () => done(next++));
  const startedAt: number[] = [];
  for (const { first, gap, rest } of waves) {
    await sleep(pause * 1000);
    const early = jobs(first);
    await sleep(gap * 1000);
    startedAt.push(now());
    await Promise.all([...early, ...jobs(rest)]);
  }
  if (next !== countJobs(waves)) throw new Error(`${next} jobs instead of ${countJobs(waves)}`);
  agent.destroy();
  return startedAt;
}
