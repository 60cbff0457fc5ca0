/**
 * Checks beside the histories: the heap, open resources, unhandled errors and warnings, and a blocked event loop.
 */
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { sleep, turn } from './part.js';

/** Bytes in use after garbage collection. */
async function heapUsed(): Promise<number> {
  if (globalThis.gc === undefined) throw new Error('run it with --expose-gc, as the script test:soak does');
  // Objects with finalizers are collected by a later collection.
  for (let times = 0; times < 3; times++) {
    globalThis.gc();
    await turn();
  }
  const { heapUsed: bytes, external } = process.memoryUsage();
  return bytes + external;
}

/**
 * By how many bytes the median of the heap may grow from the second quarter of the samples to the last quarter, however
 * long the soak runs. Code and caches stop growing after some thousand calls. A leak grows without end.
 */
export const MAX_GROWTH = 2_000_000;
/** With fewer samples there is no verdict. */
export const MIN_SAMPLES = 12;

interface Sample {
  /** Operations up to the sample. */
  readonly operations: number;
  /** Seconds up to the sample. */
  readonly seconds: number;
  /** Growth of the heap up to the sample. */
  readonly bytes: number;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** The growth of the heap over the turns of a part, or over the rounds of all parts. Each adds its own difference. */
export class Growth {
  readonly samples: Sample[] = [];
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
    this.samples.push({ operations, seconds, bytes: this.#bytes });
  }

  /** The heap at the start, and with all growth added. */
  get ends(): [start: number, end: number] {
    return [this.#start, this.#start + this.#bytes];
  }

  /** Bytes per second of the turns, by least squares, from the second quarter on. */
  get slope(): number {
    const samples = this.samples.slice(Math.floor(this.samples.length / 4));
    const mean = (pick: (sample: Sample) => number): number =>
      samples.reduce((sum, sample) => sum + pick(sample), 0) / samples.length;
    const [seconds, bytes] = [mean((sample) => sample.seconds), mean((sample) => sample.bytes)];
    const spread = samples.reduce((sum, sample) => sum + (sample.seconds - seconds) ** 2, 0);
    return spread === 0
      ? 0
      : samples.reduce((sum, sample) => sum + (sample.seconds - seconds) * (sample.bytes - bytes), 0) / spread;
  }

  /** The difference of the medians, from the second quarter of the samples to the last. */
  #between(pick: (sample: Sample) => number): number {
    const quarter = Math.floor(this.samples.length / 4);
    return median(this.samples.slice(-quarter).map(pick)) - median(this.samples.slice(quarter, 2 * quarter).map(pick));
  }

  /** The growth that the verdict uses. */
  get bytes(): number {
    return this.#between((sample) => sample.bytes);
  }

  /** The failure message if the growth is too large. */
  get verdict(): string | undefined {
    if (this.samples.length < MIN_SAMPLES) return undefined;
    const growth = this.bytes;
    const operations = this.#between((sample) => sample.operations);
    if (growth <= MAX_GROWTH) return undefined;
    const samples = this.samples.map((sample) => Math.round(sample.bytes / 1_000)).join(' ');
    return (
      `the heap has grown by ${Math.round(growth)} bytes in ${operations} operations, ` +
      `${(growth / operations).toFixed(1)} for each; at most ${MAX_GROWTH} are allowed; samples in kB: ${samples}`
    );
  }
}

/** The open resources of the process, by kind: handles, timers, listeners on the process. */
export function openResources(): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (kind: string, count = 1): void => void counts.set(kind, (counts.get(kind) ?? 0) + count);
  for (const kind of process.getActiveResourcesInfo()) add(kind);
  for (const event of process.eventNames()) add(`listener on ${String(event)}`, process.listenerCount(event));
  return counts;
}

/** The time for which closed resources may stay open. */
const REST_SECONDS = 10;
/** Kinds that come and go with output, input and garbage collection. */
const TRANSIENT = new Set([
  'Immediate',
  'TTYWrap',
  'PipeWrap',
  'FSReqCallback',
  'FSReqPromise',
  'MessagePort',
  'CloseReq',
  'TickObject',
]);

/** Waits until no kind has more open resources than `before`. Otherwise returns a description of the surplus. */
export async function unreleased(before: ReadonlyMap<string, number>): Promise<string | undefined> {
  for (const end = performance.now() + REST_SECONDS * 1_000; ; await sleep(20)) {
    const more = [...openResources()].filter(
      ([kind, count]) => !TRANSIENT.has(kind) && count > (before.get(kind) ?? 0),
    );
    if (more.length === 0) return undefined;
    if (performance.now() > end) {
      const kinds = more.map(([kind, count]) => `${kind}: ${count}, ${before.get(kind) ?? 0} before`);
      return `not released: ${kinds.join('; ')}`;
    }
  }
}

/** Unhandled rejections, uncaught exceptions and warnings of the process. */
export const processErrors: string[] = [];
export function recordProcessErrors(): void {
  const record =
    (what: string) =>
    (error: unknown): void => {
      if (processErrors.length < 10)
        processErrors.push(`${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    };
  process.on('unhandledRejection', record('unhandled rejection'));
  process.on('uncaughtException', record('uncaught exception'));
  process.on('warning', record('warning'));
}

/** The longest time for which the event loop may be blocked. */
const MAX_BLOCKED_SECONDS = 60;

/** Kills this process and the guarded processes if the event loop stays blocked, and prints the part and the seed. */
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
        writeSync(2, '\\nFAILED: blocked for ' + most + ' s in ' + part + ', seed ' + seed);
        writeSync(2, '\\nrepeat: npm run test:soak -- --only ' + part + ' --seed ' + seed + '\\n');
        for (let index = 3; index < shared.length; index++) {
          const pid = Atomics.load(shared, index);
          if (pid > 0) try { process.kill(pid, 'SIGKILL'); } catch {}
        }
        process.kill(parent, 'SIGKILL');
      }, 1000);
    `;
    this.#worker = new Worker(code, {
      eval: true,
      workerData: { shared: this.#shared, parts, most: MAX_BLOCKED_SECONDS, parent: process.pid },
    });
    this.#worker.unref();
  }

  /** Records that the event loop runs, and the history that starts now. */
  beat(part: number, seed: number): void {
    Atomics.store(this.#shared, 1, part);
    Atomics.store(this.#shared, 2, seed | 0);
    Atomics.add(this.#shared, 0, 1);
  }

  /** Adds processes that are killed together with this process. */
  guard(pids: readonly number[]): void {
    for (const pid of pids) Atomics.store(this.#shared, 3 + this.#guarded++, pid);
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Prints synchronously, so that the text appears even if the process is killed next. */
export function print(text: string): void {
  try {
    writeSync(1, `${text}\n`);
  } catch {
    // The output is closed, or its reader is too slow.
    console.log(text);
  }
}
