import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';
import { defineConfig } from 'vitest/config';
import { luaForVitest } from './test/support/lua-loader.js';
import { entryPoints } from './test/support/entry-points.js';
import { retriedTests } from './test/support/retried-tests.js';

const source = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const config: ReturnType<typeof defineConfig> = defineConfig({
  plugins: [
    luaForVitest,
    {
      // Node 20 has no decorators, and vite does not translate them. The decorators of Nest are those of TypeScript.
      name: 'decorators',
      enforce: 'pre',
      transform: (code, id) =>
        /^\s*@\w+[.(]|\(@\w+\(/m.test(code) && id.endsWith('.ts')
          ? transform(code, {
              loader: 'ts',
              target: 'es2022',
              sourcemap: 'inline',
              sourcefile: id,
              tsconfigRaw: {
                compilerOptions: { experimentalDecorators: /from '(@nestjs\/\w+|headgate\/nest)'/.test(code) },
              },
            })
          : undefined,
    },
  ],
  resolve: {
    alias: Object.entries(entryPoints).map(([name, file]) => ({
      find: new RegExp(`^${name}$`),
      replacement: source(file),
    })),
  },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: source('test/support/global-setup.ts'),
    setupFiles: source('test/support/worker-setup.ts'),
    // A busy machine takes several times as long as a quiet one.
    testTimeout: 150_000,
    // Hooks start several servers at a time.
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    // Two workers suffice, because many tests mostly wait.
    maxWorkers: 2,
    // Tests with servers and processes run in real time, and a busy machine can delay them. So a failed test runs
    // again, after a pause, because the machine may stay busy for seconds.
    retry: { count: 2, delay: 2_000 },
    reporters: ['default', retriedTests],
    execArgv: ['--expose-gc'],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      reporter: ['text', 'json-summary'],
      thresholds: { lines: 98, branches: 98, functions: 98, statements: 98 },
    },
  },
});

export default config;
