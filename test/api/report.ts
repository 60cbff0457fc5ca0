/**
 * The API report: the public surface of each entry point as text. The reports are committed as `test/api/*.api.md`,
 * so that a change of the public surface shows in a diff. They contain no doc comments and no file paths, and Prettier
 * lays the declarations out, so that a change of the source's layout does not show.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CompilerState, Extractor } from '@microsoft/api-extractor';
import { format } from 'prettier';
import { configOf, withDeclarations } from './declarations.js';

/** The folder of the committed reports, relative to the root of the repository. */
export const REPORTS = 'test/api';

/**
 * Makes the report of each entry point of the package in the folder `root`, which has been built.
 *
 * API Extractor repeats a type of the main entry point in the report of each entry point that uses the type. Here, one
 * line lists the names of the repeated types instead, so that a change of a type shows once.
 *
 * @returns The reports by file name, such as `fetch.api.md`.
 */
export async function reports(root: string): Promise<Map<string, string>> {
  const unformatted = withDeclarations(root, (declarations) => {
    const { folder, entryPoints, name } = declarations;
    const reportFolder = join(folder, 'reports');
    mkdirSync(reportFolder);
    const configs = entryPoints.map(({ file }, index) =>
      configOf(declarations, file, {
        apiReport: {
          enabled: true,
          includeForgottenExports: true,
          reportFolder,
          reportTempFolder: reportFolder,
          reportFileName: `entry${index}`,
        },
      }),
    );
    const [first] = configs;
    if (first === undefined) throw new Error(`${name} has no entry points`);
    // One program for all entry points: it reads the libraries once.
    const compilerState = CompilerState.create(first, {
      additionalEntryPoints: entryPoints.map(({ file }) => join(folder, file)),
    });
    let ofMain: ReadonlySet<string> = new Set();
    return configs.map((config, index) => {
      // A warning would add the path and the line of a declaration to the report.
      const messageCallback = (message: { handled: boolean }): void => void (message.handled = true);
      Extractor.invoke(config, { localBuild: true, compilerState, messageCallback });
      const entry = entryPoints[index]?.name ?? '';
      const declared = blocksOf(readFileSync(join(reportFolder, `entry${index}.api.md`), 'utf8'));
      if (entry === name) ofMain = new Set(declared.map(withoutExport));
      return { entry, code: codeOf(declared, entry === name ? new Set() : ofMain) };
    });
  });
  const formatted = await Promise.all(
    unformatted.map(async ({ entry, code }) => {
      const text = await format(code, { parser: 'typescript', printWidth: 120, singleQuote: true });
      return [`${entry.split('/').at(-1)}.api.md`, `${headOf(entry)}\n\n\`\`\`ts\n${text}\`\`\`\n`] as const;
    }),
  );
  return new Map(formatted);
}

/** The declarations of a report, without API Extractor's own comments. */
function blocksOf(report: string): string[] {
  const [, code = ''] = /```ts\n(.*)```/s.exec(report.replaceAll('\r\n', '\n')) ?? [];
  return code
    .split('\n\n')
    .map((block) => block.replaceAll(/^\/\/ (?:@public|\(No @packageDocumentation).*\n?/gm, '').trim())
    .filter((block) => block !== '');
}

function withoutExport(block: string): string {
  return block.replace(/^export (?:declare )?/, '');
}

function codeOf(blocks: readonly string[], ofMain: ReadonlySet<string>): string {
  const repeated = blocks.filter((block) => ofMain.has(block) && !block.startsWith('///'));
  const own = blocks.filter((block) => !repeated.includes(block));
  const names = repeated.map((block) => /^(?:\w+ )+?(\w+)(?=[ <{])/.exec(block)?.[1] ?? block);
  return [...(names.length === 0 ? [] : [`// As in headgate.api.md: ${names.join(', ')}`]), ...own].join('\n\n');
}

function headOf(entry: string): string {
  return [
    `# The public surface of ${entry}`,
    '',
    '`npm run api:update` writes this file, and `npm test` compares it. A declaration without `export` is listed if an',
    'exported declaration uses it.',
  ].join('\n');
}
