/**
 * `lockerctl check`: reads the host once, as the generator does, and asks each subject for findings.
 * Nothing is changed, started or asked over D-Bus.
 */
import { modelContainers } from '../generator/decide.ts';
import { readFacts } from '../generator/read-facts.ts';
import { withoutDefects } from '../generator/refused.ts';
import { Files } from '../host/files.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import { HostReader } from '../host/read.ts';
import { checkCluster } from './check-cluster.ts';
import { checkConfiguration } from './check-configuration.ts';
import { checkGuest } from './check-guest.ts';
import { checkLimits } from './check-limits.ts';
import { checkLockers } from './check-lockers.ts';
import { checkNetwork, checkTwins } from './check-network.ts';
import { checkPipeline } from './check-pipeline.ts';
import { checkPartitions } from './check-partitions.ts';
import { checkShutdown } from './check-shutdown.ts';
import { checkStarters } from './check-starters.ts';
import { checkStores } from './check-stores.ts';
import { checkStorage } from './check-storage.ts';
import { checkSupport } from './check-support.ts';
import { checkDropIns } from './check-drop-ins.ts';
import type { Finding } from './findings.ts';
import { Findings } from './findings.ts';
import { linesOf } from '../host/config-lines.ts';
import type { CheckedContainer, Subject } from './subject.ts';

/** What a check found, and the containers that it looked at. */
export interface Checked {
  readonly findings: readonly Finding[];
  readonly containers: readonly string[];
  /** Names of the caller's that no container has. */
  readonly unknown: readonly string[];
}

/**
 * Checks everything below `root` (the empty string for the host itself). With names, only what
 * concerns these containers and the host is told.
 */
export function checkHost(root: string, names: readonly string[], files = new Files()): Checked {
  const facts = readFacts(root, files);
  const { model, gathered } = withoutDefects(
    facts.containers,
    facts.settings.defaults,
    (containers) => ({ model: modelContainers(containers, facts.host), gathered: containers }),
  );
  const host = new HostReader(root, files);
  const lxc = createLxcReader(root, files);
  const wanted = new Set(names);
  const isWanted = (name: string): boolean => names.length === 0 || wanted.has(name);
  const factsByName = new Map(gathered.map((container) => [container.name, container]));
  const containers = model.containers.flatMap((unit): CheckedContainer[] => {
    const own = factsByName.get(unit.name);
    if (own === undefined) return [];
    return [{ name: unit.name, facts: own, unit, lines: linesOf(lxc.read(unit.configFile)) }];
  });
  const subject: Subject = {
    root,
    files,
    host,
    facts,
    containers,
    isWanted,
    isRunning: host.isThere('/proc/self/mountinfo'),
    mountPoints: host.mountPoints(),
    findings: new Findings(),
  };
  checkPipeline(subject, model);
  for (const check of checksOfHost) check(subject);
  for (const container of containers.filter(({ name }) => isWanted(name))) {
    for (const check of checksOfContainer) check(subject, container);
  }
  return {
    findings: subject.findings.sorted().filter((f) => isWanted(f.container ?? names[0] ?? '')),
    containers: gathered.map(({ name }) => name).filter(isWanted),
    unknown: names.filter((name) => !factsByName.has(name)),
  };
}

const checksOfHost: readonly ((subject: Subject) => void)[] = [
  checkSupport,
  checkDropIns,
  checkLockers,
  checkStores,
  checkShutdown,
  checkStarters,
  checkCluster,
  checkTwins,
];

const checksOfContainer: readonly ((subject: Subject, container: CheckedContainer) => void)[] = [
  checkConfiguration,
  checkStorage,
  checkPartitions,
  checkNetwork,
  checkGuest,
  checkLimits,
];
