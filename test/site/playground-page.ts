/** The playground in the browser: keyboard, labels, addresses, theme. */
import { open } from './pages.js';
import { type Page, type Site, STEP_MS, withPage } from './playwright.js';

const CODE = `document.querySelector('.pg code').textContent`;
const PICTURE = `document.querySelector('.pg-picture').innerHTML`;
const SLIDERS = ['capacity', 'concurrency', 'period', 'burst'];
const RADIOS = ['token bucket', 'sliding window', /^steady/, /^bursts/, /^heavy/];

const until = (page: Page, condition: string): Promise<unknown> =>
  page.waitForFunction(condition, undefined, { timeout: STEP_MS });

/** Presses Tab until `condition` holds for the focused element. */
async function tabTo(page: Page, condition: string): Promise<void> {
  for (let presses = 0; presses < 80; presses++) {
    if (await page.evaluate<boolean>(`(({ activeElement }) => ${condition})(document)`)) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`80 presses of Tab reach no element for which ${condition}`);
}

/** Uses the playground as a reader does, and returns the failures. */
export async function checkPlayground(site: Site): Promise<string[]> {
  const url = `${site.url}playground.html`;
  const check = (name: string, use: Parameters<typeof withPage>[2]): Promise<string[]> =>
    withPage(site, `the playground, ${name}`, use);
  return [
    ...(await check('keyboard', async (page, fail) => {
      await open(page, url);
      const before = await page.evaluate<string>(PICTURE);
      await tabTo(page, `activeElement.id === 'pg-capacity'`);
      await page.keyboard.press('ArrowRight');
      await until(page, `${CODE}.includes('new Throttle(5, 3)')`);
      await until(page, `location.search === '?capacity=5'`);
      if ((await page.evaluate<string>(PICTURE)) === before) fail('the picture is the same after a change');
      const output = await page.locator('.pg-slider output[for=pg-capacity]').textContent();
      if (output === null || !output.includes('5 tokens per period')) fail(`the output is ${output}`);
      const spoken = await page.locator('#pg-capacity').getAttribute('aria-valuetext');
      if (spoken !== '5 tokens per period') fail(`a screen reader speaks ${spoken}`);
      await tabTo(page, `activeElement.name === 'pg-window'`);
      await page.keyboard.press('ArrowDown');
      await until(page, `${CODE}.includes("window: 'sliding'")`);
      await tabTo(page, `activeElement.textContent.startsWith('Pause')`);
      const summary = await page.locator('.pg-summary').textContent();
      await page.keyboard.press('Enter');
      await until(page, `${CODE}.includes('gate.pause(2); // at 12 s')`);
      await until(page, `location.search.includes('time=16') && location.search.includes('pauses=12')`);
      await until(page, `${PICTURE}.includes('paused')`);
      if ((await page.locator('.pg-summary').textContent()) === summary) fail('the summary is the same after a pause');
      const shown = await page.evaluate<string>(PICTURE);
      await open(page, page.url());
      if ((await page.evaluate<string>(PICTURE)) !== shown) fail('its address shows another picture');
      await tabTo(page, `activeElement.textContent === 'Start over'`);
      await page.keyboard.press('Enter');
      await until(page, `!location.search.includes('pauses')`);
    })),
    ...(await check('labels', async (page, fail) => {
      await open(page, url);
      for (const name of SLIDERS)
        if ((await page.getByRole('slider', { name, exact: true }).count()) !== 1) fail(`no slider named ${name}`);
      for (const name of RADIOS)
        if ((await page.getByRole('radio', { name }).count()) !== 1) fail(`no choice named ${String(name)}`);
      for (const name of ['window', 'workload'])
        if ((await page.getByRole('group', { name, exact: true }).count()) !== 1) fail(`no group named ${name}`);
      if ((await page.getByRole('img', { name: /What the gate does/ }).count()) !== 1) fail('the picture has no name');
      const live = await page.locator('.pg-summary').getAttribute('role');
      if (live !== 'status') fail('the summary is not announced');
    })),
    ...(await check('a hostile address', async (page, fail) => {
      const query = new URLSearchParams({
        capacity: '1e308',
        concurrency: '-5',
        period: 'NaN',
        burst: '<img src=x onerror=alert(1)>',
        window: '__proto__',
        workload: '"><script>alert(1)</script>',
        time: '1e300',
        pauses: '1,'.repeat(2_000),
      });
      await open(page, `${url}?${query.toString()}`);
      const code = await page.evaluate<string>(CODE);
      if (!code.includes('new Throttle(20)')) fail(`the code is ${code}`);
      if ((await page.locator('.pg img, .pg script').count()) > 0) fail('markup of the address is in the page');
    })),
    ...(await check('the switch of the theme', async (page, fail) => {
      const fill = `getComputedStyle(document.querySelector('.pg-picture .page')).fill`;
      await page.emulateMedia({ colorScheme: 'light' });
      await open(page, url);
      const light = await page.evaluate<string>(fill);
      await page.evaluate(`document.querySelector('.VPSwitchAppearance').click()`);
      await until(page, `document.documentElement.classList.contains('dark')`);
      await until(page, `${fill} !== ${JSON.stringify(light)}`);
      if (light !== 'rgb(255, 255, 255)') fail(`the light picture is ${light}`);
    })),
  ];
}
