import { expect, test } from 'vitest';
import { guardUnits } from '../../src/model/attachment.ts';

function guards(locker: string, readOnly: boolean, readOnlyOnHost: boolean): string[] {
  const [source, target] = [`/lockers/${locker}`, `/w/${locker}`];
  return guardUnits({ locker, source, target, readOnly, readOnlyOnHost });
}

test('an attachment wants what keeps the locker as it is for all others', () => {
  const pin = 'lockerd-pin@lockers-my\\x20data.service';
  expect(guards('my data', false, false)).toEqual([pin]);
  expect(guards('my data', true, false)).toEqual([pin]);
  // Nothing can be opened for writing there.
  expect(guards('my data', true, true)).toEqual([]);
});

test('a locker whose name is too long for another unit is attached all the same', () => {
  expect(guards('d'.repeat(235), true, false)).toEqual([]);
});
