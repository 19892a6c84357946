/** What a guest does when it is told to shut down, as far as its files tell. */
import { GuestFiles } from '../host/guest-files.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { signalName } from '../model/signal.ts';
import { printable } from '../model/unit-syntax.ts';
import { defaultSignals, initKind, whyDeaf } from './guest-inits.ts';
import type { InitKind } from './guest-inits.ts';
import type { CheckedContainer, Subject } from './subject.ts';
import { presenceOf } from './subject.ts';

export function checkGuest(subject: Subject, container: CheckedContainer): void {
  const { findings } = subject;
  const { name, facts } = container;
  const { config } = facts;
  const at = config.rootfsPath ?? { file: config.file, line: 0 };
  const trees = treesOf(subject, container);
  if (trees === undefined) return;
  if (trees.length === 0) {
    // With a signal in the configuration nobody else needs to know.
    if (config.haltSignal !== undefined) return;
    const what = "the guest's init cannot be looked at while its root file system is not mounted";
    findings.add('not-seen', name, at, what, 'stop-guest looks at the running init at each stop');
    return;
  }
  const guest = new GuestFiles(subject.files, trees);
  const path = (config.initCmd?.value ?? '/sbin/init').split(' ', 1)[0] ?? '';
  const isThere = guest.find(path, (file) => file.isThere);
  if (isThere === undefined || !path.startsWith('/')) return;
  if (!isThere && facts.init !== 'systemd') {
    const place = config.initCmd ?? at;
    const what = `the guest has no ${printable(path)}`;
    findings.add('init-missing', name, place, what, 'install an init in it, or set lxc.init.cmd');
    return;
  }
  const kind = facts.init === 'systemd' ? 'systemd' : initKind(guest, path);
  if (kind !== undefined) checkHalt(subject, container, guest, kind);
}

/** Trees of the guest on this machine; undefined where the root file system is not there at all. */
function treesOf(subject: Subject, { facts }: CheckedContainer): readonly string[] | undefined {
  const { rootfsPath } = facts.config;
  const parsed = rootfsPath === undefined ? undefined : parseRootfs(rootfsPath.value);
  if (parsed === undefined || 'reason' in parsed) return undefined;
  const { trees, type } = parsed.rootfs;
  if (type === 'none') return undefined;
  const seen = trees.filter((tree) => presenceOf(subject, tree) === 'there');
  if (trees.length > 0 && seen.length === 0) return undefined;
  return seen.map((tree) => subject.files.locate(subject.root, tree));
}

/** What a stop sends, and what the guest's files say of it. */
function checkHalt(
  { findings }: Subject,
  { name, facts: { config } }: CheckedContainer,
  guest: GuestFiles,
  kind: InitKind,
): void {
  const configured = config.haltSignal;
  const signal = configured?.value ?? defaultSignals[kind];
  const deafness = whyDeaf(guest, kind, signal);
  if (deafness === undefined) return;
  const at = configured ?? config.rootfsPath ?? { file: config.file, line: 0 };
  const what = `a stop sends ${signalName(signal)} to the guest's ${kind}; ${deafness.what}`;
  findings.add('halt-unheard', name, at, what, deafness.remedy);
}
