/** The links of a finished site: every internal link of every page has a target. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';

/** The pages of the site in `folder`, such as `api/headgate.html`. */
export function pagesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.html'))
    .map((file) => file.replaceAll('\\', '/'))
    .toSorted();
}

const decoded = (text: string): string =>
  text.replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');

/** The links and pictures without a target, each with its page. `base` is the path at which a server has the site. */
export function deadLinks(folder: string, base = '/'): string[] {
  const pages = new Map(pagesOf(folder).map((page) => [page, readFileSync(join(folder, page), 'utf8')]));
  const anchors = new Map(
    [...pages].map(([page, html]) => [
      page,
      new Set([...html.matchAll(/ id="([^"]*)"/g)].map(([, id = '']) => decoded(id))),
    ]),
  );
  const dead: string[] = [];
  for (const [page, html] of pages) {
    for (const [, raw = ''] of html.matchAll(/ (?:href|src)="([^"]*)"/g)) {
      const address = decoded(raw);
      if (/^(?:https?:|data:|mailto:)/.test(address)) continue;
      const [path = '', anchor = ''] = address.split('#');
      const absolute = path === '' ? page : path.startsWith('/') ? path : posix.join('/', dirname(page), path);
      const inSite = path.startsWith('/') ? absolute.slice(base.length) : absolute.replace(/^\//, '');
      const outside = path.startsWith('/') && !absolute.startsWith(base);
      const file = candidates(inSite).find((each) => existsSync(join(folder, each)) && /\.\w+$/.test(each));
      const isDead =
        outside ||
        file === undefined ||
        (anchor !== '' && anchors.has(file) && !anchors.get(file)?.has(decodeURIComponent(anchor)));
      if (isDead) dead.push(`${page}: ${address}`);
    }
  }
  return [...new Set(dead)];
}

/** The files that a server may send for a path. */
function candidates(path: string): string[] {
  return path === '' || path.endsWith('/') ? [`${path}index.html`] : [path, `${path}.html`];
}
