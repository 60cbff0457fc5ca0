/**
 * What the package promises, by the declarations that `npm run build` writes: every symbol of every entry point, with
 * its doc comment, as API Extractor reads them. It brings a TypeScript of its own, since ours has no programs for that.
 * `faults` says what a reader would miss.
 *
 * Strictly read: each symbol has a comment of its own, each overload, and each member of a class or an interface,
 * whether or not it implements or overrides one that has. A constructor may do with the words on its parameters. The
 * members of an object type that is written within another declaration belong to the comment of that declaration;
 * under a name of its own it has to be an interface, so that each of them can have one.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Extractor } from '@microsoft/api-extractor';
import { configOf, withDeclarations } from './declarations.js';

/** A piece of a declaration's text. One that names another symbol has its canonical reference. */
export interface Token {
  text: string;
  canonicalReference?: string;
}

/** A symbol, or a member of one. */
export interface Item {
  kind: string;
  name?: string;
  canonicalReference: string;
  docComment?: string;
  excerptTokens?: Token[];
  members?: Item[];
  parameters?: { parameterName: string }[];
  /** From 1 up, for what can be overloaded. */
  overloadIndex?: number;
  /** Where it is declared, if it is no member. */
  fileUrlPath?: string;
}

/** An entry point of package.json's `exports`. */
export interface Entry {
  /** What is imported, such as `headgate/fetch`. */
  name: string;
  items: Item[];
}

/** All entry points. */
export interface Api {
  name: string;
  version: string;
  entries: Entry[];
  /** What exported declarations name without exporting it. */
  unexported: Item[];
  /** What is wrong with the syntax of comments, in API Extractor's words. */
  malformed: string[];
}

/** A doc comment, taken apart. */
export interface Comment {
  summary: string;
  /** In their order, each with its text: `@param x - the x` has the tag `@param`. */
  blocks: { tag: string; text: string }[];
}

/** A constructor without a summary is given this one by API Extractor. */
const MADE_UP = /^Constructs a new instance of the `?.*?`? class$/;
/**
 * The messages that count: the compiler's, and what is wrong with a comment, but for what only TSDoc minds: no hyphen
 * after a parameter's name, and `<` and `>` as what they are. Links are looked up here: TSDoc does not look into namespaces.
 */
const COUNTED = /^(?:TS\d|tsdoc-(?!param-tag-missing-hyphen|escape-greater-than|.*html))/;

/** Reads the entry points of the package in the folder `root`, which has been built. */
export function readApi(root: string): Api {
  return withDeclarations(root, (declarations) => {
    const { folder, name, version, entryPoints } = declarations;
    // One program with a namespace per entry point, so that each declaration can refer to what the others export.
    const lines = entryPoints.map(
      ({ file }, index) =>
        `import * as entry${index} from '${file.replace(/\.d\.ts$/, '.js')}';\nexport { entry${index} };\n`,
    );
    writeFileSync(join(folder, 'entries.d.ts'), lines.join(''));

    const malformed: string[] = [];
    const apiJsonFilePath = join(folder, 'api.json');
    const docModel = { enabled: true, apiJsonFilePath, includeForgottenExports: true };
    Extractor.invoke(configOf(declarations, 'entries.d.ts', { docModel }), {
      messageCallback: (message) => {
        message.handled = true;
        const { messageId, text, sourceFilePath = '' } = message;
        if (COUNTED.test(messageId))
          malformed.push(`${sourceFilePath.replace(`${folder}/`, '')}: ${messageId}: ${text}`);
      },
    });
    const model = JSON.parse(readFileSync(apiJsonFilePath, 'utf8')) as { members: [Item] };
    const all = model.members[0].members ?? [];
    const entries = entryPoints.map((entryPoint, index) => ({
      name: entryPoint.name,
      items: all.find((item) => item.name === `entry${index}`)?.members ?? [],
    }));
    // An item that only a namespace exports appears here a second time, possibly by another name.
    const exported = new Set(entries.flatMap(({ items }) => items.map(declarationOf)));
    const unexported = all.filter((item) => item.kind !== 'Namespace' && !exported.has(declarationOf(item)));
    return { name, version, entries, unexported, malformed };
  });
}

