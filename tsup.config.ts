import { defineConfig, type Options } from 'tsup';
import { commonJsCopy } from './test/support/commonjs-copy.js';
import { luaForEsbuild } from './test/support/lua-loader.js';
import { entryPoints } from './test/support/entry-points.js';

const common: Options = { format: 'esm', target: 'es2022', clean: true, esbuildPlugins: [luaForEsbuild] };

const config: ReturnType<typeof defineConfig> = defineConfig([
  {
    ...common,
    entry: Object.values(entryPoints),
    outDir: 'dist',
    platform: 'neutral',
    plugins: [commonJsCopy('dist', 'dist/cjs')],
  },
  // The demo and the bench contain headgate. They import the peers from bench/node_modules.
  {
    ...common,
    entry: { demo: 'bench/demo.ts', bench: 'bench/index.ts', upstream: 'bench/upstream.ts' },
    platform: 'node',
    outDir: 'bench/.out',
    noExternal: [/^headgate/],
    skipNodeModulesBundle: true,
  },
]);

export default config;
