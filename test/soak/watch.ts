/**
 * What is watched beside the histories: memory, what the process holds open, warnings, and whether it still moves.
 */
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { sleep, turn } from './part.js';

/** Bytes in use, once what can be collected is. */
async function heapUsed(): Promise<number> {
  if (globalThis.gc === undefined) throw new Error('run it with --expose-gc, as the script test:soak does');
  // What was finalized is collected by the next.
  for (let times = 0; times < 3; times++) {
    globalThis.gc();
    await turn();
  }
  const { heapUsed: bytes, external } = process.memoryUsage();
  return bytes + external;
}

/**
 * How far the heap may grow, in bytes, between the medians of the second quarter and of the last quarter of
 * the looks at it, however long it runs. Code and caches go on growing for some thousand calls and requests; what a leak
 * adds does not end.
 */
export const MOST_GROWTH = 2_000_000;
/** With fewer looks nothing is said. */
export const LEAST_LOOKS = 12;

interface Look {
  /** Operations until then. */
  readonly operations: number;
  /** Seconds until then. */
  readonly seconds: number;
  /** What was added to the heap until then. */
  readonly bytes: number;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** How the heap grows with the turns of a part, or the rounds of all: each adds the difference that it makes. */
export class Growth {
  readonly looks: Look[] = [];
  readonly #start: number;
  #bytes = 0;

  private constructor(start: number) {
    this.#start = start;
  }

  static readonly heap: () => Promise<number> = heapUsed;

  static from(start: number): Growth {
    return new Growth(start);
  }

  add(operations: number, seconds: number, difference: number): void {
    this.#bytes += difference;
    this.looks.push({ operations, seconds, bytes: this.#bytes });
  }

  /** The heap before, and with all that was added since. */
  get ends(): [start: number, end: number] {
    return [this.#start, this.#start + this.#bytes];
  }

  /** Bytes per second of its turns, by least squares, from the second quarter on. */
  get slope(): number {
    const looks = this.looks.slice(Math.floor(this.looks.length / 4));
    const mean = (pick: (look: Look) => number): number =>
      looks.reduce((sum, look) => sum + pick(look), 0) / looks.length;
    const [seconds, bytes] = [mean((look) => look.seconds), mean((look) => look.bytes)];
    const spread = looks.reduce((sum, look) => sum + (look.seconds - seconds) ** 2, 0);
    return spread === 0
      ? 0
      : looks.reduce((sum, look) => sum + (look.seconds - seconds) * (look.bytes - bytes), 0) / spread;
  }

  /** From the second quarter of the looks to the last, by their medians. */
  #between(pick: (look: Look) => number): number {
    const quarter = Math.floor(this.looks.length / 4);
    return median(this.looks.slice(-quarter).map(pick)) - median(this.looks.slice(quarter, 2 * quarter).map(pick));
  }

  /** What is judged. */
  get bytes(): number {
    return this.#between((look) => look.bytes);
  }

  /** Why it is too much, if it is. */
  get verdict(): string | undefined {
    if (this.looks.length < LEAST_LOOKS) return undefined;
    const growth = this.bytes;
    const operations = this.#between((look) => look.operations);
    if (growth <= MOST_GROWTH) return undefined;
    return `the heap has grown by ${Math.round(growth)} bytes in ${operations} operations, ${(growth / operations).toFixed(1)} for each; at most ${MOST_GROWTH} are allowed; each time, in kB: ${this.looks.map((look) => Math.round(look.bytes / 1_000)).join(' ')}`;
  }
}

/** What the process holds open, by kind: handles, timers, listeners on the process. */
export function holdings(): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (kind: string, count = 1): void => void counts.set(kind, (counts.get(kind) ?? 0) + count);
  for (const kind of process.getActiveResourcesInfo()) add(kind);
  for (const event of process.eventNames()) add(`listener on ${String(event)}`, process.listenerCount(event));
  return counts;
}

/** Seconds for what was closed to be so. */
const REST_SECONDS = 10;
/** They come and go with what is printed, read and collected. */
const PASSING = new Set([
  'Immediate',
  'TTYWrap',
  'PipeWrap',
  'FSReqCallback',
  'FSReqPromise',
  'MessagePort',
  'CloseReq',
  'TickObject',
]);

/** Waits until no more is held than `before`, by kind; what still is, if it never is. */
export async function returned(before: ReadonlyMap<string, number>): Promise<string | undefined> {
  for (const end = performance.now() + REST_SECONDS * 1_000; ; await sleep(20)) {
    const more = [...holdings()].filter(([kind, count]) => !PASSING.has(kind) && count > (before.get(kind) ?? 0));
    if (more.length === 0) return undefined;
    if (performance.now() > end)
      return `not given back: ${more.map(([kind, count]) => `${kind}: ${count}, ${before.get(kind) ?? 0} before`).join('; ')}`;
  }
}

/** What went wrong beside the histories: unhandled rejections, exceptions that nobody caught, warnings. */
export const complaints: string[] = [];
export function listenForComplaints(): void {
  const complain =
    (what: string) =>
    (error: unknown): void => {
      if (complaints.length < 10)
        complaints.push(`${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    };
  process.on('unhandledRejection', complain('unhandled rejection'));
  process.on('uncaughtException', complain('uncaught exception'));
  process.on('warning', complain('warning'));
}

/** The longest that the event loop may be blocked, in seconds. */
const MOST_BLOCKED = 60;

/** Ends the process, and those of `children`, should it ever be blocked for good; says what was played then. */
export class Watchdog {
  readonly #shared: Int32Array = new Int32Array(new SharedArrayBuffer(64));
  readonly #worker: Worker;
  #guarded = 0;

  constructor(parts: readonly string[]) {
    const code = `
      const { workerData: { shared, parts, most, parent } } = require('node:worker_threads');
      const { writeSync } = require('node:fs');
      let [seen, still] = [-1, 0];
      setInterval(() => {
        const beat = Atomics.load(shared, 0);
        still = beat === seen ? still + 1 : 0;
        seen = beat;
        if (still < most) return;
        const [part, seed] = [parts[Atomics.load(shared, 1)], Atomics.load(shared, 2) >>> 0];
        writeSync(2, '\\nFAILED: blocked for ' + most + ' s in ' + part + ', seed ' + seed + '\\nagain: npm run test:soak -- --only ' + part + ' --seed ' + seed + '\\n');
        for (let index = 3; index < shared.length; index++) {
          const pid = Atomics.load(shared, index);
          if (pid > 0) try { process.kill(pid, 'SIGKILL'); } catch {}
        }
        process.kill(parent, 'SIGKILL');
      }, 1000);
    `;
    this.#worker = new Worker(code, {
      eval: true,
      workerData: { shared: this.#shared, parts, most: MOST_BLOCKED, parent: process.pid },
    });
    this.#worker.unref();
  }

  /** Still moving: about to play this. */
  beat(part: number, seed: number): void {
    Atomics.store(this.#shared, 1, part);
    Atomics.store(this.#shared, 2, seed | 0);
    Atomics.add(this.#shared, 0, 1);
  }

  /** Children of this process, to be ended with it. */
  guard(pids: readonly number[]): void {
    for (const pid of pids) Atomics.store(this.#shared, 3 + this.#guarded++, pid);
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Prints at once, whatever becomes of the process next. */
export function print(text: string): void {
  try {
    writeSync(1, `${text}\n`);
  } catch {
    // Nobody reads, or not fast enough.
    console.log(text);
  }
}
