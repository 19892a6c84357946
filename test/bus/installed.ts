import { copyFileSync, cpSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../../dist', import.meta.url));

/** Copies lockerctl, with the parts that it loads, to where other users and shells find it. */
export function copyLockerctl(target: string): void {
  copyFileSync(join(dist, 'lockerctl'), target);
  cpSync(join(dist, 'parts'), join(dirname(target), 'parts'), { recursive: true });
}
