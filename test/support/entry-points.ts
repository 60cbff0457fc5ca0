/** The entry points of the package, read from the `exports` of package.json: the one list that every tool uses. */
import { readFileSync } from 'node:fs';

const { exports } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  exports: Record<string, string | { import: { default: string } }>;
};

/** The source file of each entry point, by the name that users import: `headgate/fetch` is `src/fetch/index.ts`. */
export const entryPoints: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(exports).flatMap(([path, target]) =>
    typeof target === 'string'
      ? []
      : [[`headgate${path.slice(1)}`, target.import.default.replace('./dist/', 'src/').replace(/\.js$/, '.ts')]],
  ),
);
