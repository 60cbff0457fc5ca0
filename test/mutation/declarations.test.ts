import { describe, expect, test } from 'vitest';
import { declarationsOf, MODULE } from './declarations.js';

const source = `
import { x } from 'x';
x.call(HERE0);
const LIMIT = HERE1;
const arrow = (limit = HERE2): number => {
  const local = HERE3;
  const inner = (): number => HERE4;
  return local + inner();
};
export class Gate {
  #level = HERE5;
  constructor() { this.#level = HERE6; }
  get level() { return HERE7; }
  static #grant(now) { return [1].map((one) => HERE8); }
}
export function acquire() { return { release: () => HERE9, cost: HEREA }; }
`;

describe('the declaration around a place in a source file', () => {
  const enclosing = declarationsOf(source);
  const lines = source.split('\n');

  test.each([
    ['HERE0', MODULE],
    ['HERE1', 'LIMIT'],
    ['HERE2', 'arrow'],
    ['HERE3', 'arrow'],
    ['HERE4', 'arrow.inner'],
    ['HERE5', 'Gate.#level'],
    ['HERE6', 'Gate.constructor'],
    ['HERE7', 'Gate.level'],
    ['HERE8', 'Gate.#grant'],
    ['HERE9', 'acquire.release'],
    ['HEREA', 'acquire'],
  ])('%s is in %s', (mark, name) => {
    const line = lines.findIndex((text) => text.includes(mark));
    const column = (lines[line] as string).indexOf(mark);
    expect(enclosing({ line: line + 1, column: column + 1 })).toBe(name);
  });
});
