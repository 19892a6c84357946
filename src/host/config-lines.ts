/** The lines of a configuration of LXC, as LXC takes them. */
import type { LxcAssignment } from './grammar.ts';
import type { LxcSource } from './lxc-source.ts';

export interface ConfigLine extends LxcAssignment {
  readonly file: string;
}

/** More lines than any configuration has; files may include each other many times over. */
const maxLines = 20_000;
const maxVisits = 4096;

/** The assignments of a configuration, includes in their place. */
export function linesOf(source: LxcSource): ConfigLine[] {
  const found: ConfigLine[] = [];
  let visits = 0;
  const visit = (file: LxcSource['file']): void => {
    if (visits++ >= maxVisits) return;
    let includes = 0;
    for (const line of file.text.lines) {
      if (found.length >= maxLines) return;
      if (!('key' in line)) continue;
      if (line.key === 'lxc.include' && line.value !== '') {
        for (const child of file.includes[includes++]?.files ?? []) visit(child);
      } else found.push({ ...line, file: file.path });
    }
  };
  visit(source.file);
  return found;
}
