/** The type tests of the adapters under the compilers of consumers: TypeScript 7 and 5.9, with and without `dom`. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
mkdirSync(join(root, 'coverage'), { recursive: true });
const folder = mkdtempSync(join(root, 'coverage', 'compilers-'));
const declarations = join(folder, 'headgate');
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a compiler on a project, and returns its error messages. */
const compile = (compiler: 'typescript' | 'typescript-5', config: object): string => {
  const project = join(folder, `tsconfig-${compiler}.json`);
  writeFileSync(project, JSON.stringify(config));
  try {
    return execFileSync(process.execPath, [join(root, 'node_modules', compiler, 'bin/tsc'), '-p', project], {
      cwd: folder,
      encoding: 'utf8',
      stdio: 'pipe',
    });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
};

beforeAll(() => {
  // The same declarations as `npm run build` writes.
  expect(
    compile('typescript', {
      extends: join(root, 'tsconfig.build.json'),
      compilerOptions: { rootDir: join(root, 'src'), outDir: declarations },
      include: [join(root, 'src')],
    }),
  ).toBe('');
  // The types of vitest are slow to check, and expect-type exports the same function.
  writeFileSync(
    join(folder, 'consumer.mts'),
    readFileSync(join(root, 'test/http/types.test-d.ts'), 'utf8').replace(`from 'vitest'`, `from 'expect-type'`),
  );
  writeFileSync(join(folder, 'bare.mts'), `export * from 'headgate/http';\n`);
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
        target: 'es2022',
        module: 'nodenext',
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        noEmit: true,
        lib,
        types: ['node'],
        paths: { headgate: ['./headgate/index.d.ts'], 'headgate/http': ['./headgate/http/index.d.ts'] },
      };
      // The second project checks headgate's own declarations. The declarations of the frameworks are not checked.
      expect(
        compile(compiler, { compilerOptions: { ...compilerOptions, skipLibCheck: true }, include: ['consumer.mts'] }),
      ).toBe('');
      const types = lib.includes('dom') ? [] : ['node'];
      expect(
        compile(compiler, {
          compilerOptions: { ...compilerOptions, types, skipLibCheck: false, skipDefaultLibCheck: true },
          include: ['bare.mts'],
        }),
      ).toBe('');
    },
  );
});
