/** The plan of an import: reads the host, changes nothing. */
import { readFacts } from '../generator/read-facts.ts';
import type { Facts } from '../generator/read-facts.ts';
import { editSettings } from '../helper/settings-edit.ts';
import { decideBoot, startsAtBoot } from '../host/boot-policy.ts';
import type { UnitLinks } from '../host/boot-policy.ts';
import { Files } from '../host/files.ts';
import { splitLxcText } from '../host/grammar.ts';
import { lxcRelease } from '../host/lxc-release.ts';
import { parseLxcConfig } from '../host/parse-lxc.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import type { LxcReader } from '../host/read-lxc.ts';
import { HostReader } from '../host/read.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { defaultLxcpath, isAtOrBelow, withoutTrailingSlashes } from '../model/path.ts';
import { shellWord } from '../model/shell-quote.ts';
import { containerUnit } from '../model/unit-name.ts';
import { printable } from '../model/unit-syntax.ts';
import type { Change, ImportPlan, LineEdit } from './changes.ts';
import { editedText, linesOfText } from './changes.ts';
import type { ConvertContext } from './convert-config.ts';
import { convertConfig } from './convert-config.ts';
import { findOldContainers, oldStarts } from './find-old.ts';
import type { OldContainer, OldStart } from './find-old.ts';

/** Plans the import of all containers, or of the named ones; `unknown` are names that none has. */
export function planImport(
  root: string,
  names: readonly string[],
  files = new Files(),
): ImportPlan & { readonly unknown: readonly string[] } {
  const planner = new Planner(root, files);
  return planner.plan(names);
}

/** Files include each other no deeper than this. */
const maxDepth = 8;
/** Nor does one container include more. */
const maxIncludes = 256;

class Planner {
  readonly #host: HostReader;
  readonly #facts: Facts;
  readonly #lxcpath: string;
  readonly #keepsCgroup1: boolean;
  readonly #startOf: (name: string) => OldStart;
  readonly #unitLinks: (unit: string) => UnitLinks;
  readonly #lxc: LxcReader;
  /** Edits by file: files may be included by several containers. */
  readonly #edited = new Map<string, { before: string; edits: readonly LineEdit[] }>();
  readonly #others: Change[] = [];
  readonly #notes: string[] = [];
  #depth = 0;
  #includes = 0;

