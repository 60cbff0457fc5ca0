/** A gate on a real server whose batches a test sends by itself. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import { readLua, type Replacements } from '../../support/lua-loader.js';
import { readState, type RedisState, resetState } from '../../../src/redis/inspect.js';
import { keyNames } from '../../../src/redis/key-names.js';
import { batchArgument } from '../batch-words.js';
import { freshKey } from '../support.js';

export const scriptFile = (name: string): string =>
  fileURLToPath(new URL(`../../../src/redis/scripts/${name}.lua`, import.meta.url));

/** Replaces the first `from` in a text of Lua. Throws if the text has none. */
export function replaceLua(lua: string, from: string | RegExp, to: string): string {
  const changed = lua.replace(from, to);
  if (changed === lua) throw new Error(`the script has no ${from}`);
  return changed;
}

/** A part of the script that publishes into a list beside the state, so that a test reads the messages in order. */
const listed = (part: string): string =>
  replaceLua(
    readFileSync(scriptFile(part), 'utf8'),
    /pcall\('PUBLISH', 'headgate:' \.\. connection, /,
    "call('RPUSH', KEYS[1] .. ':messages', connection .. '.' .. ",
  );
const LISTED: Replacements = { 'wake-up': listed('wake-up'), 'queue-path': listed('queue-path') };

/** A part of the script in which the keys live for ten minutes. */
function withFixedLifetime(part: string): string {
  const lua = readFileSync(scriptFile(part), 'utf8');
  const fixed = lua.replaceAll(/(?:math\.)?ceil\(\(\w+ - now\) \/ 1000\) \+ 1/g, '600000');
  if (fixed.match(/600000/g)?.length !== 1 || /\/ 1000\b/.test(fixed))
    throw new Error(`${part}.lua sets the lifetimes of the keys in another way than this test expects`);
  return fixed;
}

/** For histories with a clock of their own: Redis would expire the keys by the real time. */
export const FIXED_LIFETIMES: Replacements = {
  writing: withFixedLifetime('writing'),
  'fast-path': withFixedLifetime('fast-path'),
};

/** The script as users run it, and the full step without the fast path and the queue path. */
export const STEP: string = readLua(scriptFile('step'));
export const NO_FAST_PATH: Replacements = {
  'fast-path': "local packed, clock = redis.call('GET', KEYS[1]), nil",
  'queue-path': '',
};
export const LISTED_STEP: string = readLua(scriptFile('step'), LISTED);
/** The script for histories with a clock of their own, with other replacements too. */
const historyStep = (others: Replacements = {}): string =>
  readLua(scriptFile('step'), { ...LISTED, ...FIXED_LIFETIMES, ...others });
/** The same with a change of its queue path. */
export const historyStepWithQueuePath = (from: string, to: string): string =>
  historyStep({ 'queue-path': replaceLua(LISTED['queue-path']!, from, to) });
export const HISTORY_STEP: string = historyStep();
export const HISTORY_FULL_STEP: string = historyStep(NO_FAST_PATH);

/** The same, with leases and waiters that move into structures of their own from the fourth one on. */
export const SMALL_HISTORY_STEP: string = replaceLua(
  historyStepWithQueuePath('waiting >= 64', 'waiting >= 3'),
  '=64, 32\n',
  '=3, 1\n',
);

/** Some lines of Lua after a list of parts of the step. The lines see what the parts define. */
export const withParts = (parts: readonly string[], lines: string): string =>
  readLua(scriptFile('step'), {
    step: [...parts.map((part) => `--- @include ${part}`), lines].join('\n'),
    ...NO_FAST_PATH,
  });

export const START = 1e15;
export const TTL = 60_000_000;
/** Microseconds. The instants and the spans of random histories are multiples of this. */
export const HISTORY_UNIT = 60_000;
export const HISTORY_TTL: number = 1_000 * HISTORY_UNIT;

export interface BatchOptions {
  /** The number of the batch. Without it, the batches of an owner are numbered in order. */
  readonly number?: number;
  /** Microseconds after the start; `server` for the clock of the server. */
  readonly at?: number | 'server';
  readonly ttl?: number;
  readonly limit?: number;
  readonly rate?: string;
  readonly flags?: string;
  readonly confirmed?: number;
  readonly maxQueue?: number;
}

export interface Answer {
  readonly outcome: string;
  readonly version: number;
  readonly upTo: number;
  readonly wakeSpan: number;
  readonly wakeAt: number;
  readonly events: string[];
  /** The messages to other owners: the owner, then the events. */
  readonly messages: string[];
}

export class TestGate {
  readonly keys: string[] = keyNames('headgate', freshKey());
  readonly client: Redis;
  readonly script: string;
  readonly defaults: BatchOptions;
  readonly #numbers: Map<string, number> = new Map();

  constructor(client: Redis, defaults: BatchOptions = {}, script: string = LISTED_STEP) {
    this.client = client;
    this.defaults = defaults;
    this.script = script;
  }

  /** The arguments of one batch. */
  args(owner: string, options: BatchOptions, words: readonly string[]): string[] {
    const given = { at: 0, ttl: TTL, limit: -1, rate: '-1 1 1e300', flags: '', confirmed: 0, maxQueue: -1 };
    const { number, at, ttl, limit, rate, flags, confirmed, maxQueue } = { ...given, ...this.defaults, ...options };
    const next = number ?? this.#numbers.get(owner) ?? 0;
    if (number === undefined) this.#numbers.set(owner, next + 1);
    const header = {
      owner,
      number: String(next),
      ttl: String(ttl),
      limit: String(limit),
      flags,
      clock: at === 'server' ? '' : String(START + at),
      confirmed: String(confirmed),
      maxQueue: String(maxQueue),
      rate,
    };
    return [batchArgument(header, words)];
  }

  /** Sets the number of the next batch of an owner. */
  renumber(owner: string, next: number): void {
    this.#numbers.set(owner, next);
  }

  async send(owner: string, options: BatchOptions, ...words: string[]): Promise<Answer> {
    const list = `${this.keys[0] as string}:messages`;
    const replies = await this.client
      .multi()
      .eval(this.script, this.keys.length, ...this.keys, ...this.args(owner, options, words))
      .lrange(list, 0, -1)
      .del(list)
      .exec();
    const [[error, reply], [, messages]] = replies as [[Error | null, unknown], [null, string[]]];
    if (error !== null) throw error;
    const [first = '', ...events] = String(reply).split('\n');
    const [outcome = '', ...numbers] = first.split(' ');
    const [version = 0, upTo = 0, wakeSpan = 0, wakeAt = 0] = numbers.map(Number);
    return { outcome, version, upTo, wakeSpan, wakeAt, events, messages: messages.toSorted() };
  }

  /** The state, as a user sees it. */
  inspect(at: number): Promise<RedisState> {
    return readState(({ source }, ...args) => this.#run(source, at, args), { fullTokens: Infinity, fullLevels: {} });
  }

  reset(at: number): Promise<void> {
    return resetState(({ source }, ...args) => this.#run(source, at, args));
  }

  #run(source: string, at: number, args: readonly string[]): Promise<unknown> {
    return this.client.eval(source, this.keys.length, ...this.keys, String(START + at), ...args);
  }

  /** The names of the keys that exist: `state` and the parts. */
  async present(): Promise<string[]> {
    const found = await Promise.all(this.keys.map((key) => this.client.exists(key)));
    return this.keys.filter((_, index) => found[index] === 1).map((key) => key.split('}:')[1] ?? 'state');
  }
}

/** Groups of words for commands. */
export const acquire = (...serials: (string | number)[]): string[] =>
  serials.flatMap((serial) => ['A', String(serial), '1', '-1']);
export const release = (...serials: (string | number)[]): string[] =>
  serials.flatMap((serial) => ['R', String(serial)]);
