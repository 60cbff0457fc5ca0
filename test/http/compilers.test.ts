/** The type tests of the adapters under the compilers of consumers: TypeScript 7 and 5.9, with and without `dom`. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CompilerFolder, STRICT_OPTIONS } from '../support/compilers.js';

const folder = new CompilerFolder();
afterAll(() => folder.remove());

beforeAll(() => {
  folder.writeTypeTests(new URL('types.test-d.ts', import.meta.url));
  folder.write('bare.mts', `export * from 'headgate/http';\n`);
}, 180_000);

describe.each(['typescript', 'typescript-5'] as const)('%s', (compiler) => {
  test.each([
    ['with dom', ['es2022', 'dom', 'dom.iterable']],
    ['without dom', ['es2022']],
  ])(
    '%s, the adapters are assignable to their frameworks in strict mode (FAULTS 33)',
    { timeout: 180_000 },
    (_, lib) => {
      const compilerOptions = {
        ...STRICT_OPTIONS,
        lib,
        types: ['node'],
        paths: { headgate: ['./headgate/index.d.ts'], 'headgate/http': ['./headgate/http/index.d.ts'] },
      };
      // The second project checks headgate's own declarations. The declarations of the frameworks are not checked.
      expect(
        folder.compile(compiler, {
          compilerOptions: { ...compilerOptions, skipLibCheck: true },
          include: ['consumer.mts'],
        }),
      ).toBe('');
      const types = lib.includes('dom') ? [] : ['node'];
      expect(
        folder.compile(compiler, {
          compilerOptions: { ...compilerOptions, types, skipLibCheck: false, skipDefaultLibCheck: true },
          include: ['bare.mts'],
        }),
      ).toBe('');
    },
  );
});
