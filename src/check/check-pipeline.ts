/**
 * The problems and warnings of the generator's pipeline, each as the check that it belongs to. The
 * pipeline does not name checks: what a line's key tells decides.
 */
import type { Model } from '../generator/decide.ts';
import { isClassicHook, warnOfUnprotected } from '../host/lockers.ts';
import { isCgroup1Key } from '../model/cgroup1-keys.ts';
import { matchKey } from '../model/lxc-keys.ts';
import type { Problem } from '../model/problem.ts';
import type { CheckId } from './catalog.ts';
import type { CheckedContainer, Subject } from './subject.ts';

export function checkPipeline(subject: Subject, { nameless }: Model): void {
  const { facts, findings, containers } = subject;
  for (const problem of facts.problems) findings.addProblem('host-refused', undefined, problem);
  for (const problem of nameless) findings.addProblem('host-refused', undefined, problem);
  for (const warning of facts.warnings) findings.addProblem('host-suspect', undefined, warning);
  const wormholes = containers.flatMap(({ unit }) => unit.wormhole ?? []);
  for (const warning of warnOfUnprotected(wormholes, facts.host.lockers)) {
    findings.addProblem('locker-unprotected', undefined, warning);
  }
  for (const container of containers) {
    const { name, unit } = container;
    const keys = keysByPlace(container);
    for (const problem of unit.problems) {
      findings.addProblem(idOf(keys, problem, 'problem'), name, problem);
    }
    for (const warning of unit.warnings) {
      findings.addProblem(idOf(keys, warning, 'warning'), name, warning);
    }
    checkBoot(subject, container);
  }
}

type Kind = 'problem' | 'warning';

function placeOf({ file, line }: Pick<Problem, 'file' | 'line'>): string {
  return `${line} ${file}`;
}

interface KeyAndValue {
  readonly key: string;
  readonly value: string;
}

function keysByPlace({ lines }: CheckedContainer): ReadonlyMap<string, KeyAndValue> {
  return new Map(lines.map((line) => [placeOf(line), line]));
}

function idOf(keys: ReadonlyMap<string, KeyAndValue>, problem: Problem, kind: Kind): CheckId {
  const { key, value } = keys.get(placeOf(problem)) ?? { key: '', value: '' };
  if (kind === 'problem') {
    if (matchKey(key).kind === 'legacy') return 'old-key';
    return isCgroup1Key(key) ? 'cgroup1-refused' : 'config-refused';
  }
  if (key.startsWith('lxc.hook.') && isClassicHook(value)) return 'classic-hooks';
  // Of such a line there may be more to say than that LXC 7 refuses it.
  return isCgroup1Key(key) && problem.reason.startsWith('LXC ') ? 'cgroup1-key' : 'config-suspect';
}

const bootTexts: Readonly<Record<string, readonly [what: string, remedy: string]>> = {
  'lxc-auto': [
    'LXC_AUTO in /etc/default/lxc is not "true"',
    'write LXC_AUTO="true" into /etc/default/lxc',
  ],
  'lxc-service': ['lxc.service is masked or not enabled', 'run: systemctl enable lxc.service'],
  'boot-groups': [
    'BOOTGROUPS in /etc/default/lxc has none of its groups',
    'name one of its groups in BOOTGROUPS, or change lxc.group',
  ],
};

/** A mask is the admin's own decision. */
function checkBoot({ findings }: Subject, { name, unit, lines }: CheckedContainer): void {
  if (unit.boot.starts) return;
  const auto = lines.filter(({ key }) => key === 'lxc.start.auto').at(-1);
  for (const reason of unit.boot.reasons) {
    const [what, remedy] = bootTexts[reason] ?? [];
    if (what === undefined || remedy === undefined) continue;
    findings.add('boot-skipped', name, auto ?? { file: unit.configFile, line: 0 }, what, remedy);
  }
}
