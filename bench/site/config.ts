/** The configuration of VitePress for the site that build.ts prepares. */
import { resolve } from 'node:path';
import { defineConfig, type DefaultTheme, type UserConfig } from 'vitepress';
import { slugify } from './chapters.js';

/** What the configuration needs to know of the prepared pages. */
export interface Site {
  readonly description: string;
  readonly sidebar: DefaultTheme.SidebarItem[];
  /** The folder of the repository. */
  readonly root: string;
  /** The folder of the finished site. */
  readonly outDir: string;
  /** The path at which a server serves the site, with a slash at both ends. */
  readonly base: string;
  /** The built file of each entry point, by the name that users import. */
  readonly entryPoints: Readonly<Record<string, string>>;
}

/** The configuration of the site. */
export function configure({
  description,
  sidebar,
  root,
  outDir,
  base,
  entryPoints,
}: Site): UserConfig<DefaultTheme.Config> {
  return defineConfig({
    title: 'headgate',
    description,
    lang: 'en',
    base,
    outDir,
    head: [['link', { rel: 'icon', href: 'data:,' }]],
    markdown: {
      anchor: { slugify },
      // Themes with a contrast of at least 4.5 on the background of code.
      theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
    },
    themeConfig: {
      nav: [
        { text: 'Guide', link: '/' },
        { text: 'API', link: '/api/' },
        { text: 'Playground', link: '/playground' },
        { text: 'Changes', link: '/changelog' },
      ],
      sidebar,
      outline: [2, 3],
      search: { provider: 'local' },
    },
    vite: {
      logLevel: 'warn',
      // Longer names first: `headgate/testing` also starts with `headgate`.
      resolve: {
        alias: Object.entries(entryPoints)
          .toSorted(([a], [b]) => b.length - a.length)
          .map(([find, file]) => ({ find, replacement: resolve(root, file) })),
      },
      // The search index contains every chapter.
      build: { chunkSizeWarningLimit: 2_000 },
    },
  });
}
