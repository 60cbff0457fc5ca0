/**
 * The API reference as pages of Markdown for the site of `npm run docs`: one page for each entry point, and an index of
 * all symbols. Each symbol and each member has a heading with an anchor of its own, so that the search finds it. The
 * pages keep the paragraphs, lists, code and links of the doc comments.
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

/** The pages, by the names of their files. */
export function pages(api: Api): Map<string, string> {
  return new Reference(api).pages();
}

/** Text of a comment, in which Markdown and the page's templates find no markup. A hyphen starts a list, as in TSDoc. */
const escaped = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('{', '&#123;')
    .replaceAll(/[\\`*_[\]|~]/g, String.raw`\$&`);

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
    const made = new Map<string, string>();
    for (const [entry, items] of this.#sections()) {
      const sections = KINDS.map(
        ([kind, title]) => [title, items.filter((item) => item.kind === kind)] as const,
      ).filter(([, found]) => found.length > 0);
      made.set(
        this.#file(entry),
        joined([
          `# ${entry.name} {#top}`,
          ...sections.map(([title, found]) =>
            joined([`## ${title} {#${title.toLowerCase()}}`, ...found.map((item) => this.#symbol(entry, item))]),
          ),
        ]),
      );
    }
    made.set('index.md', this.#overview());
    return made;
  }

  #overview(): string {
    const tables = this.#api.entries.map((entry) => {
      const rows = entry.items
        .filter((item) => (item.overloadIndex ?? 1) === 1)
        .map((item) => {
          const about = this.#inline(firstSentence(commentOf(item).summary), entry, '')
            .replaceAll('\n', ' ')
            .replaceAll(/(?<!\\)\|/g, String.raw`\|`);
          return `| [\`${item.name ?? ''}\`](${this.#address(item, '')}) | ${about} |`;
        });
      return `## [${entry.name}](${this.#file(entry)})\n\n${['| name | purpose |', '| --- | --- |', ...rows].join('\n')}`;
    });
    return joined([
      `# API reference {#top}`,
      `Every export of ${this.#api.name} ${this.#api.version}, by entry point.`,
      ...tables,
    ]);
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
    return `${entry.name.replaceAll('/', '-')}.md`;
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
    return within(file, this.#addresses.get(canonicalReference) ?? '');
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
        const title = `#### ${escaped(name)}${overloadOf(member)} {#${this.#anchors.get(member)}}`;
        return joined([title, this.#body(entry, member, item)]);
      });
    return joined([
      `### ${escaped(item.name ?? '')}${overloadOf(item)} {#${this.#anchors.get(item)}}`,
      `*${kind}${hidden}*`,
      this.#body(entry, item),
      ...members,
    ]);
  }

  #body(entry: Entry, item: Item, owner?: Item): string {
    const file = this.#file(entry);
    const { summary, blocks } = commentOf(item);
    const parameters = blocks
      .filter(({ tag }) => tag === '@param')
      .map(({ text }) => {
        const [, name = '', rest = ''] = /^(\w+)\s*(?:- )?(.*)$/s.exec(text) ?? [];
        return `- \`${name}\`: ${indented(this.#text(rest, entry, file))}`;
      });
    const others = blocks
      .filter(({ tag }) => tag !== '@param')
      .map(({ tag, text }) => {
        const shown = this.#text(text, entry, file);
        if (tag === '@remarks' || tag === '@example') return shown;
        return `**${{ '@returns': 'Returns', '@throws': 'Throws' }[tag] ?? tag.slice(1)}** ${shown}`;
      });
    return joined([
      this.#signature(item, owner),
      this.#types(item, file),
      this.#text(summary, entry, file),
      parameters.length > 0 ? `**Parameters**\n\n${parameters.join('\n')}` : '',
      ...others,
    ]);
  }

  /** The declaration as code. Its long lines wrap on the page. */
  #signature({ kind, excerptTokens = [] }: Item, owner?: Item): string {
    let code = excerptTokens
      .map(({ text }) => text)
      .join('')
      .trim()
      .replace(/^(?:export )?(?:declare )?/, '')
      .replace(/;$/, '');
    if (kind === 'Constructor') code = code.replace(/^constructor/, `new ${owner?.name ?? ''}`);
    // The declaration of a member is indented.
    if (owner !== undefined) code = code.replaceAll(/^ {4}/gm, '');
    return `<div class="signature">\n\n\`\`\`ts\n${code}\n\`\`\`\n\n</div>`;
  }

  /** Links to the symbols that the declaration names. */
  #types({ excerptTokens = [], canonicalReference }: Item, file: string): string {
    const links = excerptTokens.flatMap(({ text, canonicalReference: named }) => {
      const address = named === undefined || named === canonicalReference ? undefined : this.#addresses.get(named);
      return address === undefined ? [] : [`[\`${text.trim()}\`](${within(file, address)})`];
    });
    return links.length === 0 ? '' : `Types: ${[...new Set(links)].join(', ')}`;
  }

  /** Paragraphs, lists and fenced code. */
  #text(text: string, entry: Entry, file: string): string {
    return text
      .split(/^(```.*?^```$)/gms)
      .map((part) => (part.startsWith('```') ? part : this.#inline(part.trim(), entry, file)))
      .filter((part) => part !== '')
      .join('\n\n');
  }

  /** Text with code and links. */
  #inline(text: string, entry: Entry, file: string): string {
    return text
      .split(/(`[^`]+`|\{@link[^}]*\}|https?:\/\/[^\s)`]*[\w/])/)
      .map((part) => {
        if (part.startsWith('`') && part.length > 1) return part.replaceAll(/\s+/g, ' ');
        if (/^https?:/.test(part)) return `[${escaped(part)}](${part})`;
        const [, name = '', shown = name] = /^\{@link\s+([^\s|}]+)\s*(?:\|\s*([^}]*?)\s*)?\}$/.exec(part) ?? [];
        if (name === '') return escaped(part);
        const item = find(this.#api, entry, name);
        return item === undefined ? `\`${shown}\`` : `[\`${shown}\`](${this.#address(item, file)})`;
      })
      .join('');
  }
}

const joined = (parts: readonly string[]): string => `${parts.filter((part) => part !== '').join('\n\n')}\n`;

/** An address without its file, if the page is that file. */
const within = (file: string, address: string): string =>
  address.startsWith(`${file}#`) ? address.slice(file.length) : address;

/** The text of a list item: further lines are indented. */
const indented = (text: string): string => text.replaceAll(/\n(?!\n)/g, '\n  ');

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
