/**
 * What a client does, in a process of its own: it gets every wave done through its limiter. A job that is refused
 * waits as long as the upstream says, and then asks its limiter again, as if it were new; so do all of them, and
 * nobody's limiter is told of the refusal.
 */
// oxlint-disable no-await-in-loop -- the waves come one after the other
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { clients } from './clients.js';
import { JOBS, now, REST, WAVES } from './jobs.js';
import type { UpstreamId } from './judges.js';

/** As many as are ever open at a time, so that no job waits for one. */
const CONNECTIONS = 100;

/** Resolves to when the rest of each wave was handed over, in seconds. */
export async function trial(id: UpstreamId, client: string, port: number): Promise<number[]> {
  const create = clients[client]?.[id]?.create;
  if (create === undefined) throw new Error(`${client} does not take part in ${id}`);
  const agent = new Agent({ keepAlive: true, maxFreeSockets: CONNECTIONS });
  const request = async (path: string): Promise<IncomingMessage> => {
    const [response] = (await once(get({ agent, host: '127.0.0.1', port, path }), 'response')) as [IncomingMessage];
    await once(response.resume(), 'end');
    return response;
  };
  // Connections are opened and code is compiled before the clock runs.
  for (let i = 0; i < 3; i++) await Promise.all(Array.from({ length: CONNECTIONS }, () => request('/connect')));

  const limited = await create();
  const done = async (job: number): Promise<void> => {
    for (let attempt = 0; ; attempt++) {
      const { statusCode, headers } = await limited(() => request(`/${job}/${attempt}`));
      if (statusCode === 200) return;
      if (statusCode !== 429) throw new Error(`job ${job} was answered with ${statusCode}`);
      await sleep(Number(headers['retry-after']) * 1000);
    }
  };

  let next = 0;
  const jobs = (count: number): Promise<void>[] => Array.from({ length: count }, () => done(next++));
  const handedOver: number[] = [];
  for (const { first, gap, rest } of WAVES) {
    await sleep(REST * 1000);
    const early = jobs(first);
    await sleep(gap * 1000);
    handedOver.push(now());
    await Promise.all([...early, ...jobs(rest)]);
  }
  if (next !== JOBS) throw new Error(`${next} jobs instead of ${JOBS}`);
  agent.destroy();
  return handedOver;
}
