/**
 * The CommonJS build: a copy of every file of the ESM build. Jest, and every other tool that replaces `require`, cannot
 * load ESM.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import type { Options } from 'tsup';

type Plugin = NonNullable<Options['plugins']>[number];

/**
 * Makes each export a plain property. esbuild defines getters, which `jest.spyOn` cannot replace and which every call
 * between two files would run. No export is reassigned.
 */
const PLAIN_EXPORTS = `module.exports = Object.defineProperty({ ...module.exports }, "__esModule", { value: true });`;

/** The plugin for tsup. After a build to the folder `from`, it writes the CommonJS copies to the folder `to`. */
export const commonJsCopy = (from: string, to: string): Plugin => ({
  name: 'commonjs',
  async buildEnd({ writtenFiles }) {
    await build({
      entryPoints: writtenFiles.map(({ name }) => name).filter((name) => name.endsWith('.js')),
      outbase: from,
      outdir: to,
      format: 'cjs',
      target: 'es2022',
      // The names of the exports are listed for Node, which finds them without running the file.
      platform: 'node',
      // Jest has no `import()` without a flag, so an import on demand becomes `require` on demand.
      supported: { 'dynamic-import': false },
      footer: { js: PLAIN_EXPORTS },
      logLevel: 'warning',
    });
    await writeFile(join(to, 'package.json'), `${JSON.stringify({ type: 'commonjs' })}\n`);
  },
});
