/**
 * The API reference as pages of HTML: one page for each entry point, and an index of all symbols. The pages show the
 * paragraphs, lists, code and links of the doc comments.
 */
import { type Api, commentOf, type Entry, find, type Item } from './model.js';

/** The kinds of symbols, in the order of a page's sections. */
const KINDS: [kind: string, title: string, one: string][] = [
  ['Class', 'Classes', 'class'],
  ['Function', 'Functions', 'function'],
  ['Interface', 'Interfaces', 'interface'],
  ['TypeAlias', 'Types', 'type'],
  ['Variable', 'Constants', 'constant'],
  ['Enum', 'Enumerations', 'enumeration'],
];

const STYLE = `
:root {
  color-scheme: light dark;
  --soft: light-dark(#f4f5f7, #22262b);
  --line: light-dark(#d9dce1, #3a4048);
  --faint: light-dark(#59616b, #a3abb5);
  --link: light-dark(#0b57b0, #7db4ff);
}
body {
  font: 16px/1.55 system-ui, sans-serif;
  margin: 0 auto;
  padding: 1.5rem 1rem 5rem;
  max-width: 54rem;
  overflow-wrap: break-word;
}
a { color: var(--link); text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
code {
  font: 0.875em/1.5 ui-monospace, monospace;
  background: var(--soft);
  border-radius: 3px;
  padding: 0.1em 0.25em;
}
pre { background: var(--soft); border-radius: 6px; padding: 0.7rem 0.9rem; overflow-x: auto; }
pre code { background: none; padding: 0; }
pre.signature { white-space: pre-wrap; border-left: 3px solid var(--link); border-radius: 0 6px 6px 0; }
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem; }
h3 { margin-top: 2.75rem; font-size: 1.3rem; }
h4 { margin: 2rem 0 0.5rem; font-size: 1.05rem; }
h3 small { color: var(--faint); font-weight: normal; font-size: 0.9rem; }
.member { border-left: 1px solid var(--line); padding-left: 1rem; }
dl { margin: 0.75rem 0; }
dt { font-weight: 600; }
dd { margin: 0 0 0.5rem 1.5rem; }
dd p { margin: 0.25rem 0; }
nav ul { columns: 14rem; margin: 0 0 1rem; padding-left: 1.2rem; }
.symbols td { padding: 0.2rem 1rem 0.2rem 0; vertical-align: top; }
`;

/** The pages, by the names of their files. */
export function pages(api: Api): Map<string, string> {
  return new Reference(api).pages();
}

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

class Reference {
  readonly #api: Api;
  /** The addresses of items by canonical reference. */
  readonly #addresses = new Map<string, string>();
  readonly #anchors = new Map<Item, string>();

