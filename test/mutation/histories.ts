/**
 * Random histories for mutants: few, and the same ones in each run. The model's own test plays more of them, and checks
 * how often each case occurs, which so few histories cannot satisfy.
 */
import { describe, test } from 'vitest';
import { core } from '../soak/core.js';
import { keyed } from '../soak/keyed.js';
import { newTally } from '../soak/part.js';

const HISTORIES = 60;

describe.each([core, keyed])('random histories: $name', ({ play }) => {
  test.each(Array.from({ length: HISTORIES / 10 }, (_, index) => 10 * index))('seeds from %d', async (first) => {
    for (let seed = first; seed < first + 10; seed++) await play(seed, newTally());
  });
});
