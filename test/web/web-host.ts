/** Hosts with Cockpit, and a browser in the network of one. */

import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeEach, expect } from 'vitest';
import { bootHost, type Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage } from '../machines/service.ts';
import { installPage } from '../machines/tree.ts';
import { closeNotices } from './views.ts';
import { ensureWebImage } from './web-image.mjs';

export const password = 'correct horse';
const port = 'http://localhost:9090';

/** A host with lockerd, Cockpit and the page, that is still off. */
export async function makeWebHost(name: string): Promise<Host> {
  const host = await bootHost({ name, boot: false, image: await ensureWebImage() });
  await installPage(host.root);
  return host;
}

/** Users who can log in, with the groups of each. */
async function makeUsers(host: Host, users: Readonly<Record<string, string>>) {
  for (const [user, groups] of Object.entries(users)) {
    await host.run('useradd', ['--create-home', '--shell', '/bin/bash', '--groups', groups, user]);
  }
  const lines = ['root', ...Object.keys(users)].map((user) => `${user}:${password}\n`);
  await host.run('chpasswd', [], { input: lines.join('') });
}

/** Chromium, which sees the host's network and this machine's files. */
async function openBrowser(host: Host): Promise<Browser> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-web-'));
  const program = path.join(directory, 'chromium');
  const enter = `nsenter --target ${host.leader} --net`;
  fs.writeFileSync(program, `#!/bin/sh\nexec ${enter} chromium "$@"\n`, { mode: 0o755 });
  const browser = await chromium.launch({
    executablePath: program,
    // Its own sandbox is not for root.
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  });
  browser.once('disconnected', () => {
    fs.rmSync(directory, { recursive: true });
  });
  return browser;
}

/** Where the page is by itself, outside Cockpit's shell. */
const alone = `${port}/cockpit/@localhost/lockerd/index.html`;

/** Logs in, and opens the page. */
export async function logIn(browser: Browser, user: string): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(30_000);
  // A colour on its way from light to dark is none that anybody reads.
  await context.addInitScript(`addEventListener('DOMContentLoaded', () => {
    const style = document.createElement('style');
    style.textContent = '* { transition: none !important; animation: none !important }';
    document.head.append(style);
  })`);
  const page = await context.newPage();
  await page.goto(alone);
  await page.locator('#login-user-input').fill(user);
  await page.locator('#login-password-input').fill(password);
  await page.locator('#login-button').click();
  await page.getByRole('navigation', { name: 'Views' }).waitFor({ timeout: 60_000 });
  return page;
}

/** Goes to a view of the page, such as `/lockers`. */
export async function show(page: Page, view: string): Promise<void> {
  await page.goto(`${alone}#${view}`);
}

const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe-core finds on the page as it is: the rule, and the elements that break it. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const found = await page.evaluate<Found[]>(
    "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations)",
  );
  return found.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html}: ${failureSummary}`),
  );
}

interface Found {
  readonly id: string;
  readonly nodes: readonly { readonly html: string; readonly failureSummary: string }[];
}

/** Where pictures of the page are, for people to look at. */
const pictures = path.resolve(import.meta.dirname, '../../dist/screenshots');

type Scheme = 'light' | 'dark';
const schemes: readonly Scheme[] = ['light', 'dark'];

async function takePicture(page: Page, name: string): Promise<void> {
  fs.mkdirSync(pictures, { recursive: true });
  const file = path.join(pictures, `${name}.png`);
  await page.screenshot({ path: file, animations: 'disabled' });
}

/** Makes a picture of the view as it is, in light and in dark, as high as what is on it. */
export async function takePictures(page: Page, name: string): Promise<void> {
  const size = page.viewportSize() ?? { width: 1280, height: 900 };
  const needed = await page.evaluate<number>("document.querySelector('main').scrollHeight");
  await page.setViewportSize({ ...size, height: Math.max(size.height, needed + 30) });
  for (const colorScheme of schemes) {
    await page.emulateMedia({ colorScheme });
    await takePicture(page, `${name}-${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(size);
}

/** What goes wrong in the page itself from now on. */
function complaintsOf(page: Page): readonly string[] {
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  return complaints;
}

/**
 * Goes to a view, makes pictures of it, and sees that axe-core finds nothing in it in light and in dark, nor on a
 * narrow screen, where nothing may reach beyond the edge.
 */
export async function expectView(page: Page, view: string, picture?: string): Promise<void> {
  await show(page, view || '/');
  await page.locator('h1').first().waitFor({ state: 'attached' });
  await closeNotices(page);
  await page.waitForTimeout(500);
  const name = picture ?? (view.replace(/^\//, '').replace('/', '-').slice(0, 20) || 'containers');
  const wide = page.viewportSize() ?? { width: 1280, height: 900 };
  for (const [size, end] of [
    [wide, ''],
    [{ width: 360, height: 740 }, '-narrow'],
  ] as const) {
    await page.setViewportSize(size);
    await takePictures(page, name + end);
    for (const colorScheme of schemes) {
      await page.emulateMedia({ colorScheme });
      expect(await violations(page), `${view} ${colorScheme}${end}`).toEqual([]);
    }
    const root = 'document.documentElement';
    const overflow = await page.evaluate(`${root}.scrollWidth - ${root}.clientWidth`);
    expect(overflow, `${view}${end}`).toBe(0);
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(wide);
}

/** Makes a picture of the page after each failing test of the file that calls it. */
export function attachPictureOnFailure(page: () => Page | undefined): void {
  beforeEach(({ onTestFailed, task }) => {
    onTestFailed(async () => {
      const current = page();
      const name = task.name.replaceAll(/[^a-z0-9]+/gi, '-').slice(0, 60);
      if (current !== undefined) await takePicture(current, `failed-${name}`);
    });
  });
}

/** A browser in which root has logged in, and what goes wrong in the page. */
export interface Opened {
  readonly browser: Browser;
  readonly page: Page;
  readonly complaints: readonly string[];
}

/**
 * Boots a host and opens the page as root.
 * @param users who can log in besides root, with the groups of each
 * @param prepare what is done on the host before that
 */
export async function openPage(
  host: Host,
  users: Readonly<Record<string, string>> = {},
  prepare: () => Promise<void> = () => Promise.resolve(),
): Promise<Opened> {
  await host.boot();
  await configurePackage(host);
  await makeUsers(host, users);
  await prepare();
  const browser = await openBrowser(host);
  const page = await logIn(browser, 'root');
  return { browser, page, complaints: complaintsOf(page) };
}

/** Ends what a file of tests has opened, and shows host and page after a test that fails. */
export function closeAfterwards(opened: () => { host: Host; browser: Browser; page: Page }): void {
  afterAll(async () => {
    const { host, browser } = opened();
    await browser.close();
    await host.close();
  });
  attachJournalOnFailure(() => opened().host);
  attachPictureOnFailure(() => opened().page);
}
