/** Random histories of several owners, against a reference, and the fast path against the full step. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { client } from '../shared-client.js';

import { ReferenceStep } from './reference-step.js';
import {
  type Answer,
  HISTORY_FULL_STEP,
  HISTORY_STEP,
  SMALL_HISTORY_STEP,
  START,
  TestGate,
  HISTORY_TTL as TTL,
  HISTORY_UNIT as UNIT,
} from './support.js';

interface Move {
  readonly owner: number;
  readonly kind: 'next' | 'duplicate' | 'gap' | 'epoch';
  readonly wait: number;
  readonly limit: number;
  readonly flags: string;
  readonly maxQueue: number;
  readonly words: readonly { readonly word: string; readonly pick: number; readonly span: number }[];
}

const WORDS = ['A', 'A', 'A', 'A', 'A', 'R', 'R', 'R', 'R', 'C', 'W', 'P', 'U', 'U'];
/** Requests outnumber the releases. */
const GROWING_WORDS = ['A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'R', 'R', 'R', 'C', 'W'];

/** Moves of `owners` owners with at most `commands` commands each. */
const moves = (
  owners: number,
  commands: number,
  limits: readonly number[],
  words: readonly string[] = WORDS,
): fc.Arbitrary<Move[]> =>
  fc.array(
    fc.record({
      owner: fc.nat(owners - 1),
      kind: fc.constantFrom(
        'next' as const,
        'next' as const,
        'next' as const,
        'next' as const,
        'next' as const,
        'next' as const,
        'duplicate' as const,
        'gap' as const,
        'epoch' as const,
      ),
      wait: fc.constantFrom(0, 0, 1, 5, 5, 5, 300, 900),
      limit: fc.constantFrom(...limits),
      flags: fc.constantFrom('', '', 'l', 'l', 'e', 'le'),
      maxQueue: fc.constantFrom(-1, -1, -1, 3),
      words: fc.array(
        fc.record({
          word: fc.constantFrom(...words),
          pick: fc.nat(1_000),
          span: fc.constantFrom(-1, -1, -1, -1, 0, 3),
        }),
        { maxLength: commands, size: 'max' },
      ),
    }),
    { minLength: 20, maxLength: 60, size: 'max' },
  );

interface Sent {
  readonly owner: string;
  readonly number: number;
  readonly at: number;
  readonly limit: number;
  readonly flags: string;
  readonly maxQueue: number;
  readonly commands: readonly string[][];
}

/** A fraction has a point, which also stands between the words of a member of the queue. */
const costOf = (call: string): string => ['1', '0.25', '0'][(Number(call.slice(1)) || 0) % 3]!;

/** Turns moves into batches, as processes would send them. `ahead`: by how much the clock was set forward until now. */
function* batchesOf(
  history: readonly Move[],
  next: (owner: string) => number,
  ahead: () => number = () => 0,
): Generator<Sent> {
  const epochs = new Map<number, number>();
  const open = new Map<string, string[]>();
  const lastWords = new Map<string, string[][]>();
  let waited = 0;
  let serials = 0;
  for (const { owner: index, kind, wait, limit, flags, maxQueue, words } of history) {
    waited += wait * UNIT;
    const at = waited + ahead();
    const commands: string[][] = [];
    if (kind === 'epoch') {
      const epoch = epochs.get(index) ?? 0;
      epochs.set(index, epoch + 1);
      commands.push(['E', `hub${index}.${epoch}`]);
    }
    const owner = `hub${index}.${epochs.get(index) ?? 0}`;
    const calls = open.get(owner) ?? [];
    open.set(owner, calls);
    if (kind === 'duplicate' && next(owner) > 0 && lastWords.has(owner)) {
      yield { owner, number: next(owner) - 1, at, limit, flags, maxQueue, commands: lastWords.get(owner)! };
      continue;
    }
    for (const { word, pick, span } of words) {
      const call = calls[pick % Math.max(1, calls.length)] ?? 'none';
      // A process never states a waiter again that it has cancelled in the same batch.
      if (word === 'W' && commands.some(([earlier, serial]) => earlier === 'C' && serial === call)) continue;
      if (word === 'A') {
        calls.push(`s${++serials}`);
        commands.push(['A', `s${serials}`, costOf(`s${serials}`), String(span < 1 ? span : span * UNIT)]);
      } else if (word === 'P') {
        if (span > 0) commands.push(['P', String(7 * UNIT)]);
      } else if (word === 'U') commands.push(['U']);
      else if (word === 'R') commands.push(['R', call]);
      else commands.push(word === 'C' ? ['C', call, costOf(call)] : ['W', call, costOf(call), String(START + at)]);
      if (word === 'R' || word === 'C') calls.splice(calls.indexOf(call), 1);
    }
    const number = next(owner) + Number(kind === 'gap');
    if (kind !== 'gap') lastWords.set(owner, commands);
    yield { owner, number, at, limit, flags, maxQueue, commands };
  }
}

const toWords = (commands: readonly (readonly string[])[]): string[] => commands.flat();

/** Wake-up times depend on bounds that the reference does not have. */
const withoutTimes = (messages: readonly string[]): string[] =>
  messages
    .map((message) =>
      message
        .split('\n')
        .filter((event) => !event.startsWith('H '))
        .map((event) => (event.startsWith('V ') ? 'V' : event))
        .join('\n'),
    )
    .filter((message) => message.includes('\n'));

const seen: Record<string, number> = {};

/** Counts the structures that appear, and those that disappear. Returns whether the state exists. */
async function notePresence(gate: TestGate): Promise<boolean> {
  const present = new Set(await gate.present());
  for (const part of ['queue', 'leases', 'slots', 'owners']) {
    const name = `with ${part}`;
    if (present.has(part)) seen[name] = (seen[name] ?? 0) + 1;
    else if (seen[name] !== undefined && present.has('state')) seen[`without ${part}`] = 1;
  }
  return present.has('state');
}

async function compare(history: readonly Move[], step: string = HISTORY_STEP): Promise<void> {
  const gate = new TestGate(client, {}, step);
  const reference = new ReferenceStep();
  let version = -1;
  let withdrawals = 0;
  let last = 0;
  // A new state begins with its instant as its version. The real clock is past all versions of the state before it. In a
  // history, the clock may stand meanwhile, so it is set forward to the last version.
  let ahead = 0;
  for (const sent of batchesOf(
    history,
    (owner) => reference.next(owner),
    () => ahead,
  )) {
    const { owner, number, at, limit, flags, maxQueue, commands } = sent;
    last = at;
    const expected = reference.apply({ ttl: TTL, ...sent });
    const answer: Answer = await gate.send(
      owner,
      { number, at, ttl: TTL, limit, flags, maxQueue },
      ...toWords(commands),
    );
    const { outcome, events, messages } = answer;
    const timeless = withoutTimes(messages);
    expect({ outcome, events, messages: timeless }, JSON.stringify(sent)).toEqual(expected);
    for (const name of [
      outcome,
      ...events.map((event) => event.slice(0, 1)),
      ...timeless.flatMap((text) =>
        text
          .split('\n')
          .slice(1)
          .map((event) => `message ${event.slice(0, 1)}`),
      ),
    ])
      seen[name] = (seen[name] ?? 0) + 1;
    if (outcome === 'U' || outcome === 'R') continue;
    const exists = await notePresence(gate);
    // A row is permitted if, and only if, the head is of the caller. It names no waiter of another owner.
    const rowBelongsToCaller = reference.permitted.has(owner) && reference.queue[0]?.owner === owner;
    expect(answer.upTo > 0).toBe(rowBelongsToCaller);
    if (answer.upTo > 0) {
      seen['row'] = (seen['row'] ?? 0) + 1;
      expect(answer.upTo).toBeGreaterThanOrEqual(reference.queue[0]!.ticket);
      expect(reference.queue.filter(({ ticket, owner: of }) => ticket <= answer.upTo && of !== owner)).toEqual([]);
    }
    if (reference.queue.length > 0) expect(answer.wakeSpan).toBeGreaterThan(0);
    expect(answer.version).toBeGreaterThanOrEqual(version);
    if (reference.withdrawals > withdrawals && version >= 0) expect(answer.version).toBeGreaterThan(version);
    ({ version } = answer);
    if (!exists) ahead += Math.max(0, version - START - at);
    ({ withdrawals } = reference);
  }
  const state = await gate.inspect(last);
  const living = (owner: string): boolean => reference.owners.get(owner)!.expiry > START + last;
  expect(state.active.map(({ slot, owner }) => `${owner} ${slot}`).toSorted()).toEqual(
    [...reference.leases.values()]
      .filter(({ owner }) => living(owner))
      .map(({ slot, owner }) => `${owner} ${slot}`)
      .toSorted(),
  );
  expect(state.waiting.map(({ owner }) => owner)).toEqual(
    reference.queue.map(({ owner }) => owner).filter((owner) => living(owner)),
  );
}

test('the step follows the reference: few owners, few slots', async () => {
  await fc.assert(
    fc.asyncProperty(moves(3, 6, [1, 2, 2, 2, -1]), (history) => compare(history)),
    { numRuns: 150, endOnFailure: false },
  );
  expect(Object.keys(seen).toSorted()).toEqual(
    expect.arrayContaining(['A', 'F', 'G', 'L', 'N', 'Q', 'R', 'U', 'g', 'message G', 'message V', 'row']),
  );
});

test('the step follows the reference: more leases and owners than the text of the state holds', async () => {
  await fc.assert(
    fc.asyncProperty(moves(30, 30, [70, 90, 120, -1], GROWING_WORDS), (history) => compare(history)),
    {
      numRuns: 80,
    },
  );
  expect(Object.keys(seen)).toEqual(expect.arrayContaining(['with leases', 'with owners', 'with slots']));
});

test('the step follows the reference: leases and waiters move between the text and other structures', async () => {
  for (const name of Object.keys(seen)) delete seen[name];
  await fc.assert(
    fc.asyncProperty(moves(3, 8, [2, 4, 6]), (history) => compare(history, SMALL_HISTORY_STEP)),
    { numRuns: 150, endOnFailure: false },
  );
  expect(Object.keys(seen)).toEqual(
    expect.arrayContaining(['with queue', 'without queue', 'with leases', 'without leases', 'g', 'N', 'message V']),
  );
});

test('the fast path and the full step reply and leave the same', async () => {
  await fc.assert(
    fc.asyncProperty(
      moves(2, 4, [3, 3, 3, -1]),
      fc.constantFrom('-1 1 1e300', '-1 1 0.5', '2 60000000 8', '0.5 6000000 4'),
      async (history, rate) => {
        const gates = [new TestGate(client, {}, HISTORY_STEP), new TestGate(client, {}, HISTORY_FULL_STEP)] as const;
        const numbers = new Map<string, number>();
        let last = 0;
        for (const { owner, number, at, limit, flags, maxQueue, commands } of batchesOf(
          history,
          (name) => numbers.get(name) ?? 0,
        )) {
          last = at;
          const [fast, full] = await Promise.all(
            gates.map((gate) =>
              gate.send(owner, { number, at, ttl: TTL, limit, flags, maxQueue, rate }, ...toWords(commands)),
            ),
          );
          expect(fast).toEqual(full);
          if (fast!.outcome === 'U') numbers.set(owner, 0);
          else if (fast!.outcome !== 'R') numbers.set(owner, Math.max(numbers.get(owner) ?? 0, number + 1));
          expect(await gates[0].inspect(at)).toEqual(await gates[1].inspect(at));
        }
        expect(await gates[0].inspect(last + 1)).toEqual(await gates[1].inspect(last + 1));
      },
    ),
    { numRuns: 100 },
  );
});
