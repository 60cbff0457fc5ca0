/** The checks of the finished site find what they are for. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { serveSite } from '../../bench/site/serve.js';
import { contrast } from './contrast.js';
import { deadLinks, pagesOf } from './links.js';

const parent = mkdtempSync(join(tmpdir(), 'headgate-links-'));
const folder = join(parent, 'site');
afterAll(() => rmSync(parent, { recursive: true }));

const SITE: Readonly<Record<string, string>> = {
  'index.html': '<h1 id="top"></h1><a href="/a/"></a><a href="/b#x.y"></a><img src="/p.svg"><a href="#top"></a>',
  'a/index.html': '<a href="../b.html"></a><a href="https://example.com/gone"></a><a href="/"></a>',
  'b.html': '<h2 id="x.y"></h2><a href="a/"></a>',
  'p.svg': '<svg/>',
};

beforeAll(() => {
  for (const [file, text] of Object.entries(SITE)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), text);
  }
});

describe('the check of links', () => {
  test('accepts pages, anchors and pictures that exist', () => {
    expect(pagesOf(folder)).toEqual(['a/index.html', 'b.html', 'index.html']);
    expect(deadLinks(folder)).toEqual([]);
  });

  test.each(['/gone', '/gone.html', '/b#gone', '#gone', '../outside.html', '/gone.svg', '/c/'])(
    'finds the dead link %s',
    (address) => {
      writeFileSync(join(folder, 'bad.html'), `<a href="${address}"></a>`);
      expect(deadLinks(folder)).toEqual([`bad.html: ${address}`]);
      rmSync(join(folder, 'bad.html'));
    },
  );

  test('requires the path of the server in each absolute link', () => {
    expect(deadLinks(folder, '/docs/')).toContain('index.html: /a/');
  });
});

test.each([
  ['#000000', '#ffffff', 21],
  ['rgb(119, 119, 119)', '#ffffff', 4.48],
  ['rgba(255, 0, 0, 1)', 'rgb(0, 0, 255)', 2.15],
])('the contrast of %s and %s is %d', (one, other, expected) => {
  expect(contrast(one, other)).toBeCloseTo(expected, 2);
  expect(contrast(other, one)).toBeCloseTo(expected, 2);
});

describe('the server', () => {
  test('sends pages with and without their ending, and nothing outside of its folder', async () => {
    writeFileSync(join(parent, 'outside.svg'), '<svg/>');
    const served = await serveSite(folder, '/docs/');
    const status = async (path: string): Promise<number> => (await fetch(new URL(path, served.url))).status;
    try {
      expect(await (await fetch(served.url)).text()).toBe(SITE['index.html']);
      for (const path of ['b', 'b.html', 'a/', 'p.svg']) expect(await status(path)).toBe(200);
      for (const path of ['gone', '/b', '..%2foutside.svg', '%', '..%2f'.repeat(9)])
        expect(await status(path), path).toBe(404);
    } finally {
      served.close();
    }
  });
});
