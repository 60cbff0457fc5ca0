/** The search of the site, by keyboard. */
import { open } from './pages.js';
import { type Site, STEP_MS, withPage } from './playwright.js';

/** Searches for a word and for a symbol, and returns the failures. */
export async function checkSearch(site: Site): Promise<string[]> {
  const failures: string[] = [];
  for (const [word, target] of [
    ['sliding window', /\/(?:index|core|testing|playground|api)/],
    ['estimateWait', /\/api\/headgate\.html#\w+\.estimateWait$|\/core/],
  ] as const)
    failures.push(
      ...(await withPage(site, `the search for ${word}`, async (page, fail) => {
        await open(page, `${site.url}http.html`);
        await page.keyboard.press('Control+k');
        await page.waitForFunction(`document.activeElement?.tagName === 'INPUT'`, undefined, { timeout: STEP_MS });
        await page.keyboard.type(word);
        // While the word is typed, the site shows the results for a part of the word.
        const selected = `document.querySelector('.VPLocalSearchBox .result.selected')?.href ?? ''`;
        await page.waitForFunction(`${target}.test(${selected})`, undefined, { timeout: STEP_MS }).catch(async () => {
          fail(`selects ${String(await page.evaluate(selected))}`);
        });
        await page.keyboard.press('Enter');
        await page.waitForFunction(`!location.pathname.includes('http')`, undefined, { timeout: STEP_MS });
        if (!target.test(page.url())) fail(`led to ${page.url()}`);
      })),
    );
  return failures;
}
