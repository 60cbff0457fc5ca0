/** Bundles the soak with the sources. The packages stay outside. */
import { defineConfig } from 'tsup';
import { luaForEsbuild } from '../support/lua-loader.js';

const config: ReturnType<typeof defineConfig> = defineConfig({
  entry: { soak: 'test/soak/index.ts', worker: 'test/soak/fleet/worker.ts' },
  splitting: false,
  outDir: 'test/soak/.out',
  format: 'esm',
  target: 'node20',
  platform: 'node',
  sourcemap: true,
  silent: true,
  noExternal: [/^headgate/],
  skipNodeModulesBundle: true,
  esbuildPlugins: [luaForEsbuild],
});

export default config;
