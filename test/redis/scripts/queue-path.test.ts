/** The queue path against the full step: batches as one process with waiters sends them, and other batches in between. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { client } from '../shared-client.js';

import {
  type Answer,
  type BatchOptions,
  HISTORY_FULL_STEP,
  historyStepWithQueuePath,
  TestGate,
  HISTORY_TTL as TTL,
  HISTORY_UNIT as UNIT,
} from './support.js';

/** Counts the batches that the queue path serves. */
const COUNTED_STEP = historyStepWithQueuePath(
  "redis.call('SET', KEYS[1], (waiting",
  "redis.call('INCR', KEYS[1] .. ':served') redis.call('SET', KEYS[1], (waiting",
);

/** `crowd`: a batch as most processes send it. Each other kind adds an unusual command, or repeats a batch number. */
type Kind = 'crowd' | 'pause' | 'cancels a grant' | 'cancels its second waiter' | 'cancels its request' | 'duplicate';

interface Move {
  readonly process: number;
  readonly kind: Kind;
  readonly wait: number;
  /** By how much the clock of the server is behind. */
  readonly behind: number;
  readonly ttl: number;
  readonly rate: string;
  readonly handedOn: number;
  readonly released: number;
  readonly requested: number;
  readonly timeout: number;
  readonly cost: string;
  readonly limit: number;
  readonly flags: string;
  readonly maxQueue: number;
}

const mostly = <T>(usual: T, ...others: T[]): fc.Arbitrary<T> =>
  fc.oneof({ weight: 12, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: fc.constantFrom(...others) });

const move: fc.Arbitrary<Move> = fc.record({
  process: fc.nat(2),
  kind: mostly<Kind>(
    'crowd',
    'pause',
    'cancels a grant',
    'cancels a grant',
    'cancels its second waiter',
    'cancels its request',
    'duplicate',
  ),
  wait: mostly(1, 0, 5, 60, 90, 400, 900, 1_100),
  behind: mostly(0, 1, 3),
  ttl: mostly(TTL, TTL / 4),
  rate: mostly('-1 1 1e300', '-1 1 3'),
  handedOn: mostly(0, 1, 3),
  released: fc.nat(3),
  requested: fc.oneof({ weight: 12, arbitrary: fc.nat(4) }, { weight: 1, arbitrary: fc.constant(40) }),
  timeout: fc.constantFrom(-1, -1, -1, 3 * UNIT, 0),
  cost: mostly('1', '0.25', '0', '7', '2/1', '0/1'),
  limit: mostly(4, 3, 6, 80, -1),
  flags: mostly('', 'l', 'e', 'c'),
  maxQueue: mostly(-1, 20),
});

/** A batch without commands. */
const IDLE: Move = {
  process: 0,
  kind: 'crowd',
  wait: 1,
  behind: 0,
  ttl: TTL,
  rate: '-1 1 1e300',
  handedOn: 0,
  released: 0,
  requested: 0,
  timeout: -1,
  cost: '1',
  limit: 4,
  flags: '',
  maxQueue: -1,
};

/** A process: the calls that wait, in order, and the calls that hold a lease. */
class Process {
  readonly waiting: string[] = [];
  readonly held: string[] = [];
  readonly costs = new Map<string, string>();
  next = 0;

  constructor(readonly owner: string) {}

  /** The commands of a move: hands slots on to the first waiters, releases permits and requests new ones. */
  commands({ kind, handedOn, released, requested, timeout, cost }: Move, serialOf: () => string): string[] {
    const words: string[] = [];
    const cancel = (serial: string): void => void words.push('C', serial, this.costs.get(serial)!);
    if (kind === 'pause') words.push('P', String(7 * UNIT));
    if (kind === 'cancels its second waiter' && this.waiting.length > 1) cancel(this.waiting.splice(1, 1)[0]!);
    if (kind === 'cancels a grant' && this.held.length > 0) cancel(this.held.shift()!);
    const request = (): void => {
      const serial = serialOf();
      this.costs.set(serial, cost);
      words.push(cost.includes('/') ? 'B' : 'A', serial, cost, String(timeout));
    };
    for (let count = 0; count < Math.max(handedOn, released, requested); count++) {
      if (count < handedOn && this.waiting.length > 0) cancel(this.waiting.shift()!);
      if (count < released && this.held.length > 0) words.push('R', this.held.shift()!);
      if (count < requested) request();
    }
    if (kind === 'cancels its request') {
      request();
      cancel(words.at(-3)!);
    }
    return words;
  }

