/** What is done again and again in the views of the page. */

import type { Locator, Page } from 'playwright-core';

export const rowOf = (page: Page, name: string): Locator =>
  page.locator(`tr[data-container="${name}"]`);

export const lockerRow = (page: Page, name: string): Locator =>
  page.locator(`tr[data-locker="${name}"]`);

export async function expectState(page: Page, name: string, word: string): Promise<void> {
  await rowOf(page, name).getByText(word, { exact: true }).waitFor();
}

/** Chooses something in the menu of a row. */
export async function choose(page: Page, name: string, item: string): Promise<void> {
  await page.getByRole('button', { name: `Actions for ${name}`, exact: true }).click();
  const choice = page.getByRole('menuitem', { name: item, exact: true });
  await choice.and(page.locator(':not([aria-disabled=true])')).click();
}

export const notice = (page: Page, text: string | RegExp): Locator =>
  page.locator('.pf-v6-c-alert-group').getByText(text);

export async function closeNotices(page: Page): Promise<void> {
  const buttons = page.locator('.pf-v6-c-alert-group button');
  // A success goes by itself, perhaps just now.
  while ((await buttons.count()) > 0) {
    await buttons
      .first()
      .click({ timeout: 1000 })
      .catch(() => undefined);
  }
}

/** Has a job done by the menu of a row; the state can change before the job has ended. */
export async function have(page: Page, name: string, item: string): Promise<void> {
  await choose(page, name, item);
  await notice(page, `${item} of ${name}: done`).waitFor();
  await closeNotices(page);
}

/**
 * What the tooltip of a button says that gets the focus. Other tooltips may be open at the same time: where the
 * pointer rests, and for a moment where it or the focus has been.
 */
export async function tooltipOf(button: Locator): Promise<string> {
  await button.focus();
  const page = button.page();
  const described = button.and(page.locator('[aria-describedby]'));
  await described.waitFor();
  const id = (await described.getAttribute('aria-describedby')) ?? '';
  return page.locator(`[id="${id}"]`).innerText();
}

const seenName = 'jobsSeen';

/** Notes from now on what the page says of jobs, which may be there for a moment only. */
export async function noteJobs(page: Page): Promise<void> {
  await page.evaluate(`
    window.${seenName} = [];
    new MutationObserver(() => {
      for (const job of document.querySelectorAll('.lockerd-job')) window.${seenName}.push(job.innerText);
    }).observe(document.body, { childList: true, subtree: true, characterData: true });`);
}

/** What the page has said of jobs, with blanks for all white space. */
export async function jobsSeen(page: Page): Promise<string> {
  const texts = await page.evaluate<string[]>(`[...new Set(window.${seenName})]`);
  return texts.map((text) => text.replaceAll(/\s+/g, ' ')).join('\n');
}
