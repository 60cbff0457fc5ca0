/** Links of the repository, rewritten for the site. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join, posix } from 'node:path';
import type { Chapter } from './chapters.js';

/** The targets of links in chapters that are no chapters themselves. */
export interface Targets {
  /** The pictures, by their path in the repository. */
  readonly pictures: Set<string>;
  /** The files and folders that the site shows as source, by their path in the repository. */
  readonly sources: Set<string>;
}

/** The files that the page of a folder lists. */
const LISTED = new Set(['.json', '.lua', '.ts']);

/**
 * The text of a chapter with its links rewritten: to a page of the site, to a picture, or to a page that shows a file
 * of the repository.
 *
 * @param root The folder of the repository.
 * @param targets Receives the pictures and the files that the chapter needs.
 */
export function rewriteLinks(chapter: Chapter, chapters: readonly Chapter[], root: string, targets: Targets): string {
  return chapter.text
    .split(/^(```.*?^```$)/gms)
    .map((part) =>
      part.startsWith('```')
        ? part
        : part.replaceAll(
            /\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]+)?\)/g,
            (_, path: string, anchor = '') => `](${target(posix.join(posix.dirname(chapter.source), path))}${anchor})`,
          ),
    )
    .join('');

  function target(path: string): string {
    const source = path.replace(/\/$/, '');
    const found = chapters.find((other) => other.source === source || other.source === `${source}/README.md`);
    if (found !== undefined) return `/${found.page}`;
    if (!existsSync(join(root, source)))
      throw new Error(`${chapter.source} links to ${source}, which does not exist: correct the link`);
    if (extname(source) === '.svg') {
      targets.pictures.add(source);
      return pictureOf(source);
    }
    targets.sources.add(source);
    return `/${sourcePageOf(source)}`;
  }
}

/** The address of a picture on the site. */
export function pictureOf(source: string): string {
  return `/pictures/${source.replaceAll('/', '-')}`;
}

/** The page that shows a file or a folder of the repository. */
export function sourcePageOf(source: string): string {
  return `source/${source.replaceAll(/(^|\/)\./g, '$1')}.md`;
}

/** The Markdown of the pages for files and folders. A folder lists its files, which get pages too. */
export function sourcePages(root: string, sources: ReadonlySet<string>): Map<string, string> {
  const pages = new Map<string, string>();
  const rest = new Set(sources);
  // The loop also visits the files that a folder adds.
  for (const source of rest) {
    const path = join(root, source);
    const title = `# \`${source}\``;
    if (statSync(path).isDirectory()) {
      const files = readdirSync(path, { withFileTypes: true })
        .filter((entry) => entry.isFile() && LISTED.has(extname(entry.name)))
        .map(({ name }) => `${source}/${name}`);
      for (const file of files) rest.add(file);
      const list = files.map((file) => `- [\`${posix.basename(file)}\`](/${sourcePageOf(file)})`);
      pages.set(sourcePageOf(source), page(title, list.join('\n')));
    } else {
      const text = readFileSync(path, 'utf8');
      const longest = Math.max(2, ...[...text.matchAll(/^`+/gm)].map(([fence]) => fence.length));
      const fence = '`'.repeat(longest + 1);
      // Plain text: the colours of so much code would take most of the time of a build.
      pages.set(sourcePageOf(source), page(title, `${fence}txt\n${text.trimEnd()}\n${fence}`));
    }
  }
  return pages;
}

/** A page that the search leaves out, since it would find every word of the chapters again. */
function page(title: string, body: string): string {
  return `---\nsearch: false\noutline: false\nprev: false\nnext: false\n---\n\n${title}\n\n${body}\n`;
}
