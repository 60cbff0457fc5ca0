/** The configuration of all tests, restricted to the scene of this folder. */
import { defineConfig, type ViteUserConfig } from 'vitest/config';
import base from '../../../vitest.config.js';

const all = base as ViteUserConfig;

const config: ReturnType<typeof defineConfig> = defineConfig({
  ...all,
  test: { ...all.test, include: ['test/redis/interrupted/scene.ts'], retry: 0 },
});

export default config;
