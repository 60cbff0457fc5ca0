/**
 * Two builds of `Throttle` for measuring what events cost without subscribers: one as it is, and one whose
 * `EventPublisher` has empty methods. Both builds are made here, in the same way.
 */
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';
import type { Throttle } from 'headgate';

const source = (path: string): string => fileURLToPath(new URL(`../../src/core/${path}`, import.meta.url));
const EVENTS = source('events.ts');

export async function throttleWithEvents(): Promise<typeof Throttle> {
  return loadThrottle();
}

/** Fails if `Throttle` no longer gets its `EventPublisher` from `src/core/events.ts`. */
export async function throttleWithoutEvents(): Promise<typeof Throttle> {
  const { EventPublisher } = (await import(await bundle(EVENTS))) as { EventPublisher?: { prototype: object } };
  if (EventPublisher === undefined) throw new Error(`${EVENTS} exports no EventPublisher`);
  const methods = Object.getOwnPropertyNames(EventPublisher.prototype).filter((name) => name !== 'constructor');
  if (methods.length === 0) throw new Error('EventPublisher has no methods');
  let replaced = false;
  const plugin: Plugin = {
    name: 'without-events',
    setup: (bundling) =>
      bundling.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        if (path !== EVENTS) return undefined;
        replaced = true;
        return { contents: `export class EventPublisher { ${methods.map((name) => `${name}() {}`).join(' ')} }` };
      }),
  };
  const built = await loadThrottle(plugin);
  if (!replaced) throw new Error(`Throttle does not import ${EVENTS}: the build without events has events`);
  return built;
}

async function loadThrottle(...plugins: Plugin[]): Promise<typeof Throttle> {
  return ((await import(await bundle(source('throttle.ts'), ...plugins))) as { Throttle: typeof Throttle }).Throttle;
}

/** Bundles a file, and returns the bundle as a URL that can be imported. */
async function bundle(file: string, ...plugins: Plugin[]): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [file],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    plugins,
  });
  return `data:text/javascript,${encodeURIComponent(outputFiles[0]?.text ?? '')}`;
}
