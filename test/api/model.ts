/**
 * The API of the package: every symbol of every entry point with its doc comment, as API Extractor reads the built
 * declarations. `faults` lists the missing and the wrong comments.
 *
 * The rule is strict. Each symbol, each overload, and each member of a class or an interface has a comment of its own,
 * also if it implements or overrides a member that has one. A constructor needs only the comments of its parameters.
 * The comment of a declaration covers the members of an object type inside the declaration. An object type with a name
 * has to be an interface, so that each member can have a comment.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Extractor } from '@microsoft/api-extractor';
import { configOf, withDeclarations } from './declarations.js';

/** A piece of a declaration's text, with a canonical reference if the piece names another symbol. */
export interface Token {
  text: string;
  canonicalReference?: string;
}

/** A symbol, or a member of a symbol. */
export interface Item {
  kind: string;
  name?: string;
  canonicalReference: string;
  docComment?: string;
  excerptTokens?: Token[];
  members?: Item[];
  parameters?: { parameterName: string }[];
  /** Counts the overloads of a function or a method from 1. */
  overloadIndex?: number;
  /** The file of the declaration. A member has none. */
  fileUrlPath?: string;
}

/** An entry point of package.json's `exports`. */
export interface Entry {
  /** The name that users import, such as `headgate/fetch`. */
  name: string;
  items: Item[];
}

/** All entry points. */
export interface Api {
  name: string;
  version: string;
  entries: Entry[];
  /** The types that exported declarations use and no entry point exports. */
  unexported: Item[];
  /** API Extractor's messages about the syntax of comments. */
  malformed: string[];
}

/** The parts of a doc comment. */
export interface Comment {
  summary: string;
  /** The tags in their order, each with its text: `@param x - the x` has the tag `@param`. */
  blocks: { tag: string; text: string }[];
}

/** API Extractor invents this summary for a constructor without one. */
const INVENTED = /^Constructs a new instance of the `?.*?`? class$/;
/**
 * The messages that are faults: those of the compiler and those about comments. Three rules of TSDoc are exempt: the
 * hyphen after a parameter's name, and escapes for `<` and `>`. `faults` checks links, because TSDoc does not read
 * namespaces.
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

/** Splits the comment of an item into its parts. An invented summary of a constructor is empty. */
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
  return { summary: item.kind === 'Constructor' && INVENTED.test(summary) ? '' : summary, blocks };
}

/** The names in the `{@link name}` of a comment, outside of code. */
export function linksIn(text: string): string[] {
  const prose = text.replaceAll(/^```.*?^```/gms, '').replaceAll(/`[^`]*`/g, '');
  return [...prose.matchAll(/\{@link\s+([^\s|}]+)/g)].map(([, name]) => name ?? '');
}

/** Finds the item named `Symbol` or `Symbol.member`, in `entry` first and then in the other entry points. */
export function find(api: Api, entry: Entry | undefined, name: string): Item | undefined {
  const [symbol, ...path] = name.split('.');
  for (const { items } of [...(entry ? [entry] : []), ...api.entries, { items: api.unexported }]) {
    let found = items.find((item) => item.name === symbol);
    for (const part of path) found = found?.members?.find((item) => item.name === part);
    if (found) return found;
  }
  return undefined;
}

/** The faults of the comments: a line for each, with the symbol and the problem. */
export function faults(api: Api): string[] {
  const found = [...api.malformed];
  const check = (entry: Entry | undefined, item: Item, where: string): void => {
    const name = item.name ?? (item.kind === 'Constructor' ? 'constructor' : item.kind);
    const path = `${where}${name}${(item.overloadIndex ?? 1) > 1 ? ` (overload ${item.overloadIndex})` : ''}`;
    const { summary, blocks } = commentOf(item);
    const parameters = blocks.filter(({ tag }) => tag === '@param').map(({ text }) => /^\w*/.exec(text)?.[0] ?? '');
    if (summary === '' && !(item.kind === 'Constructor' && parameters.length > 0)) found.push(`${path}: no comment`);
    for (const parameter of parameters) {
      if (item.parameters?.some(({ parameterName }) => parameterName === parameter) !== true)
        found.push(`${path}: @param ${parameter} names no parameter`);
    }
    for (const link of linksIn(item.docComment ?? '')) {
      if (find(api, entry, link) === undefined) found.push(`${path}: {@link ${link}} has no target`);
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
      found.push(`${path}: an object type: only an interface has comments on members`);
    for (const member of item.members ?? []) check(entry, member, `${path}.`);
  };
  for (const entry of api.entries) {
    if (entry.items.length === 0) found.push(`${entry.name}: exports nothing`);
    for (const item of entry.items) check(entry, item, `${entry.name}: `);
  }
  for (const item of api.unexported) check(undefined, item, 'not exported: ');
  return found;
}