  constructor(root: string, files: Files) {
    this.#host = new HostReader(root, files);
    this.#facts = readFacts(root, files);
    this.#lxcpath = this.#host.realPath(this.#facts.lxcpath ?? defaultLxcpath, true);
    this.#startOf = oldStarts(this.#host);
    this.#unitLinks = this.#host.unitLinks();
    this.#lxc = createLxcReader(root, files);
    const controllers = [...this.#host.mountPoints()].map((path) => path.split('/').at(-1) ?? '');
    const takes = lxcRelease(this.#host)()?.takesCgroup1 !== false;
    this.#keepsCgroup1 = takes && controllers.some((name) => /^(?:memory|devices)$/.test(name));
  }

  plan(names: readonly string[]): ImportPlan & { readonly unknown: readonly string[] } {
    const found = findOldContainers(this.#host, this.#lxcpath);
    for (const container of found) {
      if (names.length === 0 || names.includes(container.name)) this.#container(container);
    }
    if (names.length === 0) this.#fstab();
    const edits = [...this.#edited].flatMap(([path, { before, edits }]): Change[] =>
      edits.length === 0 ? [] : [{ kind: 'edit', path, before, edits }],
    );
    return {
      changes: [...edits, ...this.#others],
      notes: this.#notes,
      unknown: names.filter((name) => !found.some((container) => container.name === name)),
    };
  }

  /** A text that can be edited; undefined, with a note, for all else. */
  #text(path: string): string | undefined {
    const { text, problem } = this.#host.readText(path);
    if (text !== undefined && !/[\0\ufffd]/.test(text)) return text;
    const why = problem?.reason ?? (text === undefined ? 'is not there' : 'is no UTF-8 text');
    this.#notes.push(`${path} is left as it is: it ${why}`);
    return undefined;
  }

  #container(container: OldContainer): void {
    const { name, config, isCopied } = container;
    const text = this.#text(config);
    if (text === undefined) return;
    if (isInGuest(config, text)) {
      this.#notes.push(`${config} is in the guest's own file system, which is never touched`);
      return;
    }
    this.#includes = 0;
    const context: ConvertContext = {
      keepsCgroup1: this.#keepsCgroup1,
      isThere: (path) => this.#host.isThere(path),
      net: -1,
      include: (written) => {
        this.#include(written, context);
      },
    };
    const { edits, hookArguments } = convertConfig(text, context);
    const all = [...edits, ...this.#start(container, text, edits)];
    if (isCopied) this.#copy(container, text, all);
    else this.#edited.set(config, { before: text, edits: all });
    this.#link(container);
    this.#lockers(name, hookArguments);
    const now = parsed(config, editedText(text, all));
    if (all.length > 0 || isCopied || container.linkTo !== undefined) {
      this.#noteStart(container, now);
    }
    this.#noteProblems(name, now);
  }

  /** Files of the site itself; those of packages change with their packages. */
  #include(written: string, context: ConvertContext): void {
    const path = this.#host.realPath(written.startsWith('/') ? written : `/${written}`, true);
    if (path.startsWith('/usr/') || this.#depth >= maxDepth) return;
    if (++this.#includes > maxIncludes) return;
    const { text } = this.#host.readText(path);
    if (text === undefined || /[\0\ufffd]/.test(text)) return;
    this.#depth++;
    const { edits } = convertConfig(text, context);
    this.#depth--;
    const known = this.#edited.get(path);
    if (known === undefined) this.#edited.set(path, { before: text, edits });
    // A container's own configuration has more edits than those of its lines.
    else if (JSON.stringify(known.edits.slice(0, edits.length)) !== JSON.stringify(edits)) {
      this.#notes.push(
        `${path} is included by containers that number their interfaces otherwise; ` +
          'look at the numbers in lxc.net.N',
      );
    }
  }

  #copy({ name, config }: OldContainer, text: string, edits: readonly LineEdit[]): void {
    const path = `${this.#lxcpath}/${name}/config`;
    const reasons = [`a copy of ${config}, where LXC looks for it`];
    for (const { line, reason } of edits) reasons.push(`line ${line} there: ${reason}`);
    this.#others.push({ kind: 'create', path, text: editedText(text, edits), reasons });
    if (/\/dev\/mapper\/loop\d+p\d+/.test(text)) {
      this.#notes.push(
        `${name}: its root file system is a partition of an image that something maps with ` +
          'kpartx; have it mapped before the start, or write lxc.rootfs.path = nbd:IMAGE:PARTITION',
      );
    }
  }

  #link({ name, linkTo }: OldContainer): void {
    if (linkTo === undefined) return;
    const path = `${this.#lxcpath}/${name}`;
    if (this.#host.isThere(path)) {
      this.#notes.push(`${path} is there already, so ${linkTo} cannot be linked to it`);
      return;
    }
    const reason = `LXC and lockerd look for containers in ${this.#lxcpath}`;
    this.#others.push({ kind: 'link', path, target: linkTo, reason });
  }

