/**
 * The public names of a package, read from its type declarations: options, methods, properties, parameters and events.
 */
import { readFileSync } from 'node:fs';
import ts from 'typescript-5';

const isHidden = (node: ts.Node): boolean =>
  ts.canHaveModifiers(node) &&
  (ts.getModifiers(node) ?? []).some(
    ({ kind }) => kind === ts.SyntaxKind.PrivateKeyword || kind === ts.SyntaxKind.ProtectedKeyword,
  );

/**
 * Collects the names that the declaration file at `path` declares. Methods of interfaces and classes, properties of
 * types, the destructured options of functions, and string literals, which are the names of events and values.
 */
export function membersOf(path: string): Set<string> {
  const names = new Set<string>();
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);
  const visit = (node: ts.Node): void => {
    if (isHidden(node)) return;
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return;
    const named =
      ts.isPropertySignature(node) ||
      ts.isMethodSignature(node) ||
      ts.isMethodDeclaration(node) ||
      ts.isPropertyDeclaration(node) ||
      ts.isAccessor(node) ||
      ts.isBindingElement(node) ||
      ts.isFunctionDeclaration(node) ||
      ts.isClassDeclaration(node) ||
      ts.isEnumMember(node) ||
      (ts.isVariableDeclaration(node) && ts.isSourceFile(node.parent.parent.parent));
    if (named && node.name !== undefined && !ts.isPrivateIdentifier(node.name)) {
      const name = node.name.getText();
      if (/^\w+$/.test(name)) names.add(name);
    }
    if (ts.isLiteralTypeNode(node) && ts.isStringLiteral(node.literal) && /^\w+$/.test(node.literal.text)) {
      names.add(node.literal.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return names;
}
