/**
 * Random histories with rates, costs, corrections, losses and returning owners: the step replies the same whether the
 * waiters are a text or a sorted set, and with or without the fast path.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { client } from '../shared-client.js';
import {
  type Answer,
  type BatchOptions,
  HISTORY_FULL_STEP,
  HISTORY_STEP,
  HISTORY_TTL as TTL,
  HISTORY_UNIT as UNIT,
  replaceLua,
  START,
  TestGate,
} from './support.js';

/** The step with a queue that moves into a sorted set at `most` waiters, and back at `few`. */
const stepWith = (most: number, few: number): string =>
  replaceLua(
    replaceLua(HISTORY_STEP, 'queue_length>=MOST_INLINE', `queue_length>=${most}`),
    'queue_length<=FEW',
    `queue_length<=${few}`,
  );

const STEPS = [HISTORY_STEP, stepWith(3, 1), stepWith(0, -1), HISTORY_FULL_STEP];

const UNNAMED_RATES = [
  '-1 1 1e300',
  '-1 1 3',
  '2 60000000 4',
  '3 60000000 3',
  '9 60000000 9',
  '- 9 30000000 9;- 3 6000000 3',
];
/** The name of the only rate of a gate can be a number. */
const NAMED_RATES = [
  '=a 4 60000000 4;- 9 30000000 9',
  '=a 2 60000000 2 w;=b 5 60000000 5;- 9 30000000 9 w',
  '=1 4 60000000 4',
];
const COSTS = ['1', '1', '2', '0', '3', '0.5', '2/1', '0/1', '1;a=2', '3/1;a=1;b=2', '5/1;b=3', '1;1=2'];
const WORDS = ['A', 'A', 'A', 'A', 'A', 'A', 'R', 'R', 'R', 'C', 'C', 'W', 'W early', 'P', 'U', 'T', 'S'] as const;

const moveArbitrary = fc.record({
  owner: fc.nat(2),
  /** `copy`: a late copy of an early batch, also of an earlier epoch. `lost`: Redis has lost all keys. */
  kind: fc.constantFrom(
    ...(['next', 'next', 'next', 'next', 'next', 'duplicate', 'copy', 'copy', 'epoch', 'lost'] as const),
  ),
  wait: fc.constantFrom(0, 0, 1, 5, 5, 300, 900),
  /** By how much the clock of the server is behind. */
  behind: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 400),
  confirms: fc.boolean(),
  limit: fc.constantFrom(1, 2, 4, -1),
  flags: fc.constantFrom('', '', '', 'l', 'e', 'c', 'le', 'c'),
  rate: fc.nat(20),
  maxQueue: fc.constantFrom(-1, -1, 3, 6),
  ttl: fc.constantFrom(TTL, TTL, TTL, TTL / 4),
  words: fc.array(
    fc.record({
      word: fc.constantFrom(...WORDS),
      pick: fc.nat(1_000),
      cost: fc.constantFrom(...COSTS),
      span: fc.constantFrom(-1, -1, -1, 0, 3),
    }),
    { maxLength: 9, size: 'max' },
  ),
});
type Move = typeof moveArbitrary extends fc.Arbitrary<infer T> ? T : never;

interface OpenCall {
  readonly serial: string;
  readonly cost: string;
  item: string;
  ticket: number;
}

interface Batch {
  readonly owner: string;
  readonly options: BatchOptions;
  readonly commands: readonly string[];
}

/** What the next batch of a process depends on: its epoch, its calls, and the batches that it has sent. */
class Processes {
  readonly #rates: readonly string[];
  readonly #epochs: Map<number, number> = new Map();
  readonly #next: Map<string, number> = new Map();
  readonly #calls: Map<string, OpenCall[]> = new Map();
  readonly #sent: Map<string, Batch[]> = new Map();
  /** The owners that Redis did not know. A process begins a new epoch then. */
  readonly #unknown: Set<string> = new Set();
  #serials = 0;