  /** What starts the container at boot now; changes beside its configuration are noted down. */
  #start({ name }: OldContainer, text: string, edits: readonly LineEdit[]): LineEdit[] {
    const { reason, order, links, ownScript } = this.#startOf(name);
    if (ownScript) {
      this.#notes.push(
        `${name}: /etc/init.d/lxc.${name} is no link but a script of this site. It and its runlevel ` +
          'links stay; the unit follows them',
      );
      return [];
    }
    for (const link of links) {
      const why = 'the unit of the container takes its place';
      this.#others.push({ kind: 'unlink', ...link, reason: why });
    }
    if (reason === undefined) return [];
    const now = splitLxcText(editedText(text, edits)).lines.filter((line) => 'key' in line);
    const groups = now
      .filter(({ key }) => key === 'lxc.group')
      .flatMap(({ value }) => value.split(/\s+/));
    if (!startsAtBoot(this.#facts.host.boot, { startAuto: true, groups })) {
      this.#enable(name, reason);
      return [];
    }
    const added: string[] = [];
    if (now.filter(({ key }) => key === 'lxc.start.auto').at(-1)?.value !== '1') {
      added.push('lxc.start.auto = 1');
    }
    if (order !== undefined && !now.some(({ key }) => key === 'lxc.start.order')) {
      added.push(`lxc.start.order = ${order}`);
    }
    if (added.length === 0) return [];
    return [{ line: linesOfText(text).length + 1, after: added, reason }];
  }

  /** Where lxc.start.auto has no effect. */
  #enable(name: string, reason: string): void {
    const path = `/etc/systemd/system/multi-user.target.wants/${containerUnit(name)}`;
    if (this.#host.isThere(path)) return;
    const target = '/lib/systemd/system/lxc@.service';
    this.#others.push({
      kind: 'link',
      path,
      target,
      reason: `${reason}; lxc.start.auto has no effect on this host`,
    });
  }

  #lockers(name: string, hookArguments: readonly string[]): void {
    if (hookArguments.length === 0) return;
    const { lockers } = this.#facts.host;
    const path = `/etc/lockerd/containers/${name}.conf`;
    const before = this.#host.readText(path).text ?? '';
    let text = before;
    for (const argument of new Set(hookArguments)) {
      if (!lockers.has(argument)) {
        this.#notes.push(
          `${name}: its locker hook had the argument "${argument}", which is no locker`,
        );
        continue;
      }
      const change = { locker: argument, readOnly: false };
      text = editSettings(text, change, path, this.#facts.settings.defaults);
    }
    if (text === before) return;
    const reason =
      'the arguments of the classic hooks name lockers beside the own and the shared ones';
    if (before === '') this.#others.push({ kind: 'create', path, text, reasons: [reason] });
    else {
      const old = linesOfText(before);
      const edits = linesOfText(text).flatMap((line, index): LineEdit[] =>
        line === old[index] ? [] : [{ line: index + 1, after: [line], reason }],
      );
      this.#edited.set(path, { before, edits });
    }
  }

  #fstab(): void {
    const lines = this.#facts.host.fstab.filter(
      ({ type, options }) => type === 'cgroup' && !options.includes('noauto'),
    );
    const text = lines.length === 0 ? undefined : this.#text('/etc/fstab');
    if (text === undefined) return;
    const raw = linesOfText(text);
    const edits = lines.map(({ line }) => ({
      line,
      after: [`# ${raw[line - 1] ?? ''}`],
      reason:
        'systemd mounts the control groups; with this line the boot fails, or they are hidden',
    }));
    this.#edited.set(this.#host.realPath('/etc/fstab', true), { before: text, edits });
  }

  /** What the next boot does with it, where somebody has to do something. */
  #noteStart({ name, config, isCopied }: OldContainer, now: LxcConfig): void {
    if (isCopied && /^(?:\/var)?\/run\/ganeti\//.test(config)) {
      this.#notes.push(
        `${name}: Ganeti starts this instance after a boot; have it shut down there ` +
          `("gnt-instance shutdown ${name}"), so that only its unit starts it`,
      );
    }
    const { reason, ownScript } = this.#startOf(name);
    if (reason !== undefined || ownScript) return;
    // The file on the disk has its includes, the new text has no comments behind values.
    const before = parseLxcConfig(this.#lxc.read(config));
    const how = {
      startAuto: before.startAuto || now.startAuto,
      groups: [...before.groups, ...now.groups],
    };
    const links = this.#unitLinks(containerUnit(name));
    if (links.isMasked || decideBoot(this.#facts.host.boot, how, links, false).starts) return;
    const enable = `systemctl enable ${shellWord(containerUnit(name))}`;
    this.#notes.push(`${name}: nothing starts it at boot; if it should start: ${enable}`);
  }

  /** What LXC would still refuse. */
  #noteProblems(name: string, { problems }: LxcConfig): void {
    for (const { line, reason, remedy } of problems) {
      const how = remedy === undefined ? '' : `; ${remedy}`;
      this.#notes.push(`${name}: line ${line} after the import: ${printable(reason + how)}`);
    }
  }
}

/** A configuration without what it includes. */
function parsed(path: string, text: string): LxcConfig {
  const file = { path, text: splitLxcText(text), badLines: new Set<number>(), includes: [] };
  return parseLxcConfig({ file, paths: [] });
}

/** Whether a configuration lies in the root file system that it names. */
function isInGuest(path: string, text: string): boolean {
  return splitLxcText(text).lines.some((line) => {
    if (!('key' in line) || !['lxc.rootfs', 'lxc.rootfs.path'].includes(line.key)) return false;
    const rootfs = withoutTrailingSlashes(line.value.replace(/^\w+:/, ''));
    return rootfs !== '' && isAtOrBelow(path, rootfs);
  });
}
