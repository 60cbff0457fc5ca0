/** Random histories by a clock that a test sets forward and back: no key expires while the state needs it. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { client } from '../shared-client.js';
import { acquire, release, START, TestGate } from './support.js';

const SECOND = 1e6;
/** The real time of a call, and the rounding of the lifetimes. */
const TOLERANCE = SECOND;

const moveArbitrary = fc.record({
  owner: fc.nat(3),
  wait: fc.constantFrom(0, 1, 3, 7, 15, 20, 40, 70, 200),
  /** By how much the clock is set forward, or back. */
  jump: fc.constantFrom(0, 0, 0, 0, 0, -2, -15, -40, -500, 15, 40),
  ttl: fc.constantFrom(60, 60, 60, 20, 300),
  flags: fc.constantFrom('', '', '', 'c', 'e', 'l'),
  rate: fc.constantFrom('-1 1 1e300', '1 60000000 10', '=a 1 60000000 10;- 1 600000000 3', '- 5 60000000 5 w'),
  commands: fc.array(
    fc.record({
      kind: fc.constantFrom('A', 'A', 'A', 'many', 'R', 'R', 'C', 'all', 'P', 'U', 'T'),
      pick: fc.nat(1_000),
    }),
    { maxLength: 5 },
  ),
});
type Move = typeof moveArbitrary extends fc.Arbitrary<infer T> ? T : never;

const MANY = 70;

/** The words of the commands. `calls`: the serials of the calls of this owner that have not ended. */
function wordsOf({ commands }: Move, calls: string[], serial: () => string): string[] {
  const words: string[] = [];
  for (const { kind, pick } of commands) {
    const index = pick % Math.max(1, calls.length);
    if (kind === 'A' || kind === 'many') {
      const added = Array.from({ length: kind === 'A' ? 1 : MANY }, serial);
      calls.push(...added);
      words.push(...acquire(...added));
    } else if (kind === 'all') {
      words.push(...release(...calls), ...calls.flatMap((call) => ['C', call, '1']));
      calls.length = 0;
    } else if (kind === 'P') words.push('P', String((pick % 400) * SECOND));
    else if (kind === 'U') words.push('U');
    else if (kind === 'T') words.push('T', String(pick % 5), '0');
    else if (calls.length > 0) {
      const [call = ''] = calls.splice(index, 1);
      words.push(...(kind === 'R' ? release(call) : ['C', call, '1']));
    }
  }
  return words;
}

/** The instant until which the state is needed by the clock of the server; 0 without a state. See `state.lua`. */
async function neededUntil(gate: TestGate, clock: number): Promise<number> {
  const state = await client.getBuffer(gate.keys[0]!);
  if (state === null) return 0;
  const read = (place: number): number => state.readDoubleBE(place);
  const [now, lastExpiry, paused] = [read(10), read(26), read(154)];
  const [tokens, since, rate, burst] = [read(74), read(82), read(90), read(98)];
  const full = rate > 0 ? since + (burst - tokens) / rate : 0;
  return Math.max(lastExpiry, paused, full) - Math.max(0, now - clock);
}

async function check(history: readonly Move[]): Promise<void> {
  const gate = new TestGate(client, { limit: 80 });
  /** The instants at which the keys expire, by the clock of the test. */
  const expiries = new Map<string, number>();
  const next = new Map<string, number>();
  const calls = new Map<string, string[]>();
  let clock = START;
  let serials = 0;
  for (const move of history) {
    clock += (move.wait + move.jump) * SECOND;
    const lifetimes = new Map<string, number>();
    for (const [key, expiry] of expiries) {
      // Redis expires the keys by the clock of the test, too.
      const lifetime = Math.floor((expiry - clock) / 1_000);
      await client.pexpire(key, lifetime);
      if (lifetime > 0) lifetimes.set(key, lifetime);
      else expiries.delete(key);
    }
    const owner = `hub${move.owner}.0`;
    const own = calls.get(owner) ?? [];
    calls.set(owner, own);
    const words = wordsOf(move, own, () => `s${++serials}`);
    const number = next.get(owner) ?? 0;
    const { ttl, flags, rate } = move;
    const options = { number, at: clock - START, ttl: ttl * SECOND, flags, rate };
    const { outcome } = await gate.send(owner, options, ...words);
    next.set(owner, outcome === 'U' || flags === 'e' ? 0 : number + 1);
    for (const key of gate.keys.slice(0, 7)) {
      const lifetime = await client.pttl(key);
      expect(lifetime, `${key} never expires`).not.toBe(-1);
      if (lifetime < 0) expiries.delete(key);
      else if (Math.abs(lifetime - (lifetimes.get(key) ?? -Infinity)) > TOLERANCE / 1_000)
        expiries.set(key, clock + lifetime * 1_000);
    }
    // A batch of an unknown owner changes nothing, also if the clock has caught up since.
    if (outcome === 'U') continue;
    const needed = await neededUntil(gate, clock);
    for (const [key, expiry] of expiries) expect(expiry + TOLERANCE, key).toBeGreaterThanOrEqual(needed);
  }
  await client.del(...gate.keys);
}

test('no key expires while the state needs it, also after the clock was set back and has caught up', async () => {
  await fc.assert(fc.asyncProperty(fc.array(moveArbitrary, { minLength: 5, maxLength: 30, size: 'max' }), check), {
    numRuns: 60,
    endOnFailure: false,
  });
});