  constructor(rates: readonly string[]) {
    this.#rates = rates;
  }

  batch(move: Move, at: number, behind: number): Batch {
    const { owner: index, kind, limit, flags, maxQueue, ttl, confirms } = move;
    const epoch = this.#epochs.get(index) ?? 0;
    const owner = `hub${index}.${epoch}`;
    const rate = this.#rates[move.rate % this.#rates.length]!;
    const options = { at: at - behind, ttl, limit, flags, rate, maxQueue, confirmed: confirms ? START + at : 0 };
    const earlier = this.#sent.get(kind === 'copy' && maxQueue < 0 ? `hub${index}.${epoch - 1}` : owner) ?? [];
    const copied = kind === 'copy' ? earlier[limit > 0 ? 0 : earlier.length >> 1] : earlier.at(-1);
    if (copied !== undefined && (kind === 'duplicate' || kind === 'copy'))
      return { ...copied, options: { ...copied.options, at: at - behind } };
    const isNew = kind === 'epoch' || kind === 'lost' || this.#unknown.has(owner);
    if (isNew) this.#epochs.set(index, epoch + 1);
    const sender = isNew ? `hub${index}.${epoch + 1}` : owner;
    const calls = this.#calls.get(owner) ?? [];
    this.#calls.set(sender, calls);
    const commands = [...(isNew ? ['E', owner, ...calls.flatMap(stated)] : []), ...this.#commands(move, calls, at)];
    const batch = { owner: sender, options: { ...options, number: this.#next.get(sender) ?? 0 }, commands };
    this.#sent.set(sender, [...(this.#sent.get(sender) ?? []), batch]);
    return batch;
  }

  #commands({ words }: Move, calls: OpenCall[], at: number): string[] {
    const commands: string[] = [];
    for (const { word, pick, cost, span } of words) {
      const index = pick % Math.max(1, calls.length);
      const call = calls[index];
      if (word === 'A') {
        calls.push({ serial: `s${++this.#serials}`, cost, item: '', ticket: 0 });
        // The wait that named rates require is inexact while the sorted set has waiters of removed owners.
        const timeout = span < 1 ? span : this.#rates === NAMED_RATES ? -1 : span * UNIT;
        commands.push(Number.isNaN(Number(cost)) ? 'B' : 'A', `s${this.#serials}`, cost, String(timeout));
      } else if (word === 'P' && span > 0) commands.push('P', String(7 * UNIT));
      else if (word === 'U') commands.push('U');
      else if (word === 'T' && span >= 0) commands.push('T', `${pick % 5};a=${pick % 3}`, span > 0 ? '1' : '0');
      else if (call === undefined) continue;
      else if (word === 'S' && call.item !== '') {
        const [, granted = '', requested = '', number = ''] = call.item.split(' ');
        commands.push('S', cost, requested, granted, number);
      } else if (word === 'W') commands.push('W', call.serial, call.cost, String(call.ticket || START + at));
      else if (word === 'W early') commands.push('W', call.serial, call.cost, String(START - 1_000 + pick));
      else if (word === 'R' || word === 'C') {
        commands.push(word, call.serial, ...(word === 'C' ? [call.cost] : []));
        calls.splice(index, 1);
      }
    }
    return commands;
  }

  /** Records what the reply and the messages report. */
  receive({ owner, options }: Batch, { outcome, events, messages }: Answer): void {
    if (outcome === 'U') this.#unknown.add(owner);
    else if (outcome !== 'R') this.#next.set(owner, Math.max(this.#next.get(owner) ?? 0, options.number! + 1));
    for (const [recipient = '', ...lines] of [[owner, ...events], ...messages.map((text) => text.split('\n'))])
      for (const line of lines) {
        const [kind = '', serial, ...words] = line.split(' ');
        const calls = this.#calls.get(recipient) ?? [];
        const index = calls.findIndex((call) => call.serial === serial);
        if (index < 0) continue;
        if (kind === 'G' || kind === 'g') calls[index]!.item = words.join(' ');
        else if (kind === 'Q') calls[index]!.ticket = Number(words[0]);
        else if ('LFONX'.includes(kind)) calls.splice(index, 1);
      }
  }
}

const stated = ({ serial, cost, item, ticket }: OpenCall): string[] =>
  item !== '' ? ['K', serial, item] : ticket > 0 ? ['W', serial, cost, String(ticket)] : ['A', serial, cost, '-1'];

/** A row may end at the ticket of a waiter whose owner was removed, or before it. */
const comparable = (answer: Answer, isNamed: boolean): object => ({
  ...answer,
  upTo: answer.upTo > 0,
  events: isNamed ? answer.events.map((event) => event.replace(/^([LF] \S+) \d+/, '$1')) : answer.events,
});

/** The places of numbers in the state, see `state.lua`. */
const [WAITING_AT, LENGTH_AT, APART_AT] = [170, 186, 226];

/** The counts of the state agree with its queue, and every key expires. Returns the number of waiters. */
async function checkState(gate: TestGate): Promise<number | undefined> {
  for (const key of gate.keys) expect(await client.pttl(key)).not.toBe(-1);
  const state = await client.getBuffer(gate.keys[0]!);
  if (state === null) return undefined;
  const length = state.readDoubleBE(LENGTH_AT);
  const waiting = state.readDoubleBE(WAITING_AT);
  const inSet = await client.zcard(gate.keys[2]!);
  if (state.readDoubleBE(APART_AT) >= 4) expect(inSet).toBe(length);
  else {
    const lines = state.toString('latin1').match(/\nhub\d+\.\d+\.s\d+ \S+ \d{15,16}(?![\d ])/g) ?? [];
    expect([inSet, length, lines.length]).toEqual([0, waiting, waiting]);
  }
  return waiting;
}

/** The number of the grants, by the rates of the gate. */
const grants = new Map<string, number>();

async function compare(history: readonly Move[], isNamed: boolean): Promise<void> {
  const gates = STEPS.map((step) => new TestGate(client, {}, step));
  const processes = new Processes(isNamed ? NAMED_RATES : UNNAMED_RATES);
  let [at, behind] = [0, 0];
  for (const move of history) {
    at += move.wait * UNIT;
    behind = move.behind > 0 ? move.behind * UNIT : move.wait >= 300 ? 0 : behind;
    const batch = processes.batch(move, at, behind);
    if (move.kind === 'lost') for (const gate of gates) await client.del(...gate.keys);
    const answers = await Promise.all(gates.map((gate) => gate.send(batch.owner, batch.options, ...batch.commands)));
    for (const answer of answers)
      expect(comparable(answer, isNamed), JSON.stringify(batch)).toEqual(comparable(answers[0]!, isNamed));
    processes.receive(batch, answers[0]!);
    const rate = batch.options.rate!;
    const granted = answers[0]!.events.filter((event) => event.startsWith('G '));
    grants.set(rate, (grants.get(rate) ?? 0) + granted.length);
    const states = await Promise.all(gates.map((gate) => gate.inspect(at - behind)));
    const inOrder = states.map(({ active, ...rest }) => [
      rest,
      active.toSorted((one, other) => one.slot - other.slot || one.age - other.age),
    ]);
    for (const state of inOrder) expect(state).toEqual(inOrder[0]);
    const counts = await Promise.all(gates.map(checkState));
    for (const count of counts) expect(count).toBe(counts[0]);
  }
  await client.del(...gates.flatMap(({ keys }) => keys));
}

test('a queue as a text and as a sorted set, and the fast path and the full step, reply and leave the same', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(moveArbitrary, { minLength: 10, maxLength: 40, size: 'max' }), fc.boolean(), compare),
    { numRuns: 40, endOnFailure: false },
  );
  for (const rate of NAMED_RATES) expect(grants.get(rate)).toBeGreaterThan(5);
});