  constructor(api: Api) {
    this.#api = api;
    for (const [entry, items] of this.#sections()) this.#place(items, this.#file(entry), '');
  }

  pages(): Map<string, string> {
    const { name, version } = this.#api;
    const made = new Map<string, string>();
    for (const [entry, items] of this.#sections()) {
      const kinds = KINDS.map(([kind, title]) => ({ title, found: items.filter((item) => item.kind === kind) })).filter(
        ({ found }) => found.length > 0,
      );
      // Each overload has a section of its own. The list shows a function once.
      const list = kinds.map(
        ({ title, found }) =>
          `<b>${title}</b><ul>${found
            .filter((item) => (item.overloadIndex ?? 1) === 1)
            .map((item) => `<li><a href="#${this.#anchors.get(item)}">${escaped(item.name ?? '')}</a></li>`)
            .join('')}</ul>`,
      );
      const sections = kinds.map(
        ({ title, found }) => `<h2>${title}</h2>\n${found.map((item) => this.#symbol(entry, item)).join('\n')}`,
      );
      made.set(
        this.#file(entry),
        this.#page(entry.name, [
          `<p><a href="index.html">${escaped(name)} ${escaped(version)}</a></p>`,
          `<h1>${escaped(entry.name)}</h1>`,
          `<nav>${list.join('')}</nav>`,
          ...sections,
        ]),
      );
    }
    const overview = this.#api.entries.map((entry) => {
      const rows = entry.items
        .filter((item) => (item.overloadIndex ?? 1) === 1)
        .map(
          (item) =>
            `<tr><td><a href="${this.#address(item, '')}"><code>${escaped(item.name ?? '')}</code></a></td>` +
            `<td>${this.#inline(firstSentence(commentOf(item).summary), entry, '')}</td></tr>`,
        );
      const title = `<h2><a href="${this.#file(entry)}">${escaped(entry.name)}</a></h2>`;
      return `${title}\n<table class="symbols">${rows.join('\n')}</table>`;
    });
    made.set(
      'index.html',
      this.#page(`${name} ${version}`, [`<h1>${escaped(name)} ${escaped(version)}</h1>`, ...overview]),
    );
    return made;
  }

  /** Each entry point with the items of its page: its exports, and the unexported types that they use. */
  #sections(): [Entry, Item[]][] {
    return this.#api.entries.map((entry) => {
      const items = [...entry.items];
      // A found type can use another unexported type, so the loop also visits the items that it adds.
      for (const item of items) {
        const named = new Set(references(item));
        items.push(
          ...this.#api.unexported.filter((other) => named.has(other.canonicalReference) && !items.includes(other)),
        );
      }
      return [entry, items];
    });
  }

  #file(entry: Entry): string {
    return `${entry.name.replaceAll('/', '-')}.html`;
  }

  #place(items: Item[], file: string, within: string): void {
    for (const item of items) {
      const name = (item.name ?? item.kind.toLowerCase()).replaceAll(/[^\w.]+/g, '-').replaceAll(/^-|-$/g, '');
      const anchor = `${within}${name}${(item.overloadIndex ?? 1) > 1 ? `-${item.overloadIndex}` : ''}`;
      // If two entry points show an item, each page links to its own copy.
      if (!this.#anchors.has(item)) this.#anchors.set(item, anchor);
      if (!this.#addresses.has(item.canonicalReference))
        this.#addresses.set(item.canonicalReference, `${file}#${anchor}`);
      this.#place(item.members ?? [], file, `${anchor}.`);
    }
  }

  /** The address of `item` on the page `file`. */
  #address({ canonicalReference }: Item, file: string): string {
    const address = this.#addresses.get(canonicalReference) ?? '';
    return address.startsWith(`${file}#`) ? address.slice(file.length) : address;
  }

  #page(title: string, body: string[]): string {
    return [
      '<!doctype html>',
      '<html lang="en">',
      '<meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      `<title>${escaped(title)}</title>`,
      `<style>${STYLE}</style>`,
      '<body>',
      ...body,
      '</body>',
      '</html>\n',
    ].join('\n');
  }

  #symbol(entry: Entry, item: Item): string {
    const kind = KINDS.find(([one]) => one === item.kind)?.[2] ?? '';
    const hidden = this.#api.unexported.includes(item) ? ', not exported' : '';
    const members = (item.members ?? [])
      .toSorted((one, other) => rank(one) - rank(other))
      .map((member) => {
        const name =
          member.kind === 'Constructor'
            ? `new ${item.name}`
            : member.name || (member.kind === 'CallSignature' ? `${item.name}(…)` : '[…]');
        const title = `<h4 id="${this.#anchors.get(member)}">${escaped(name)}${overloadOf(member)}</h4>`;
        return `<div class="member">${title}\n${this.#body(entry, member, item)}</div>`;
      });
    const title = `${escaped(item.name ?? '')}${overloadOf(item)} <small>${kind}${hidden}</small>`;
    return [`<h3 id="${this.#anchors.get(item)}">${title}</h3>`, this.#body(entry, item), members.join('\n')].join(
      '\n',
    );
  }

  #body(entry: Entry, item: Item, owner?: Item): string {
    const file = this.#file(entry);
    const { summary, blocks } = commentOf(item);
    const parameters = blocks
      .filter(({ tag }) => tag === '@param')
      .map(({ text }) => {
        const [, name = '', rest = ''] = /^(\w+)\s*(?:- )?(.*)$/s.exec(text) ?? [];
        return `<dt><code>${escaped(name)}</code></dt><dd>${this.#text(rest, entry, file)}</dd>`;
      });
    const others = blocks
      .filter(({ tag }) => tag !== '@param')
      .map(({ tag, text }) => {
        if (tag === '@remarks') return this.#text(text, entry, file);
        if (tag === '@example') return this.#text(text, entry, file);
        const title = { '@returns': 'Returns', '@throws': 'Throws' }[tag] ?? tag.slice(1);
        return `<dl><dt>${escaped(title)}</dt><dd>${this.#text(text, entry, file)}</dd></dl>`;
      });
    return [
      this.#signature(item, file, owner),
      this.#text(summary, entry, file),
      parameters.length > 0 ? `<dl>${parameters.join('\n')}</dl>` : '',
      ...others,
    ]
      .filter((part) => part !== '')
      .join('\n');
  }

  /** The declaration, in which each name links to its symbol. */
  #signature({ kind, excerptTokens = [] }: Item, file: string, owner?: Item): string {
    let html = '';
    for (const { text, canonicalReference } of excerptTokens) {
      const address = canonicalReference === undefined ? undefined : this.#addresses.get(canonicalReference);
      html +=
        address === undefined
          ? escaped(text)
          : `<a href="${address.startsWith(`${file}#`) ? address.slice(file.length) : address}">${escaped(text)}</a>`;
    }
    html = html
      .trim()
      .replace(/^(?:export )?(?:declare )?/, '')
      .replace(/;$/, '');
    if (kind === 'Constructor') html = html.replace(/^constructor/, `new ${owner?.name ?? ''}`);
    // The declaration of a member is indented.
    if (owner !== undefined) html = html.replaceAll(/^ {4}/gm, '');
    return `<pre class="signature"><code>${html}</code></pre>`;
  }

  /** Paragraphs, lists and fenced code. */
  #text(text: string, entry: Entry, file: string): string {
    return text
      .split(/^(```.*?^```)$/gms)
      .flatMap((part) => {
        if (part.startsWith('```'))
          return [`<pre><code>${escaped(part.replace(/^```.*\n/, '').replace(/\n?```$/, ''))}</code></pre>`];
        return part.split(/\n\s*\n/).map((paragraph) => this.#paragraph(paragraph.trim(), entry, file));
      })
      .filter((part) => part !== '')
      .join('\n');
  }

  #paragraph(text: string, entry: Entry, file: string): string {
    const [lead = '', ...points] = text.split(/^- /gm).map((part) => this.#inline(part.trim(), entry, file));
    return (
      (lead === '' ? '' : `<p>${lead}</p>`) +
      (points.length === 0 ? '' : `<ul>${points.map((point) => `<li>${point}</li>`).join('')}</ul>`)
    );
  }

  /** Text with code and links. */
  #inline(text: string, entry: Entry, file: string): string {
    return text
      .split(/(`[^`]+`|\{@link[^}]*\}|https?:\/\/[^\s)`]*[\w/])/)
      .map((part) => {
        if (part.startsWith('`') && part.length > 1)
          return `<code>${escaped(part.slice(1, -1).replaceAll(/\s+/g, ' '))}</code>`;
        if (/^https?:/.test(part)) return `<a href="${escaped(part)}">${escaped(part)}</a>`;
        const [, name = '', shown = name] = /^\{@link\s+([^\s|}]+)\s*(?:\|\s*([^}]*?)\s*)?\}$/.exec(part) ?? [];
        if (name === '') return escaped(part);
        const item = find(this.#api, entry, name);
        return item === undefined
          ? `<code>${escaped(shown)}</code>`
          : `<a href="${this.#address(item, file)}"><code>${escaped(shown)}</code></a>`;
      })
      .join('');
  }
}

/** The number of an overload after the first, in brackets. */
function overloadOf({ overloadIndex = 1 }: Item): string {
  return overloadIndex > 1 ? ` (${overloadIndex})` : '';
}

/** The place of a member: constructors and call signatures first, then names, then symbols of the language. */
function rank({ kind, name = '' }: Item): number {
  if (kind === 'Constructor' || kind === 'CallSignature') return 0;
  return name === '' || name.startsWith('[') ? 2 : 1;
}

/** The canonical references in the declarations of an item and its members. */
function references(item: Item): string[] {
  return [
    ...(item.excerptTokens ?? []).flatMap(({ canonicalReference }) => canonicalReference ?? []),
    ...(item.members ?? []).flatMap(references),
  ];
}

/** The text up to the first full stop outside of code. A list ends the sentence. */
function firstSentence(text: string): string {
  const paragraph = text.split(/\n\s*\n/)[0]?.replaceAll(/\s+/g, ' ') ?? '';
  const [sentence = paragraph] = /^(?:`[^`]*`|\{@link[^}]*\}|[^`{])*?[.](?= |$)/.exec(paragraph) ?? [];
  return sentence.replace(/:? ?- .*$/s, '.');
}
