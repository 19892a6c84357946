/** What a screen reader is told of the page: Chromium's own tree of it, and what live regions say. */

import type { CDPSession, Page } from 'playwright-core';

type Answer = Awaited<ReturnType<typeof fullTree>>;
type RawNode = Answer['nodes'][number];

const fullTree = (devtools: CDPSession) => devtools.send('Accessibility.getFullAXTree');

/** An element as it is told. */
export interface Told {
  readonly role: string;
  readonly name: string;
  /** What is told after the name, such as why a button is grey. */
  readonly description: string;
  /** Names of the rows, forms and the like that it is in, from the outside. */
  readonly places: readonly string[];
}

const places: readonly string[] = [
  ...['row', 'form', 'dialog', 'group', 'list', 'table', 'navigation', 'region', 'menu'],
];

const textOf = (value: RawNode['name']): string => String(value?.value ?? '').trim();

/** All that is told of the page now, in its order. */
export async function toldOf(page: Page): Promise<Told[]> {
  const devtools = await page.context().newCDPSession(page);
  const { nodes } = await fullTree(devtools);
  await devtools.detach();
  const byId = new Map(nodes.map((node) => [node.nodeId, node]));
  const placesOf = ({ parentId }: RawNode): string[] => {
    const parent = byId.get(parentId ?? '');
    if (parent === undefined) return [];
    const name = textOf(parent.name);
    const isPlace = !parent.ignored && name !== '' && places.includes(textOf(parent.role));
    return [...placesOf(parent), ...(isPlace ? [name] : [])];
  };
  return nodes
    .filter(({ ignored }) => !ignored)
    .map((node) => ({
      role: textOf(node.role),
      name: textOf(node.name),
      description: textOf(node.description),
      places: placesOf(node),
    }));
}

/** What people work with, and what says something only by its name. */
const needName: readonly string[] = [
  ...['button', 'link', 'textbox', 'searchbox', 'combobox', 'checkbox', 'slider', 'spinbutton'],
  ...['menuitem', 'meter', 'progressbar', 'image', 'table', 'dialog', 'columnheader'],
  ...['rowheader', 'heading', 'navigation'],
];

/** Of these, two in one place must not be called the same: nobody could tell which is meant. */
const needOwnName: readonly string[] = [
  ...['button', 'textbox', 'searchbox', 'combobox', 'checkbox', 'slider', 'menuitem'],
];

/** What is wrong with the names of what is on the page. */
export async function misnamed(page: Page): Promise<string[]> {
  const told = await toldOf(page);
  const nameless = told.filter(({ role, name }) => needName.includes(role) && name === '');
  const known = told
    .filter(({ role }) => needOwnName.includes(role))
    .map(({ role, name, places }) => `${role} "${name}" in ${places.join(', ')}`);
  return [
    ...nameless.map(({ role, places }) => `${role} without a name in ${places.join(', ')}`),
    ...known.filter((one, index) => known.indexOf(one) !== index),
  ];
}

const heardName = 'heard';

/**
 * Listens from now on to live regions. One that comes with its words is none: most screen readers tell only what
 * changes in a region that they know. And to bars of progress, as people hear them who go there.
 */
export async function listen(page: Page): Promise<void> {
  await page.evaluate(`(() => {
    window.${heardName} = [];
    const live = '[aria-live=polite], [aria-live=assertive], [role=status], [role=alert]';
    const note = (text) => {
      if (text !== '') window.${heardName}.push(text.replace(/\\s+/g, ' ').trim());
    };
    new MutationObserver((changes) => {
      for (const { target, addedNodes, type } of changes) {
        const element = target instanceof Element ? target : target.parentElement;
        if (element?.closest(live)) {
          if (type === 'characterData') note(target.data);
          for (const added of addedNodes) note(added.innerText ?? added.data ?? '');
        }
      }
      for (const bar of document.querySelectorAll('[role=progressbar]')) {
        const label = bar.getAttribute('aria-label') ??
          document.getElementById(bar.getAttribute('aria-labelledby'))?.innerText;
        note('bar: ' + label + ' | ' + bar.getAttribute('aria-valuetext'));
      }
    }).observe(document.body, { childList: true, subtree: true, characterData: true, attributes: true });
  })()`);
}

/** What has been told since, each once. */
export const heard = (page: Page): Promise<string[]> =>
  page.evaluate<string[]>(`[...new Set(window.${heardName})]`);