/** The file and the text of an item's declaration, which identify the declaration. */
function declarationOf({ fileUrlPath = '', excerptTokens = [] }: Item): string {
  return `${fileUrlPath} ${excerptTokens.map(({ text }) => text).join('')}`;
}

/** Takes the comment of an item apart. What a constructor's says without words of its own is left out. */
export function commentOf(item: Item): Comment {
  const text = (item.docComment ?? '')
    .replace(/^\/\*\*\s*/, '')
    .replace(/\s*\*\/\s*$/, '')
    .replaceAll(/^[ \t]*\* ?/gm, '');
  const parts: { tag: string; lines: string[] }[] = [{ tag: '', lines: [] }];
  let fenced = false;
  for (const line of text.split('\n')) {
    if (line.startsWith('```')) fenced = !fenced;
    const [, tag, rest = ''] = (fenced ? undefined : /^(@\w+)\s?(.*)$/.exec(line)) ?? [];
    if (tag === undefined) parts.at(-1)?.lines.push(line);
    else parts.push({ tag, lines: [rest] });
  }
  const [first, ...blocks] = parts.map(({ tag, lines }) => ({ tag, text: lines.join('\n').trim() }));
  const summary = (first?.text ?? '').replace(/\{@inheritDoc[^}]*\}/, '');
  return { summary: item.kind === 'Constructor' && MADE_UP.test(summary) ? '' : summary, blocks };
}

/** The names that a comment refers to by `{@link name}`, outside of code. */
export function linksIn(text: string): string[] {
  const prose = text.replaceAll(/^```.*?^```/gms, '').replaceAll(/`[^`]*`/g, '');
  return [...prose.matchAll(/\{@link\s+([^\s|}]+)/g)].map(([, name]) => name ?? '');
}

/** The item called `Symbol` or `Symbol.member`: in `entry` first, then in the others. */
export function find(api: Api, entry: Entry | undefined, name: string): Item | undefined {
  const [symbol, ...path] = name.split('.');
  for (const { items } of [...(entry ? [entry] : []), ...api.entries, { items: api.unexported }]) {
    let found = items.find((item) => item.name === symbol);
    for (const part of path) found = found?.members?.find((item) => item.name === part);
    if (found) return found;
  }
  return undefined;
}

/** What readers of the reference would miss, a line each: which symbol, and what is wrong with it. */
export function faults(api: Api): string[] {
  const found = [...api.malformed];
  const look = (entry: Entry | undefined, item: Item, where: string): void => {
    const name = item.name ?? (item.kind === 'Constructor' ? 'constructor' : item.kind);
    const path = `${where}${name}${(item.overloadIndex ?? 1) > 1 ? ` (overload ${item.overloadIndex})` : ''}`;
    const { summary, blocks } = commentOf(item);
    const parameters = blocks.filter(({ tag }) => tag === '@param').map(({ text }) => /^\w*/.exec(text)?.[0] ?? '');
    if (summary === '' && !(item.kind === 'Constructor' && parameters.length > 0)) found.push(`${path}: no comment`);
    for (const parameter of parameters) {
      if (item.parameters?.some(({ parameterName }) => parameterName === parameter) !== true)
        found.push(`${path}: @param ${parameter}, which it does not have`);
    }
    for (const link of linksIn(item.docComment ?? '')) {
      if (find(api, entry, link) === undefined) found.push(`${path}: {@link ${link}} leads nowhere`);
    }
    const tokens = item.excerptTokens ?? [];
    if (
      tokens.some(
        (token) =>
          token.canonicalReference === undefined && /\bany\b/.test(token.text.replaceAll(/'[^']*'|"[^"]*"/g, '')),
      )
    )
      found.push(`${path}: any`);
    if (item.kind === 'TypeAlias' && /=\s*\{/.test(tokens.map(({ text }) => text).join('')))
      found.push(`${path}: an object type, whose members have comments in an interface only`);
    for (const member of item.members ?? []) look(entry, member, `${path}.`);
  };
  for (const entry of api.entries) {
    if (entry.items.length === 0) found.push(`${entry.name}: exports nothing`);
    for (const item of entry.items) look(entry, item, `${entry.name}: `);
  }
  for (const item of api.unexported) look(undefined, item, 'not exported: ');
  return found;
}
