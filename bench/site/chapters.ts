/**
 * The chapters of the site: every Markdown page of the repository that readers use, with its place on the site. A new
 * chapter beside the code appears by itself.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Chapter {
  /** The path in the repository, such as `src/core/README.md`. */
  readonly source: string;
  /** The path on the site, such as `core.md`. */
  readonly page: string;
  readonly title: string;
  readonly text: string;
}

/** The chapters of the package in the order in which a newcomer reads them. Others follow, in alphabetical order. */
const ORDER = ['core', 'compose', 'fetch', 'http', 'redis', 'testing', 'otel'];

/** The chapters in the repository in the folder `root`: the root page first, then the package, then the rest. */
export function findChapters(root: string): Chapter[] {
  const folders = readdirSync(join(root, 'src'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => `src/${name}`)
    .toSorted((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  return ['.', ...folders, 'bench', 'test'].flatMap((folder) =>
    (existsSync(join(root, folder)) ? readdirSync(join(root, folder)) : [])
      .filter((file) => file.endsWith('.md'))
      .toSorted((a, b) => Number(b === 'README.md') - Number(a === 'README.md') || (a < b ? -1 : 1))
      .map((file) => {
        const source = join(folder, file).replaceAll('\\', '/');
        const text = readFileSync(join(root, source), 'utf8');
        return { source, page: pageOf(source), title: titleOf(text, source), text };
      }),
  );
}

function rank(folder: string): number {
  const index = ORDER.indexOf(folder.slice('src/'.length));
  return index < 0 ? ORDER.length : index;
}

/** The page of a Markdown file: `README.md` is `index.md`, and `src/core/README.md` is `core.md`. */
export function pageOf(source: string): string {
  if (source === 'README.md') return 'index.md';
  return source
    .replace(/^src\//, '')
    .replace(/\/README\.md$/, '.md')
    .replaceAll('/', '-')
    .toLowerCase();
}

/**
 * The page of the API reference about the code beside a chapter, if `reference` has one: `headgate-fetch.md` for
 * `src/fetch/README.md`. A folder without an entry point of its own belongs to the main one.
 */
export function referenceOf(source: string, reference: ReadonlyMap<string, string>): string | undefined {
  const [, folder] = /^src\/([^/]+)\/README\.md$/.exec(source) ?? [];
  if (folder === undefined) return undefined;
  return [`headgate-${folder}.md`, 'headgate.md'].find((file) => reference.has(file));
}

/** The first heading without its markup. */
function titleOf(text: string, source: string): string {
  const [, title] = /^# (.+)$/m.exec(text) ?? [];
  if (title === undefined) throw new Error(`${source} has no heading of level 1: add a line that starts with "# "`);
  return title.replaceAll('`', '');
}

/** The anchor of a heading, as GitHub makes it, so that the links of the repository work on the site. */
export function slugify(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(/\s/g, '-');
}
