/**
 * The options of the public API, as the compiler sees them: each function, constructor and method with a parameter for
 * options, and the names of its options.
 */
import { fileURLToPath } from 'node:url';
import ts from 'typescript-5';
import { entryPoints } from '../support/entry-points.js';

/** The parameters that hold options, by their names in the source. */
const PARAMETERS = new Set(['options', 'settings', 'limits']);

/** The kinds of exports that have calls. A function with methods is a variable. */
const CALLABLE: ts.SymbolFlags =
  ts.SymbolFlags.Function | ts.SymbolFlags.Class | ts.SymbolFlags.Interface | ts.SymbolFlags.Variable;

/** The options of one call. */
export interface CallOptions {
  /** `Throttle.acquire(options)`: the function or the class with its method, and the parameter. */
  readonly call: string;
  /** The names of the options. */
  readonly names: readonly string[];
  /** The names that are marked as `@internal`. */
  readonly internal: readonly string[];
}

/** All calls with options, sorted by name. The overloads of one function count as one call. */
export function readCallOptions(): CallOptions[] {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const files = Object.values(entryPoints).map((file) => `${root}${file}`);
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, (path) => ts.sys.readFile(path)) as { config: object };
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files }, ts.sys, root);
  const program = ts.createProgram(files, options);
  const checker = program.getTypeChecker();
  const found = new Map<string, Map<string, boolean>>();

  const addType = (call: string, possibleType: ts.Type): void => {
    const type = checker.getNonNullableType(possibleType);
    const names = found.get(call) ?? new Map<string, boolean>();
    for (const each of type.isUnion() ? type.types : [type]) {
      for (const property of checker.getPropertiesOfType(each)) {
        names.set(
          property.name,
          property.getJsDocTags(checker).some((tag) => tag.name === 'internal'),
        );
        if (property.name !== 'also') continue;
        const rates = checker.getNonNullableType(checker.getTypeOfSymbol(property));
        addType(`${call}.also[0]`, checker.getIndexTypeOfType(rates, ts.IndexKind.Number) as ts.Type);
      }
    }
    found.set(call, names);
  };
  const addSignature = (name: string, signature: ts.Signature): void => {
    for (const parameter of signature.getParameters())
      if (PARAMETERS.has(parameter.name)) addType(`${name}(${parameter.name})`, checker.getTypeOfSymbol(parameter));
  };
  for (const file of files) {
    const module = checker.getSymbolAtLocation(program.getSourceFile(file) as ts.SourceFile) as ts.Symbol;
    for (const exported of checker.getExportsOfModule(module)) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      if (!(symbol.flags & CALLABLE)) continue;
      const type = checker.getTypeOfSymbol(symbol);
      for (const signature of type.getCallSignatures()) addSignature(exported.name, signature);
      for (const signature of type.getConstructSignatures()) addSignature(`new ${exported.name}`, signature);
      for (const member of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol)))
        if (!member.name.includes('#'))
          for (const signature of checker.getTypeOfSymbol(member).getCallSignatures())
            addSignature(`${exported.name}.${member.name}`, signature);
    }
  }
  return [...found]
    .map(([call, names]) => ({
      call,
      names: [...names.keys()],
      internal: [...names].filter(([, isInternal]) => isInternal).map(([name]) => name),
    }))
    .toSorted((a, b) => (a.call < b.call ? -1 : 1));
}
