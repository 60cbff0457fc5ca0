/** The recipes in the chapter on fetch are those that the tests of this folder run. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { recipes } from './recipes.js';

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');
const section = read('../../src/fetch/README.md').split('\n## Clients\n')[1] ?? '';
const rows = [...section.matchAll(/^\| `([^`]+)`[^|]*\| (.*) \|$/gm)].map(([, name = '', recipe = '']) => ({
  name,
  code: [...recipe.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text),
}));

/** The code of the recipes in one line, without the address of the test server and the options of the tests. */
const code = read('recipes.ts')
  .replaceAll(/\s+/g, ' ')
  .replaceAll(/baseU(RL|rl)(: [^,]+)?, /g, '')
  .replaceAll(', ...options', '')
  .replaceAll(', })', ' })');

test('every client has a recipe', () => {
  expect(rows.map(({ name }) => name)).toEqual(Object.keys(recipes));
});

test.each(rows)('$name: the recipe is tested', ({ code: parts }) => {
  expect(parts.length).toBeGreaterThan(0);
  for (const part of parts) expect(code).toContain(part);
});
