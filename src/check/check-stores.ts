/** Stores whose settings have mistakes, and changes of lockers that were not brought to an end. */
import { parseStores } from '../host/store-settings.ts';
import { printable } from '../model/unit-syntax.ts';
import type { Subject } from './subject.ts';

export function checkStores(subject: Subject): void {
  const { host, findings } = subject;
  for (const problem of parseStores(host.hostSettings()).problems) {
    findings.addProblem('store-refused', undefined, problem);
  }
  if (subject.isRunning) checkChanges(subject);
}

const directory = '/var/lib/lockerd/changes';

/** Only root can look there. */
function checkChanges({ host, root, files, findings }: Subject): void {
  let names: string[];
  try {
    names = files.list(files.locate(root, directory));
  } catch {
    // There never was a change, or the caller is not root.
    return;
  }
  for (const name of names.filter((one) => /^[0-9a-f]{16}\.json$/.test(one))) {
    const file = `${directory}/${name}`;
    const { text = '' } = host.readText(file);
    const [, verb = 'change'] = /"verb": "([a-z]+)"/.exec(text) ?? [];
    const [, locker = '?'] = /"locker": "((?:[^"\\]|\\.)*)"/.exec(text) ?? [];
    findings.add(
      'change-unfinished',
      undefined,
      { file, line: 0 },
      `"${printable(verb)}" of locker "${printable(locker)}" has not come to its end`,
      'if it stays: systemctl start lockerd-recover.service, and see "journalctl -t lockerd-helper"',
    );
  }
}
