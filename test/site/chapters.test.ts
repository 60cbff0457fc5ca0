/** The pages of the site before VitePress builds them: places, anchors and links. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { type Chapter, findChapters, pageOf, referenceOf, slugify } from '../../bench/site/chapters.js';
import { rewriteLinks, sourcePages, type Targets } from '../../bench/site/links.js';

const root = mkdtempSync(join(tmpdir(), 'headgate-site-'));
afterAll(() => rmSync(root, { recursive: true }));
const put = (path: string, text: string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
};

put('README.md', '# example\n\n[core](src/core/README.md#a-word)\n');
put('LICENSE', 'MIT');
put('src/core/README.md', '# `core`\n');
put('src/core/code.ts', 'export const fence = `\n````\n`;\n');
put('src/a-new-one/README.md', '# A new one\n');
put('bench/README.md', '# Bench\n');
put('bench/chart.svg', '<svg/>');
put('test/README.md', '# Tests\n');
put('test/parts/one.ts', 'one();\n');
put('test/parts/notes.md', '# Not a chapter\n');

const chapters = findChapters(root);
const rewritten = (text: string, source = 'test/README.md'): { text: string; targets: Targets } => {
  const targets: Targets = { pictures: new Set(), sources: new Set() };
  const chapter: Chapter = { source, page: pageOf(source), title: '', text };
  return { text: rewriteLinks(chapter, chapters, root, targets), targets };
};

describe('the chapters', () => {
  test('are the Markdown pages of the repository, the package first', () => {
    expect(chapters.map(({ source, page, title }) => [source, page, title])).toEqual([
      ['README.md', 'index.md', 'example'],
      ['src/core/README.md', 'core.md', 'core'],
      ['src/a-new-one/README.md', 'a-new-one.md', 'A new one'],
      ['bench/README.md', 'bench.md', 'Bench'],
      ['test/README.md', 'test.md', 'Tests'],
    ]);
  });

  test('of headgate have pages with different names', () => {
    const pages = findChapters(fileURLToPath(new URL('../..', import.meta.url))).map(({ page }) => page);
    expect(pages.length).toBeGreaterThan(10);
    expect(new Set([...pages, 'playground.md']).size).toBe(pages.length + 1);
  });

  test.each([
    ['src/fetch/README.md', 'headgate-fetch.md'],
    ['src/compose/README.md', 'headgate.md'],
    ['src/fetch/more.md', undefined],
    ['README.md', undefined],
  ])('%s belongs to the page %s of the API reference', (source, page) => {
    const reference = new Map(['headgate.md', 'headgate-fetch.md', 'index.md'].map((file) => [file, '']));
    expect(referenceOf(source, reference)).toBe(page);
  });

  test.each([
    ['At most n at once', 'at-most-n-at-once'],
    ['`RedisThrottle`: the limits', 'redisthrottle-the-limits'],
    ['Costs & slots', 'costs--slots'],
    ['Where it runs (2)', 'where-it-runs-2'],
  ])('have the anchor of GitHub for the heading %s', (heading, anchor) => {
    expect(slugify(heading)).toBe(anchor);
  });
});

describe('a link', () => {
  test.each([
    ['[a](../README.md)', '[a](/index.md)'],
    ['[a](../src/core/README.md#a-word)', '[a](/core.md#a-word)'],
    ['[a](../src/core)', '[a](/core.md)'],
    ['[a](parts/one.ts)', '[a](/source/test/parts/one.ts.md)'],
    ['[a](../LICENSE)', '[a](/source/LICENSE.md)'],
    ['![a](../bench/chart.svg)', '![a](/pictures/bench-chart.svg)'],
    ['[a](#here) and [b](https://example.com/x)', '[a](#here) and [b](https://example.com/x)'],
    ['```md\n[a](../README.md)\n```\n', '```md\n[a](../README.md)\n```\n'],
  ])('%j becomes %j', (text, expected) => {
    expect(rewritten(text).text).toBe(expected);
  });

  test('to a file that does not exist is refused', () => {
    expect(() => rewritten('[a](gone.ts)')).toThrow('test/README.md links to test/gone.ts, which does not exist');
  });

  test('to a file or a folder has a page with the text or the list', () => {
    const { targets } = rewritten('[a](parts) [b](../src/core/code.ts) ![c](../bench/chart.svg)');
    expect([...targets.pictures]).toEqual(['bench/chart.svg']);
    const pages = sourcePages(root, targets.sources);
    expect([...pages.keys()]).toEqual([
      'source/test/parts.md',
      'source/src/core/code.ts.md',
      'source/test/parts/one.ts.md',
    ]);
    expect(pages.get('source/test/parts.md')).toContain('- [`one.ts`](/source/test/parts/one.ts.md)');
    expect(pages.get('source/src/core/code.ts.md')).toContain('`````txt\nexport const fence = `\n````\n`;\n`````');
    for (const page of pages.values()) expect(page).toMatch(/^---\nsearch: false\n/);
  });
});
