/** The used part of playwright-core, and pages that reach only this machine. */

export interface Browser {
  version(): string;
  newContext(options: object): Promise<Context>;
  close(): Promise<void>;
}

export interface Context {
  route(url: string | RegExp | ((url: URL) => boolean), handler: (route: Route) => Promise<void>): Promise<void>;
  newPage(): Promise<Page>;
  close(): Promise<void>;
}

interface Route {
  abort(): Promise<void>;
  request(): { url(): string };
}

export interface Page {
  readonly keyboard: { press(key: string): Promise<void>; type(text: string): Promise<void> };
  goto(url: string, options?: object): Promise<unknown>;
  url(): string;
  on(event: 'console', listener: (message: { type(): string; text(): string }) => void): void;
  on(event: 'pageerror', listener: (error: Error) => void): void;
  on(event: 'requestfailed', listener: (request: { url(): string }) => void): void;
  on(event: 'dialog', listener: (dialog: { dismiss(): Promise<void> }) => void): void;
  evaluate<T>(code: string): Promise<T>;
  waitForFunction(code: string, argument?: undefined, options?: object): Promise<unknown>;
  setViewportSize(size: { width: number; height: number }): Promise<void>;
  emulateMedia(media: object): Promise<void>;
  addStyleTag(style: { content: string }): Promise<unknown>;
  screenshot(options: object): Promise<unknown>;
  getByRole(role: string, options: { name: string | RegExp; exact?: boolean }): Locator;
  locator(selector: string): Locator;
}

export interface Locator {
  count(): Promise<number>;
  click(): Promise<void>;
  textContent(): Promise<string | null>;
  getAttribute(name: string): Promise<string | null>;
}

/** The site under test. */
export interface Site {
  readonly browser: Browser;
  readonly url: string;
  /** The folder for screenshots. */
  readonly screenshots: string | undefined;
}

/** The limit for one step of a page, on a busy machine. */
export const STEP_MS = 20_000;

/** Opens a page in a context of its own, and calls `use`. Returns the failures: errors of the page, then those of `use`. */
export async function withPage(
  { browser }: Site,
  name: string,
  use: (page: Page, fail: (what: string) => void) => Promise<void>,
): Promise<string[]> {
  const failures: string[] = [];
  const fail = (what: string): void => void failures.push(`${name}: ${what}`);
  const context = await browser.newContext({ reducedMotion: 'reduce', viewport: { width: 1280, height: 900 } });
  try {
    await context.route(
      ({ hostname }) => hostname !== '127.0.0.1',
      async (route) => {
        fail(`a request outside of this machine: ${route.request().url()}`);
        await route.abort();
      },
    );
    const page = await context.newPage();
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) fail(`the console shows: ${message.text()}`);
    });
    page.on('pageerror', (error) => fail(`an error: ${error.message}`));
    page.on('requestfailed', (request) => fail(`a request failed: ${request.url()}`));
    page.on('dialog', (dialog) => {
      fail('a dialog opened');
      void dialog.dismiss();
    });
    await use(page, fail);
  } catch (error) {
    fail((error as Error).message.split('\n').slice(0, 4).join(' '));
  } finally {
    await context.close();
  }
  return failures;
}
