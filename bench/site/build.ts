/**
 * `npm run docs` writes the site of the documentation into `docs`: the README and all chapters, the API reference, and
 * the playground. `-- --serve` also serves the site. `-- --base /headgate/` is for a server that has the site in a
 * folder.
 */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, type DefaultTheme } from 'vitepress';
import { faults, readApi } from '../../test/api/model.js';
import { pages } from '../../test/api/pages.js';
import { type Chapter, findChapters, referenceOf } from './chapters.js';
import type { Site } from './config.js';
import { pictureOf, rewriteLinks, sourcePages, type Targets } from './links.js';
import { serveSite } from './serve.js';

/** npm runs scripts in the folder of package.json. */
const root = process.cwd();
/** The pages that VitePress reads. */
const prepared = join(root, 'bench/.out/site');
const outDir = join(root, 'docs');

const { values } = parseArgs({ options: { base: { type: 'string', default: '/' }, serve: { type: 'boolean' } } });
const { base } = values;
if (!/^\/(?:[\w.-]+\/)*$/.test(base))
  throw new RangeError(`--base must start and end with a slash, received ${base}: write for example /headgate/`);

interface Manifest {
  readonly description: string;
  readonly exports: Readonly<Record<string, string | { readonly import: { readonly default: string } }>>;
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;

const write = (path: string, text: string): void => {
  const file = join(prepared, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
};

const linkOf = (page: string): string => `/${page.replace(/(?:index)?\.md$/, '')}`;

const itemOf = ({ title, page }: Chapter): DefaultTheme.SidebarItem => ({ text: title, link: linkOf(page) });

/** The chapters of the package, and the pages about the project. */
function sidebarOf(chapters: readonly Chapter[], apiPages: readonly string[]): DefaultTheme.SidebarItem[] {
  const [first, ...rest] = chapters.filter(({ source }) => source !== 'CHANGELOG.md');
  const inPackage = rest.filter(({ source }) => source.startsWith('src/'));
  const changes = chapters.filter(({ source }) => source === 'CHANGELOG.md');
  const names = apiPages.filter((file) => file !== 'index.md').map((file) => file.replace('.md', ''));
  return [
    {
      text: 'Start',
      items: [
        { text: 'Overview', link: linkOf(first?.page ?? 'index.md') },
        { text: 'Playground', link: '/playground' },
      ],
    },
    { text: 'Chapters', items: inPackage.map(itemOf) },
    {
      text: 'API reference',
      items: [
        { text: 'All symbols', link: '/api/' },
        ...names.map((name) => ({ text: name.replace('-', '/'), link: `/api/${name}` })),
      ],
    },
    { text: 'Project', items: [...rest.filter((chapter) => !inPackage.includes(chapter)), ...changes].map(itemOf) },
  ];
}

rmSync(prepared, { recursive: true, force: true });
const chapters = findChapters(root);
const targets: Targets = { pictures: new Set(), sources: new Set() };
const api = readApi(root);
const reference = pages(api);
for (const chapter of chapters) {
  const text = rewriteLinks(chapter, chapters, root, targets);
  const file = referenceOf(chapter.source, reference);
  write(chapter.page, file === undefined ? text : `${text}\nEvery symbol: [API reference](/api/${file}).\n`);
}
for (const [file, text] of sourcePages(root, targets.sources)) write(file, text);
for (const picture of targets.pictures) cpSync(join(root, picture), join(prepared, 'public', pictureOf(picture)));
write('playground.md', readFileSync(join(root, 'bench/site/playground/playground.md'), 'utf8'));

for (const [file, text] of reference) {
  const about = chapters.filter(({ source }) => referenceOf(source, reference) === file);
  const links = about.map(({ title, page }) => `[${title}](/${page})`).join(', ');
  write(`api/${file}`, links === '' ? text : text.replace('\n\n', `\n\nWith examples: ${links}.\n\n`));
}

const site: Site = {
  description: manifest.description,
  sidebar: sidebarOf(chapters, [...reference.keys()]),
  root,
  outDir,
  base,
  entryPoints: Object.fromEntries(
    Object.entries(manifest.exports).flatMap(([path, target]) =>
      typeof target === 'string' ? [] : [[`headgate${path.slice(1)}`, target.import.default]],
    ),
  ),
};
write(
  '.vitepress/config.ts',
  `import { configure } from '../../../site/config.js';\nexport default configure(${JSON.stringify(site, undefined, 2)});\n`,
);
write('.vitepress/theme/index.ts', `export { default } from '../../../../site/theme.js';\n`);

await build(prepared);

const found = faults(api);
for (const fault of found) console.error(fault);
if (found.length > 0) process.exitCode = 1;
console.log(`${chapters.length} chapters, ${reference.size} pages of the API reference and the playground: docs/`);
if (values.serve === true) {
  const { url } = await serveSite(outDir, base);
  console.log(`Serving ${url} until Ctrl-C`);
} else console.log('`npm run docs -- --serve` shows the site in a browser');
