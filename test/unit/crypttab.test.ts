import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crypttabDevices } from '../../src/model/crypttab.ts';
import { addToCrypttab, isInCrypttab, removeFromCrypttab } from '../../src/stores/crypttab.ts';

const entry = {
  name: 'locker-data',
  device: '/dev/vg/locker-data',
  key: '/etc/lockerd/keys/u.key',
};
/** What an admin may have in the file, with and without an end of the last line. */
const line = fc.oneof(
  fc.constantFrom('', '# comment', 'root /dev/sda2 none luks', 'locker-data2 /dev/x none', '\t'),
  fc.string().map((text) => text.replaceAll('\n', ' ')),
);
const texts = fc.array(line).map((lines) => lines.join('\n'));

describe('crypttab', () => {
  test('has an entry more, which the generator reads as one that is opened on demand', () => {
    const text = addToCrypttab('root /dev/sda2 none luks', entry);
    expect(text).toMatch(
      /^root \/dev\/sda2 none luks\n# .*\nlocker-data \/dev\/vg\/locker-data \/etc\/lockerd\/keys\/u\.key \S+\n$/,
    );
    expect([...crypttabDevices(text)]).toEqual([
      ['/dev/mapper/root', 'boot'],
      ['/dev/mapper/locker-data', 'demand'],
    ]);
  });

  test('is what it was when the entry is removed, and keeps what others have written', () => {
    fc.assert(
      fc.property(texts, (text) => {
        fc.pre(!isInCrypttab(text, entry.name));
        const added = addToCrypttab(text, entry);
        expect(isInCrypttab(added, entry.name)).toBe(true);
        const ended = text === '' || text.endsWith('\n') ? text : `${text}\n`;
        expect(removeFromCrypttab(added, entry.name)).toBe(ended);
        expect(removeFromCrypttab(text, entry.name)).toBe(text);
      }),
    );
  });

  test("keeps an admin's line of the same name", () => {
    const own = 'locker-data /dev/sdb1 none luks\n';
    expect(isInCrypttab(own, entry.name)).toBe(true);
    expect(removeFromCrypttab(own, entry.name)).toBe(own);
    expect(removeFromCrypttab(addToCrypttab(own, entry), entry.name)).toBe(own);
    expect(isInCrypttab('# locker-data /dev/sdb1\n', entry.name)).toBe(false);
  });
});
