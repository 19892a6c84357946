import { describe } from 'vitest';
import { releases } from './package-images.mjs';

/** Tests on a host of each release of Debian: the hosts at the same time, the tests of each in order. */
export function describeReleases(
  title: string,
  tests: (release: (typeof releases)[number]) => void,
): void {
  describe.concurrent.each(releases)(title, (release) => {
    describe('a host', { concurrent: false }, () => {
      tests(release);
    });
  });
}
