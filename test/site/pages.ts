/** Every page on a narrow and on a wide screen in both themes: no error, no horizontal scroll, text with contrast. */
import { join } from 'node:path';
import { Throttle } from 'headgate';
import { contrast } from './contrast.js';
import { type Page, type Site, STEP_MS, withPage } from './playwright.js';

const WIDTHS = [360, 1280] as const;
const THEMES = ['light', 'dark'] as const;
/** More pages would only share the processors of a small machine. */
const PAGES_AT_A_TIME = 3;
/** The least contrast of text in WCAG 2.2, level AA. */
const LEAST_CONTRAST = 4.5;

/** The colours of one text, as the browser computes them. */
interface ShownText {
  readonly text: string;
  readonly colour: string;
  /** The background, whose layers are mixed. */
  readonly background: string;
}

/**
 * Code for the page: the distinct pairs of colours of all visible texts. A background that is partly transparent is
 * mixed with what is behind it. In an SVG, the rectangle of the page is the background.
 */
const COLLECT = `(() => {
  const parse = (colour) => {
    const [r = 0, g = 0, b = 0, a = 1] = (colour.match(/[\\d.]+/g) ?? []).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const show = (colour) => 'rgb(' + colour.slice(0, 3).map(Math.round).join(', ') + ')';
  const behind = (element) => {
    if (element === null) return [255, 255, 255, 1];
    const own = parse(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(element.parentElement));
  };
  const found = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement;
    const text = node.textContent.trim();
    if (text === '' || element.closest('script, style, noscript, title, desc, .visually-hidden') !== null) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const svg = element.closest('svg.headgate');
    const style = getComputedStyle(element);
    const background = svg === null ? behind(element) : parse(getComputedStyle(svg.querySelector('.page')).fill);
    const colour = over(parse(svg === null ? style.color : style.fill), background);
    const pair = { text: text.slice(0, 40), colour: show(colour), background: show(background) };
    found.set(pair.colour + pair.background, pair);
  }
  return [...found.values()];
})()`;

/** The elements that make the page wider than the screen. */
const WIDE = `(() => {
  const width = document.documentElement.clientWidth;
  if (document.scrollingElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll('body *')]
    .filter((element) => element.getBoundingClientRect().right > width + 1)
    .map((element) => element.tagName + '.' + element.className)
    .slice(0, 5);
})()`;

/** Opens all pages of the site, and returns the failures. */
export async function checkPages(site: Site, pages: readonly string[]): Promise<string[]> {
  const failures = await new Throttle(Infinity, PAGES_AT_A_TIME).map(pages, (name) =>
    withPage(site, name, async (page, fail) => {
      await open(page, `${site.url}${name}`);
      for (const width of WIDTHS) for (const theme of THEMES) await checkPage(site, page, name, width, theme, fail);
    }),
  );
  return [...new Set(failures.flat())];
}

/** Checks a page at one width in one theme. */
async function checkPage(
  site: Site,
  page: Page,
  name: string,
  width: (typeof WIDTHS)[number],
  theme: (typeof THEMES)[number],
  fail: (what: string) => void,
): Promise<void> {
  await page.setViewportSize({ width, height: width === 360 ? 780 : 900 });
  await page.emulateMedia({ colorScheme: theme });
  const applied = `document.documentElement.classList.contains('dark') === ${theme === 'dark'}`;
  await page.waitForFunction(applied, undefined, { timeout: STEP_MS });
  const wide = await page.evaluate<string[]>(WIDE);
  if (wide.length > 0) fail(`scrolls horizontally at ${width} px: ${wide.join(', ')}`);
  const texts = await page.evaluate<ShownText[]>(COLLECT);
  if (texts.length < 3) fail(`has ${texts.length} colours of text at ${width} px`);
  for (const { text, colour, background } of texts) {
    const found = contrast(colour, background);
    if (!(found >= LEAST_CONTRAST))
      fail(`a contrast of ${found.toFixed(2)} in the ${theme} theme: "${text}", ${colour} on ${background}`);
  }
  if (site.screenshots === undefined) return;
  await page.screenshot({
    path: join(site.screenshots, `${name.replaceAll('/', '-')}-${width}-${theme}.png`),
    clip: { x: 0, y: 0, width, height: width === 360 ? 1600 : 1100 },
    fullPage: true,
  });
}

/** Opens a page, and waits until its program runs. Transitions would show colours between two themes. */
export async function open(page: Page, url: string): Promise<void> {
  await page.goto(url, { timeout: STEP_MS, waitUntil: 'load' });
  await page.waitForFunction(`document.querySelector('#app')?.__vue_app__ !== undefined`, undefined, {
    timeout: STEP_MS,
  });
  if (url.includes('playground'))
    await page.waitForFunction(`document.querySelector('.pg-summary')?.textContent !== ''`, undefined, {
      timeout: STEP_MS,
    });
  await page.addStyleTag({ content: '*, *::before, *::after { transition: none !important }' });
}
