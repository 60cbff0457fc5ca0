/**
 * A client whose calls of the step script leave a trace in Redis: one list with every call of every process, in the
 * order in which the server has applied them.
 */
import { createHash } from 'node:crypto';
import type { NodeRedisClient, RedisConnection } from 'headgate/redis';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import STEP from '../../../src/redis/scripts/step.lua';

/** The key of the trace. */
const TRACE = 'trace';

/** One call of the script, as the server has applied it. */
export interface TraceEntry {
  /** The time of the server, in microseconds. */
  readonly at: number;
  readonly args: readonly string[];
  readonly reply: unknown;
  /** The channel and the text of each message. */
  readonly messages: readonly (readonly [channel: string, text: string])[];
}

/** The step script with a trace. The step uses the time of the entry. */
const traced = (step: string): string => `local server, messages = redis, {}
local time = server.call('TIME')
local function recorded(run)
  return function(name, ...)
    if name == 'TIME' then return time end
    if name == 'PUBLISH' then messages[#messages + 1] = { ... } end
    return run(name, ...)
  end
end
local redis = {
  call = recorded(server.call), pcall = recorded(server.pcall),
  error_reply = server.error_reply, status_reply = server.status_reply,
}
local function step()
${step}
end
local reply = step()
local at = string.format('%.0f', time[1] * 1000000 + time[2])
server.call('RPUSH', '${TRACE}', cjson.encode({ at, ARGV, reply, messages }))
return reply
`;

function parseEntry(text: string): TraceEntry {
  const [at, args, reply, messages] = JSON.parse(text) as [string, string[], unknown, unknown];
  // Lua has one empty table for an empty list and an empty object.
  return { at: Number(at), args, reply, messages: Array.isArray(messages) ? (messages as [string, string][]) : [] };
}

const sha = (script: string): string => createHash('sha1').update(script).digest('hex');

export interface TracedClient {
  readonly connection: RedisConnection;
  end(): void;
}

/** Opens a client that runs `step` with a trace instead of the step of headgate. */
export function tracedClient(kind: 'ioredis' | 'node-redis', url: string, step: string = STEP): TracedClient {
  const script = traced(step);
  const [original, replacement] = [sha(STEP), sha(script)];
  const source = (text: string): string => (text === STEP ? script : text);
  const name = (digest: string): string => (digest === original ? replacement : digest);
  if (kind === 'ioredis') {
    const client = new Redis(url);
    client.on('error', () => {});
    type Run = (script: string, keys: number, ...args: string[]) => Promise<unknown>;
    const evalsha = client.evalsha.bind(client) as Run;
    const run = client.eval.bind(client) as Run;
    Object.assign(client, {
      evalsha: (digest: string, ...rest: [number, ...string[]]) => evalsha(name(digest), ...rest),
      eval: (text: string, ...rest: [number, ...string[]]) => run(source(text), ...rest),
    });
    return { connection: client, end: () => client.disconnect() };
  }
  const client = createClient({ url });
  client.on('error', () => {});
  type RunWith = NodeRedisClient['eval'];
  const evalSha = client.evalSha.bind(client) as RunWith;
  const run = client.eval.bind(client) as RunWith;
  Object.assign(client, {
    evalSha: (digest: string, options: Parameters<RunWith>[1]) => evalSha(name(digest), options),
    eval: (text: string, options: Parameters<RunWith>[1]) => run(source(text), options),
    // Another client would leave no trace.
    withTypeMapping: () => client,
  });
  // Commands before the connection wait in the queue of the client.
  client.connect().catch(() => {});
  return { connection: client, end: () => client.destroy() };
}

/** Reads the trace while it grows, so that Redis keeps little of it. */
export class TraceReader {
  readonly #admin: Redis;
  readonly #onEntry: (entry: TraceEntry) => void;
  #reading: Promise<void> = Promise.resolve();
  readonly #timer: NodeJS.Timeout;

  constructor(admin: Redis, onEntry: (entry: TraceEntry) => void) {
    this.#admin = admin;
    this.#onEntry = onEntry;
    this.#timer = setInterval(() => this.#continue(), 200);
  }

  #continue(): void {
    this.#reading = this.#reading.then(() => this.#read());
    // The end reports a failure.
    this.#reading.catch(() => {});
  }

  async #read(): Promise<void> {
    for (let count = 1; count > 0;) {
      const texts = ((await this.#admin.call('LPOP', TRACE, '2000')) as string[] | null) ?? [];
      count = texts.length;
      for (const text of texts) this.#onEntry(parseEntry(text));
    }
  }

  /** Reads the rest. */
  async end(): Promise<void> {
    this.stop();
    this.#continue();
    await this.#reading;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
