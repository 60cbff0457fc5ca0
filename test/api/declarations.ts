/**
 * The declarations that `npm run build` writes, prepared for API Extractor. API Extractor reads TSDoc, so the doc
 * comments are rewritten in a copy. It also brings its own compiler, because TypeScript 7 has no API for programs.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ExtractorConfig, type IConfigFile } from '@microsoft/api-extractor';
import { removePath, temporaryFolder } from '../support/processes.js';

/** An entry point of the package. */
export interface EntryPoint {
  /** The name that users import, such as `headgate/fetch`. */
  readonly name: string;
  /** The declaration file, relative to the folder of the copy. */
  readonly file: string;
}

/** A copy of a package's declarations in a temporary folder. */
export interface Declarations {
  readonly folder: string;
  readonly name: string;
  readonly version: string;
  readonly entryPoints: readonly EntryPoint[];
}

/**
 * Copies the declarations of the package in the folder `root`, calls `use`, and removes the copy.
 *
 * @param root The folder of a package that has been built.
 */
export function withDeclarations<T>(root: string, use: (declarations: Declarations) => T): T {
  const { name, version, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    name: string;
    version: string;
    exports: Record<string, string | { import: { types: string } }>;
  };
  mkdirSync(join(root, 'coverage'), { recursive: true });
  const folder = temporaryFolder('api-', join(root, 'coverage'));
  try {
    cpSync(join(root, 'dist'), join(folder, 'dist'), {
      recursive: true,
      filter: (path) => !path.endsWith('.js') && path !== join(root, 'dist/cjs'),
    });
    for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!path.endsWith('.d.ts')) continue;
      const file = join(folder, path);
      writeFileSync(file, asTsdoc(readFileSync(file, 'utf8')));
    }
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name, version, type: 'module' }));
    const entryPoints = Object.entries(exports).flatMap(([path, target]) =>
      typeof target === 'string' ? [] : [{ name: path.replace('.', name), file: target.import.types }],
    );
    return use({ folder, name, version, entryPoints });
  } finally {
    removePath(folder);
  }
}

/**
 * API Extractor's configuration for the declaration file `file` of a copy. All outputs are off but those of `outputs`.
 */
export function configOf(
  { folder }: Declarations,
  file: string,
  outputs: Pick<IConfigFile, 'apiReport' | 'docModel'>,
): ExtractorConfig {
  return ExtractorConfig.prepare({
    packageJsonFullPath: join(folder, 'package.json'),
    configObjectFullPath: undefined,
    configObject: {
      projectFolder: folder,
      mainEntryPointFilePath: join(folder, file),
      compiler: {
        overrideTsconfig: {
          compilerOptions: {
            target: 'es2022',
            module: 'nodenext',
            lib: ['es2023', 'dom', 'dom.iterable', 'dom.asynciterable', 'esnext.disposable'],
            types: [],
            strict: true,
            skipLibCheck: true,
          },
          files: [file],
        },
      },
      apiReport: { enabled: false },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      ...outputs,
    },
  });
}

/**
 * Rewrites doc comments as TSDoc. TSDoc reads code as text unless the code is fenced, and reads a type in braces as
 * a tag. So `@example` gets a fence, and `@throws {RangeError}` loses its braces.
 */
function asTsdoc(declarations: string): string {
  return declarations
    .replaceAll(
      /@example\n(?!\s*\* ```)(.*?)(?=(?:\n\s*\*)?\n\s*\*(?:\/|\s*@(?:example|param|returns|throws)\b))/gs,
      '@example\n * ```ts\n$1\n * ```',
    )
    .replaceAll(
      /@throws \{([^}]*)\}/g,
      (_, types: string) =>
        `@throws ${types
          .split(/\s*\|\s*/)
          .map((type) => `\`${type}\``)
          .join(' or ')}:`,
    );
}
