/**
 * The public surface is the committed one, every export has a doc comment, and the links of the pages of `npm run docs`
 * have targets. These tests read `dist`, so `npm run build` comes first, as in `npm test`.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Api, commentOf, faults, readApi } from './model.js';
import { pages } from './pages.js';
import { REPORTS, reports } from './report.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const written = mkdtempSync(join(tmpdir(), 'headgate-api-'));
afterAll(() => rmSync(written, { recursive: true }));

/** Writes a package named `example` with these declarations by entry point, and reads its API. */
const packageOf = (entries: Record<string, string>): Api => {
  const folder = mkdtempSync(join(written, 'package-'));
  mkdirSync(join(folder, 'dist'));
  const exports: Record<string, { import: { types: string } }> = {};
  for (const [path, declarations] of Object.entries(entries)) {
    const types = `./dist/${path === '.' ? 'index' : path.slice(2)}.d.ts`;
    exports[path] = { import: { types } };
    writeFileSync(join(folder, types), declarations);
  }
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ name: 'example', version: '1.0.0', type: 'module', exports }),
  );
  return readApi(folder);
};

describe('the API', () => {
  let api: Api;
  beforeAll(() => {
    api = readApi(root);
  });

  test('covers all entry points', () => {
    const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { exports: object };
    expect(api.entries.map(({ name }) => name)).toEqual(
      Object.keys(exports)
        .filter((path) => !path.endsWith('.json'))
        .map((path) => path.replace('.', 'headgate')),
    );
  });

  test('has a comment on every symbol and every member', () => {
    expect(faults(api)).toEqual([]);
  });

  test('has pages whose links all have targets', () => {
    const made = pages(api);
    expect(made.size).toBe(api.entries.length + 1);
    const anchors = new Map(
      [...made].map(([file, page]) => [file, [...page.matchAll(/^#+ .* \{#(\S+)\}$/gm)].map(([, id]) => id)]),
    );
    for (const [file, page] of made) {
      expect(new Set(anchors.get(file)).size, file).toBe(anchors.get(file)?.length);
      for (const [, address = ''] of prose(page).matchAll(/\]\((\S+)\)/g)) {
        if (address.startsWith('https://')) continue;
        const [target, anchor] = address.split('#');
        expect(anchors.get(target || file), `${address} in ${file}`).toEqual(
          anchor === undefined ? expect.anything() : expect.arrayContaining([anchor]),
        );
      }
      // Outside of code, the pages contain no markup of comments, no tag of HTML and no template.
      expect(prose(page).replaceAll(/`[^`]*`/g, ''), file).not.toMatch(/undefined|\{@|@\w+|<|\{\{|&amp;\w+;/);
    }
    for (const { name, items } of api.entries) {
      const page = made.get(`${name.replaceAll('/', '-')}.md`);
      for (const item of items) expect(page).toContain(`### ${item.name?.replaceAll('_', String.raw`\_`)}`);
    }
  });
});

/** A page without its fenced code. */
const prose = (page: string): string =>
  page.replaceAll(/^```.*?^```$/gms, '').replaceAll(/^<div class="signature">\s*<\/div>$/gm, '');

test('the public surface is the surface of the committed reports; `npm run api:update` writes them', async () => {
  const made = await reports(root);
  for (const [file, text] of made) {
    expect(text, file).not.toMatch(/\.ts\b|\bdist\b|\bsrc\b/);
    expect(text, file).toBe(readFileSync(join(root, REPORTS, file), 'utf8'));
  }
  const committed = readdirSync(join(root, REPORTS)).filter((file) => file.endsWith('.api.md'));
  expect(committed).toEqual([...made.keys()].toSorted());
});

describe('the check of comments', () => {
  const declarations = (comment: string): string => `
    ${comment}
    export declare class Gate {
      ${comment}
      constructor(size: number);
      ${comment}
      static readonly most: number;
      ${comment}
      get size(): number;
      ${comment}
      open(): void;
      ${comment}
      open(by: number): void;
    }
    ${comment}
    export interface Options {
      ${comment}
      size?: number;
      ${comment}
      on(event: string): void;
      ${comment}
      (again: boolean): void;
      ${comment}
      [option: string]: unknown;
    }
    ${comment}
    export declare function make(options: Options): Gate;
    ${comment}
    export declare function make(): Gate;
    ${comment}
    export type Size = number | 'any';
    ${comment}
    export declare const SIZE: Size;
    ${comment}
    export declare enum Kind {
      ${comment}
      Open
    }`;
  const all = [
    'Gate',
    'Gate.constructor',
    'Gate.most',
    'Gate.open',
    'Gate.open (overload 2)',
    'Gate.size',
    'Kind',
    'Kind.Open',
    'make',
    'make (overload 2)',
    'Options',
    'Options.CallSignature',
    'Options.IndexSignature',
    'Options.on',
    'Options.size',
    'SIZE',
    'Size',
  ];

  test('requires a comment on each symbol and member of each entry point', () => {
    expect(
      faults(packageOf({ '.': declarations('/** A comment. */'), './more': declarations('/** Another comment. */') })),
    ).toEqual([]);
    const bare = faults(packageOf({ '.': declarations(''), './more': declarations('/** @remarks Only remarks. */') }));
    expect(bare.toSorted()).toEqual(
      ['example', 'example/more'].flatMap((entry) => all.map((name) => `${entry}: ${name}: no comment`)).toSorted(),
    );
  });

  test('requires a separate comment on a member that implements or overrides another', () => {
    const api = packageOf({
      '.': `
        /** Opens. */
        export interface Gate {
          /** Opens it. */
          open(): void;
        }
        /** One of wood. */
        export declare class Door implements Gate {
          open(): void;
        }
        /** One with a lock. */
        export declare class Lock extends Door {
          /** {@inheritDoc Gate.open} */
          open(): void;
        }`,
    });
    expect(faults(api)).toEqual(
      expect.arrayContaining(['example: Door.open: no comment', 'example: Lock.open: no comment']),
    );
  });

  test('rejects unknown parameters, links without a target, and any', () => {
    const api = packageOf({
      '.': `
        /** The {@link Gate.open}, not \`{@link Nowhere}\`. See {@link Size}. */
        export declare class Gate {
          /** @param size How wide. */
          constructor(size: number);
          /**
           * Opens, see {@link Gate.close}.
           *
           * @param wide How wide.
           */
          open(by: number): any;
          /** @internal */
          hidden(): void;
        }
        /** Of {@link Nothing}. */
        export type Options = { size: number };
        /** A @wrong {tag}. */
        export declare function say(): Unexported;
        interface Unexported {
          /** Any length. */
          length: number;
        }
        export {};`,
      './more': `/** From \`{@link}\`, {@link Gate | the gate}. */ export type Size = number;`,
    });
    expect(faults(api)).toEqual([
      expect.stringContaining('tsdoc-escape-right-brace'),
      expect.stringContaining('tsdoc-malformed-inline-tag'),
      expect.stringContaining('tsdoc-undefined-tag'),
      'example: Gate.open: @param wide names no parameter',
      'example: Gate.open: {@link Gate.close} has no target',
      'example: Gate.open: any',
      'example: Options: {@link Nothing} has no target',
      'example: Options: an object type: only an interface has comments on members',
      'not exported: Unexported: no comment',
    ]);
    expect(pages(api).get('example-more.md')).toContain('[`the gate`](example.md#Gate)');
    expect(pages(api).get('example.md')).toContain('*interface, not exported*');
    expect(pages(api).get('example.md')).not.toContain('hidden');
  });

  test('keeps code, lists and tags of a comment on the page', () => {
    const api = packageOf({
      '.': `
        /**
         * Makes \`a < b && "c"\` of 1 < 2:
         * - the first,
         *   on two lines
         * - the {@link make | second}
         *
         * @param size Its size, >= 0.
         * @returns What was made.
         * @throws {RangeError | TypeError} It is too large.
         *
         * @example
         * import { make } from 'example';
         *
         * class Made {
         *   @decorated({ size: 1 })
         *   made = make(1) < 2; // → \`true\`
         * }
         *
         * @example
         * make(2);
         */
        export declare function make(size: number): Array<number>;`,
    });
    expect(api.malformed).toEqual([]);
    const [make] = api.entries[0]?.items ?? [];
    expect(make && commentOf(make).blocks.map(({ tag }) => tag)).toEqual([
      '@param',
      '@returns',
      '@throws',
      '@example',
      '@example',
    ]);
    const page = pages(api).get('example.md') ?? '';
    for (const part of [
      '```ts\nfunction make(size: number): Array<number>\n```',
      'Makes `a < b && "c"` of 1 &lt; 2:\n- the first,\n on two lines\n- the [`second`](#make)\n',
      '**Parameters**\n\n- `size`: Its size, &gt;= 0.',
      '**Returns** What was made.',
      '**Throws** `RangeError` or `TypeError`: It is too large.',
      [
        "```ts\nimport { make } from 'example';\n\nclass Made {\n",
        '  @decorated({ size: 1 })\n  made = make(1) < 2; // → `true`\n}\n```',
      ].join(''),
      '```ts\nmake(2);\n```',
    ])
      expect(page).toContain(part);
  });
});
