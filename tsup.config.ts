import { defineConfig, type Options } from 'tsup';

const common: Options = { format: 'esm', target: 'es2022', clean: true };

const config: ReturnType<typeof defineConfig> = defineConfig([
  { ...common, entry: { index: 'src/index.ts', fetch: 'src/fetch.ts', 'http/index': 'src/http/index.ts', 'redis/index': 'src/redis/index.ts', otel: 'src/otel.ts', testing: 'src/testing.ts' }, platform: 'neutral' },
  // The demo and the bench contain headgate as it is built; the peers are found in bench/node_modules.
  { ...common, entry: { demo: 'bench/demo.ts', bench: 'bench/index.ts', upstream: 'bench/upstream.ts' }, platform: 'node', outDir: 'bench/.out', noExternal: [/^headgate/], skipNodeModulesBundle: true },
]);

export default config;
