/** The types of the clients under the compilers of consumers: TypeScript 7 and 5.9. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CompilerFolder, STRICT_OPTIONS } from '../support/compilers.js';

const folder = new CompilerFolder();
afterAll(() => folder.remove());

beforeAll(() => {
  folder.writeTypeTests(new URL('types.test-d.ts', import.meta.url));
}, 180_000);

test.each([
  ['TypeScript 7', 'typescript', ['es2022', 'dom', 'dom.iterable', 'dom.asynciterable']],
  ['TypeScript 7 without dom', 'typescript', ['es2022']],
  ['TypeScript 5.9', 'typescript-5', ['es2022', 'dom', 'dom.iterable', 'dom.asynciterable']],
] as const)('%s accepts a limited fetch in every client without a cast', { timeout: 180_000 }, (_, compiler, lib) => {
  const compilerOptions = {
    ...STRICT_OPTIONS,
    // The declarations of the clients are not checked.
    skipLibCheck: true,
    lib,
    types: ['node'],
    paths: { headgate: ['./headgate/index.d.ts'], 'headgate/fetch': ['./headgate/fetch/index.d.ts'] },
  };
  expect(folder.compile(compiler, { compilerOptions, include: ['consumer.mts'] })).toBe('');
});
