import { beforeAll, expect, test, vi } from 'vitest';
import type { Browser, Locator, Page } from 'playwright-core';
import type { Host } from '../host/host.ts';
import { guestPid, lockersSeenBy, offline, systemctl } from '../machines/support.ts';
import { closeNotices, expectState, notice } from './views.ts';
import { closeAfterwards, makeWebHost, openPage } from './web-host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

const fstab = 'data /lockers/data tmpfs size=8m 0 0\n';

let host: Host;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  host = await makeWebHost('keys');
  await host.createContainer('quiet', 'busybox', { config: offline });
  await host.createContainer('web', 'busybox', { config: offline });
  await host.writeFile('/etc/fstab', fstab);
  ({ browser, page } = await openPage(host, {}, async () => {
    await systemctl(host, 'start', 'lxc@web', 'lockers-data.mount');
    await host.waitForGuest('web');
  }));
  await expectState(page, 'web', 'Running');
});
closeAfterwards(() => ({ host, browser, page }));

const press = (key: string) => page.keyboard.press(key);

async function expectFocus(element: Locator): Promise<void> {
  await element.and(page.locator(':focus')).waitFor();
}

const mostStops = 80;

/** Goes on with Tab, or another key, until an element has the focus. */
async function goTo(element: Locator, key = 'Tab'): Promise<void> {
  for (let stop = 0; stop < mostStops; stop++) {
    if ((await element.and(page.locator(':focus')).count()) > 0) return;
    await press(key);
  }
  throw new Error(`${mostStops} times ${key} did not lead to ${String(element)}`);
}

/** What all places say at which Tab stops, from the top of the page to its end. */
async function stops(): Promise<string[]> {
  const found: string[] = [];
  await page.getByRole('link', { name: 'Containers' }).first().focus();
  for (let stop = 0; stop < mostStops; stop++) {
    const words = await page.evaluate<string>(`(() => {
      const { activeElement: at } = document;
      if (at === document.body) return '';
      return at.getAttribute('aria-label') || at.labels?.[0]?.innerText || at.innerText;
    })()`);
    if (words === '') break;
    found.push(words.trim());
    await press('Tab');
  }
  return found;
}

const button = (name: string) => page.getByRole('button', { name, exact: true });
const menuItem = (name: string) => page.getByRole('menuitem', { name, exact: true });

/** Something that polkit has permitted; a moment before, it is grey. */
const permitted = (element: Locator): Locator =>
  element.and(page.locator(':not([aria-disabled=true])'));

/** Goes to a button and presses it, as soon as it may be. */
async function use(element: Locator): Promise<void> {
  await goTo(element);
  await permitted(element).waitFor();
  await press('Enter');
}

/** Chooses what has the focus or comes further down, as soon as polkit has said that it may be. */
async function choose(name: string): Promise<void> {
  await goTo(menuItem(name), 'ArrowDown');
  await permitted(menuItem(name)).waitFor();
  await press('Enter');
}

test('from the search through the filters to a container', async () => {
  await goTo(page.getByLabel('Search containers'));
  await page.keyboard.type('web');
  await page.locator('tr[data-container=quiet]').waitFor({ state: 'hidden' });
  await goTo(page.getByLabel('State'));
  await press('ArrowDown');
  await goTo(page.getByLabel('State'), 'Shift+Tab');
  await press('ArrowUp');
  await goTo(page.getByRole('link', { name: 'web', exact: true }));
  await goTo(button('Actions for web'));
});

test('a menu opens, is walked through, and gives the focus back', async () => {
  await press('Enter');
  await expectFocus(menuItem('Stop'));
  await press('ArrowDown');
  await expectFocus(menuItem('Reboot'));
  await press('Escape');
  await expectFocus(button('Actions for web'));
  await press('Enter');
  await expectFocus(menuItem('Stop'));
  await press('ArrowDown');
  await press('ArrowDown');
  await expectFocus(menuItem('Freeze'));
  await choose('Freeze');
  await expectState(page, 'web', 'Frozen');
  await expectFocus(button('Actions for web'));
  await press('Enter');
  await expectFocus(menuItem('Stop'));
  await choose('Thaw');
  await expectState(page, 'web', 'Running');
  await closeNotices(page);
});