  receive(events: readonly string[]): void {
    for (const event of events) {
      const [kind, serial = ''] = event.split(' ');
      const index = this.waiting.indexOf(serial);
      if (kind === 'G' || kind === 'X') {
        if (index >= 0) this.waiting.splice(index, 1);
        if (kind === 'G') this.held.push(serial);
      } else if (kind === 'Q' && index < 0) this.waiting.push(serial);
    }
  }
}

/** The bytes of the state of a gate, with the permissions sorted: the two paths may add them in different orders. */
async function stateOf(gate: TestGate): Promise<string | undefined> {
  const state = await client.getBuffer(gate.keys[0]!);
  if (state === null) return undefined;
  const [owners, leases, slots, permissions] = [42, 46, 50, 54].map((place) => state.readUInt32BE(place)) as Sizes;
  const from = 234 + owners + leases + slots;
  const lines = state.toString('latin1', from, from + permissions).split('\n');
  return state.toString('latin1', 0, from) + lines.toSorted().join('\n') + state.toString('latin1', from + permissions);
}
type Sizes = [owners: number, leases: number, slots: number, permissions: number];

/** Sends each batch to a gate of either script, and compares the replies and the states. */
class Pair {
  readonly #fast = new TestGate(client, {}, COUNTED_STEP);
  readonly #full = new TestGate(client, {}, HISTORY_FULL_STEP);
  #batches = 0;

  async send(owner: string, options: BatchOptions, words: readonly string[]): Promise<Answer> {
    const [fast, full] = await Promise.all([
      this.#fast.send(owner, options, ...words),
      this.#full.send(owner, options, ...words),
    ]);
    const sent = JSON.stringify({ owner, ...options, words });
    expect(fast, sent).toEqual(full);
    const [one, other] = await Promise.all([this.#fast, this.#full].map(stateOf));
    expect(one, sent).toBe(other);
    this.#batches++;
    return fast;
  }

  /** Returns the number of batches that the queue path has served, and the number of all batches. */
  async close(): Promise<{ served: number; batches: number }> {
    const counter = `${this.#fast.keys[0]!}:served`;
    const served = Number(await client.get(counter));
    await client.del(counter, ...this.#fast.keys, ...this.#full.keys);
    return { served, batches: this.#batches };
  }
}

test('the queue path and the full step reply the same, and leave the same bytes', async () => {
  const total = { served: 0, batches: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.boolean(),
      fc.boolean(),
      fc.array(move, { minLength: 10, maxLength: 40, size: 'max' }),
      async (isOld, lingers, history) => {
        const pair = new Pair();
        const processes = ['huba.0', 'hubb.0', 'huba.1'].map((owner) => new Process(owner));
        let [at, serials] = [0, 0];
        // The other process may expire while the first one sends its batches.
        const arrival: Move = { ...IDLE, process: 1, requested: 1 };
        for (const each of isOld ? [arrival, { ...IDLE, wait: 980 }, ...history] : history) {
          at += each.wait * UNIT;
          const process = processes[each.process]!;
          const words = process.commands(each, () => `s${serials++}`);
          const { limit, maxQueue, ttl, rate, behind } = each;
          const flags = each.flags || (lingers ? 'l' : '');
          const number = process.next - Number(each.kind === 'duplicate' && process.next > 0);
          const answer = await pair.send(
            process.owner,
            { number, at: at - behind * UNIT, ttl, limit, flags, maxQueue, rate },
            words,
          );
          process.next = answer.outcome === 'U' ? 0 : number + 1;
          process.receive(answer.events);
          for (const message of answer.messages) {
            const [owner, ...events] = message.split('\n');
            processes.find((known) => known.owner === owner)?.receive(events);
          }
        }
        const { served, batches } = await pair.close();
        total.served += served;
        total.batches += batches;
      },
    ),
    { numRuns: 120, includeErrorInReport: true },
  );
  expect(total.served / total.batches).toBeGreaterThan(0.05);
});
