/**
 * `npm run test:site` checks the finished site of `npm run docs` in Chromium: every page on narrow and on wide screens
 * in both themes, the search, and the playground. The browser reaches only this machine. `-- --screenshots FOLDER`
 * also writes pictures of the pages, and `-- api/headgate.html` opens only this page.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { serveSite } from '../../bench/site/serve.js';
import { fetched } from '../runtimes/downloads.js';
import { commandEnv } from '../support/commands.js';
import { CHROMIUM, runtimes } from '../runtimes/runtimes.js';
import { removePath, temporaryFolder } from '../support/processes.js';
import { requireProgram } from '../support/programs.js';
import { deadLinks, pagesOf } from './links.js';
import { checkPages } from './pages.js';
import { checkPlayground } from './playground-page.js';
import type { Browser, Site } from './playwright.js';
import { checkSearch } from './search.js';

/** The limit for all checks together, on a busy machine. */
const LIMIT_MS = 300_000;

const { values, positionals } = parseArgs({ options: { screenshots: { type: 'string' } }, allowPositionals: true });

async function main(): Promise<string[]> {
  const folder = resolve('docs');
  if (!existsSync(join(folder, 'index.html'))) throw new Error('docs/index.html is missing: run npm run docs');
  const failures = deadLinks(folder).map((link) => `dead link: ${link}`);
  const download = runtimes.find(({ kind }) => kind === 'page')?.download;
  if (download === undefined) throw new Error('test/runtimes/runtimes.ts lists no browser');
  const library = await fetched(download);
  const executablePath = await requireProgram(CHROMIUM);
  const { chromium } = (await import(pathToFileURL(library).href)) as {
    chromium: { launch(options: object): Promise<Browser> };
  };
  const home = temporaryFolder('headgate-site-');
  // A killed browser leaves its profile behind, so the profile is in a folder that is always removed.
  process.env['TMPDIR'] = home;
  const served = await serveSite(folder);
  const options = { executablePath, args: CHROMIUM.args, env: { ...commandEnv, HOME: home, TMPDIR: home } };
  const browser = await chromium.launch({ ...options, timeout: LIMIT_MS });
  try {
    const { screenshots } = values;
    if (screenshots !== undefined) mkdirSync(screenshots, { recursive: true });
    const site: Site = { browser, url: served.url, screenshots };
    // Pages that show source have one layout, so one of them stands for all.
    const source = pagesOf(folder).filter((page) => page.startsWith('source/'));
    const all = pagesOf(folder).filter((page) => page !== '404.html' && !source.slice(1).includes(page));
    const pages = positionals.length === 0 ? all : positionals;
    failures.push(...(await checkPages(site, pages)));
    if (positionals.length === 0) failures.push(...(await checkSearch(site)), ...(await checkPlayground(site)));
    console.log(`${pages.length} of ${all.length} pages in Chromium ${browser.version()}`);
    return failures;
  } finally {
    await browser.close();
    served.close();
    removePath(home);
  }
}

const started = performance.now();
const timer = setTimeout(() => {
  console.error(`FAILED: the checks took more than ${LIMIT_MS / 1000} s`);
  process.exit(1);
}, LIMIT_MS);
const failures = await main();
clearTimeout(timer);
for (const failure of failures) console.log(`FAILED ${failure}`);
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(`${failures.length === 0 ? 'Passed' : `${failures.length} failed`} in ${seconds} s`);
process.exitCode = failures.length === 0 ? 0 : 1;