test('a dialog keeps the focus, and gives it back', async () => {
  const ask = async () => {
    await goTo(button('Actions for web'));
    await press('Enter');
    await expectFocus(menuItem('Stop'));
    await choose('Force stop');
    await page.getByRole('dialog').waitFor();
  };
  await ask();
  const confirm = page.getByRole('dialog').getByRole('button', { name: 'Force stop' });
  await goTo(confirm);
  for (let stop = 0; stop < 5; stop++) {
    await press('Tab');
    const inside = "document.querySelector('[role=dialog]').contains(document.activeElement)";
    expect(await page.evaluate(inside)).toBe(true);
  }
  await press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await expectFocus(button('Actions for web'));
  await ask();
  await use(confirm);
  await notice(page, 'Forced stop of web: done').waitFor();
  await expectFocus(button('Actions for web'));
  expect(await guestPid(host, 'web')).toBeUndefined();
  await closeNotices(page);
});

test('all that can be done with a container is a stop of Tab', async () => {
  await goTo(page.getByRole('link', { name: 'web', exact: true }));
  await press('Enter');
  await page.getByRole('heading', { name: 'web', exact: true }).waitFor();
  await use(button('Start'));
  // It is the same button all the time, so that it keeps the focus.
  await expectFocus(button('Stop'));
  await permitted(button('Stop')).waitFor();
  await host.waitForGuest('web');
  await closeNotices(page);
  await page.getByText(/^Lowest safe limit/).waitFor();
  await page.getByLabel('No limit').uncheck();
  const found = await stops();
  for (const wanted of [
    ...['Containers', 'Lockers', 'Stop', 'Reboot', 'Freeze', 'Start at boot', 'Force stop'],
    ...['Attach another locker', 'Read-only', 'Also for later starts', 'Attach'],
    ...['New limit', 'No limit', 'Set memory limit', 'Processor time (%)', 'Set limits'],
    ...['Shell', 'Console', 'View all logs', 'Journal', 'Explain each line'],
  ]) {
    expect(found).toContain(wanted);
  }
});

test('a limit, a locker and a start at boot by keys alone', async () => {
  const slider = page.getByRole('slider', { name: 'New limit' });
  const size = page.getByRole('textbox', { name: 'New limit' });
  await goTo(slider);
  const before = await size.inputValue();
  await press('PageDown');
  expect(await size.inputValue()).not.toBe(before);
  await goTo(size);
  await press('Control+a');
  await page.keyboard.type('300 MiB');
  await press('Enter');
  await notice(page, 'Memory limit of web: done').waitFor();
  await closeNotices(page);
  await use(button('Attach'));
  await button('Detach data').waitFor();
  expect(await lockersSeenBy(host, 'web')).toEqual(['data']);
  await use(button('Detach data'));
  const detach = page.getByRole('dialog').getByRole('button', { name: 'Detach', exact: true });
  await use(detach);
  await page.getByText('No locker is attached.').waitFor();
  await use(button('Start at boot'));
  await expectFocus(button('Do not start at boot'));
  await closeNotices(page);
});

test('one gets into a terminal, and out of it', async () => {
  await use(button('Shell'));
  await page.getByRole('group', { name: 'Shell' }).getByText('#').first().waitFor();
  // Tab is the shell's.
  await press('Tab');
  const isInside = "document.querySelector('.lockerd-terminal').contains(document.activeElement)";
  expect(await page.evaluate(isInside)).toBe(true);
  await press('Control+Alt+q');
  await expectFocus(button('Close'));
  await press('Enter');
  await expectFocus(button('Shell'));
  await goTo(button('Explain each line'));
  await press('Enter');
  await button('Read again').waitFor();
});
