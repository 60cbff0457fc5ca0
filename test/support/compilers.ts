/** The compilers of consumers, TypeScript 7 and 5.9, on projects in a folder of their own. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { removePath, temporaryFolder } from './processes.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The options of a consumer that checks as much as possible. */
export const STRICT_OPTIONS = {
  target: 'es2022',
  module: 'nodenext',
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noEmit: true,
} as const;

/** `typescript` is version 7. */
export type Compiler = 'typescript' | 'typescript-5';

export class CompilerFolder {
  readonly #path: string;

  constructor() {
    // Inside the repository, so that the projects find its dependencies.
    mkdirSync(join(root, 'coverage'), { recursive: true });
    this.#path = temporaryFolder('compilers-', join(root, 'coverage'));
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.#path, name), text);
  }

  /** Writes the declarations of headgate to the folder `headgate`, as `npm run build` does. Returns the errors. */
  writeDeclarations(): string {
    return this.compile('typescript', {
      extends: join(root, 'tsconfig.build.json'),
      compilerOptions: { rootDir: join(root, 'src'), outDir: join(this.#path, 'headgate') },
      include: [join(root, 'src')],
    });
  }

  /** Prepares a project: the declarations of headgate, and the type tests of `file` as `consumer.mts`. */
  writeTypeTests(file: URL): void {
    const errors = this.writeDeclarations();
    if (errors !== '') throw new Error(errors);
    // The types of vitest are slow to check, and expect-type exports the same function.
    this.write('consumer.mts', readFileSync(file, 'utf8').replace(`from 'vitest'`, `from 'expect-type'`));
  }

  /** Runs a compiler on a project, and returns its error messages. */
  compile(compiler: Compiler, config: object): string {
    const project = join(this.#path, `tsconfig-${compiler}.json`);
    writeFileSync(project, JSON.stringify(config));
    try {
      return execFileSync(process.execPath, [join(root, 'node_modules', compiler, 'bin/tsc'), '-p', project], {
        cwd: this.#path,
        encoding: 'utf8',
        stdio: 'pipe',
      });
    } catch (error) {
      return (error as { stdout: string }).stdout;
    }
  }

  remove(): void {
    removePath(this.#path);
  }
}
