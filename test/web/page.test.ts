import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Browser, Page } from 'playwright-core';
import type { Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage } from '../machines/service.ts';
import { offline } from '../machines/support.ts';
import { logIn, makeUsers, makeWebHost, openBrowser } from './web-host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

let host: Host;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  host = await makeWebHost('web');
  await host.createContainer('web', 'busybox', { config: offline });
  await host.boot();
  await configurePackage(host);
  await makeUsers(host, { keeper: 'users' });
  browser = await openBrowser(host);
  page = await logIn(browser, 'root');
});
afterAll(async () => {
  await browser.close();
  await host.close();
});
attachJournalOnFailure(() => host);

test('the table has the containers', async () => {
  const row = page.getByRole('row', { name: /web/ });
  await row.waitFor();
  await page.screenshot({ path: '/tmp/cockpit-shot.png' });
  expect(await row.innerText()).toContain('Stopped');
});
