/** What a configuration says that LXC accepts and that goes wrong in the guest. */
import type { ConfigLine } from '../host/config-lines.ts';
import type { CheckedContainer, Subject } from './subject.ts';

export function checkConfiguration({ findings }: Subject, { name, lines }: CheckedContainer): void {
  const line = withoutSysBoot(lines);
  if (line === undefined) return;
  findings.add(
    'cap-sys-boot',
    name,
    line,
    line.key === dropKey
      ? 'the guest has no CAP_SYS_BOOT, for the line drops it'
      : 'the guest has no CAP_SYS_BOOT, for lxc.cap.keep does not name it',
    line.key === dropKey
      ? 'remove sys_boot from lxc.cap.drop: in a container it reboots the container alone'
      : 'add sys_boot to lxc.cap.keep',
  );
}

const dropKey = 'lxc.cap.drop';
const keepKey = 'lxc.cap.keep';

function wordsOf({ value }: ConfigLine): string[] {
  return value.split(/[ \t]+/).filter(Boolean);
}

/** The line that takes CAP_SYS_BOOT away; lists grow, and an empty value clears them. */
function withoutSysBoot(lines: readonly ConfigLine[]): ConfigLine | undefined {
  let dropping: ConfigLine | undefined;
  let keeping: { line: ConfigLine; readonly words: Set<string> } | undefined;
  for (const line of lines) {
    if (line.key === dropKey) {
      if (line.value === '') dropping = undefined;
      else if (wordsOf(line).includes('sys_boot')) dropping = line;
    } else if (line.key === keepKey) {
      if (line.value === '') keeping = undefined;
      else {
        keeping ??= { line, words: new Set() };
        keeping.line = line;
        for (const word of wordsOf(line)) {
          // "none" begins the list anew.
          if (word === 'none') keeping.words.clear();
          else keeping.words.add(word);
        }
      }
    }
  }
  if (keeping !== undefined && !keeping.words.has('sys_boot')) return keeping.line;
  return dropping;
}
