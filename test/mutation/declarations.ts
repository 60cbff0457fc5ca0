/** Finds the declaration that encloses a place in a source file: a name that stays when lines move. */
import ts from 'typescript-5';

/** A position as Stryker reports it: both numbers start at 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** The name of a place outside every named declaration. */
export const MODULE = '(module)';

const textOf = (name: ts.Node | undefined): string | undefined =>
  name !== undefined &&
  (ts.isIdentifier(name) ||
    ts.isPrivateIdentifier(name) ||
    ts.isStringLiteralLike(name) ||
    ts.isComputedPropertyName(name))
    ? name.getText()
    : undefined;

const isFunctionOrClass = (node: ts.Node | undefined): boolean =>
  node !== undefined && (ts.isFunctionLike(node) || ts.isClassLike(node));

/** The name that `node` gives to the code inside it, if it gives one. */
function nameOf(node: ts.Node): string | undefined {
  if (ts.isConstructorDeclaration(node)) return 'constructor';
  if (ts.isFunctionDeclaration(node) || ts.isClassLike(node) || ts.isClassElement(node) || ts.isMethodDeclaration(node))
    return textOf(node.name);
  if (ts.isGetAccessor(node) || ts.isSetAccessor(node)) return textOf(node.name);
  if (ts.isPropertyAssignment(node)) return isFunctionOrClass(node.initializer) ? textOf(node.name) : undefined;
  // A variable of the module has a stable name. A local variable counts only where it holds a function or a class.
  if (ts.isVariableDeclaration(node)) {
    const atModuleLevel = ts.isSourceFile(node.parent.parent.parent);
    return atModuleLevel || isFunctionOrClass(node.initializer) ? textOf(node.name) : undefined;
  }
  return undefined;
}

/** Returns a function that names the declarations around a position, outermost first: `mapItems.onAbort`. */
export function declarationsOf(source: string): (position: Position) => string {
  const file = ts.createSourceFile('source.ts', source, ts.ScriptTarget.Latest, true);
  return ({ line, column }) => {
    const offset = file.getPositionOfLineAndCharacter(line - 1, column - 1);
    const names: string[] = [];
    const visit = (node: ts.Node): void => {
      if (offset < node.getStart() || offset >= node.end) return;
      const name = nameOf(node);
      if (name !== undefined) names.push(name);
      ts.forEachChild(node, visit);
    };
    ts.forEachChild(file, visit);
    return names.join('.') || MODULE;
  };
}
