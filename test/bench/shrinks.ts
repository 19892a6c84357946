// npm run bench -- shrinks [--vm] [--count N] [--controls N] [--processes N]: what shrinks do to guests that allocate meanwhile,
// and what becomes of the same guests where the limit is just written.
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { bootHost } from '../host/host.ts';
import { MemoryGuest, mib, type BalloonAnswer, type LoadKind } from '../machines/memory-guest.ts';
import { offline } from '../machines/support.ts';
import type { TestHost } from '../machines/test-host.ts';
import { bootVm } from '../vm/vm.ts';

const processCounts = [1, 8, 48] as const;
const kinds: readonly LoadKind[] = ['saw', 'growing', 'busy'];
/** From far below to a little above what a guest wants at most. */
const targetsMib = [240, 180, 150, 270, 210] as const;
const loadMib = 200;
/** A limit that was set kills also later. */
const lookMs = 3000;
/** As long as a shrink watches its guest, so that the control does not look for a shorter time. */
const controlMs = 5000 + lookMs;

interface Shrink {
  readonly result: 'committed' | 'refused' | 'rolled back';
  readonly kills: number;
  readonly stallMs: number | undefined;
  readonly seconds: number;
}

class Bench {
  readonly #guest: MemoryGuest;
  /** The load that is there: starting one takes long on an emulated host. */
  #loaded = '';

  constructor(guest: MemoryGuest) {
    this.#guest = guest;
  }

  async #load(kind: LoadKind, processes: number): Promise<void> {
    const wanted = `${kind} ${processes}`;
    if (this.#loaded === wanted) return;
    await this.unload();
    try {
      await this.#guest.load({ kind, processes, mib: loadMib });
    } catch {
      // The kernel has killed the guest's init.
      await this.#guest.host.run('systemctl', ['stop', this.#guest.unit], { timeoutMs: 180_000 });
      await this.#guest.start();
      await this.#guest.load({ kind, processes, mib: loadMib });
    }
    this.#loaded = wanted;
    await sleep(500);
  }

  async unload(): Promise<void> {
    if (this.#loaded !== '') await this.#guest.unload();
    this.#loaded = '';
  }

  /** Runs `act` beside a hostile load, and counts whom the kernel killed. */
  async #beside<T>(
    round: number,
    processes: number,
    act: (limitMib: number, before: number) => Promise<T>,
  ) {
    const guest = this.#guest;
    await this.#load(kindOf(round), processes);
    const before = await guest.kills();
    const result = await act(targetsMib[round % targetsMib.length] ?? 0, before);
    const kills = (await guest.kills()) - before;
    await guest.reset();
    if (kills > 0) {
      // Whoever is left is another load.
      await this.unload();
    }
    return { result, kills };
  }

  async shrink(round: number, processes: number): Promise<Shrink> {
    const { result, kills } = await this.#beside(round, processes, async (limitMib) => {
      const begun = performance.now();
      const answer = await this.#guest.balloon(limitMib * mib);
      const seconds = (performance.now() - begun) / 1000;
      await sleep(lookMs);
      return { answer, seconds };
    });
    const { answer, seconds } = result;
    const { stallUsec } = answer;
    const stallMs = stallUsec === undefined ? undefined : stallUsec / 1000;
    return { result: resultOf(answer), kills, stallMs, seconds };
  }

  /** Whether the kernel kills where the limit is just written. */
  async control(round: number, processes: number): Promise<boolean> {
    const { kills } = await this.#beside(round, processes, async (limitMib, before) => {
      // cgroup v1 refuses a limit below what is in use, and takes it a moment later.
      const script = `
        cd "$1"
        for f in memory.max memory.limit_in_bytes; do
          ! [ -f $f ] || for try in $(seq 50); do ! echo "$2" > $f || break; sleep 0.1; done
        done`;
      const args = ['-c', script, 'sh', this.#guest.group(), String(limitMib * mib)];
      await this.#guest.host.run('sh', args);
      const end = Date.now() + controlMs;
      while ((await this.#guest.kills()) === before && Date.now() < end) await sleep(100);
    });
    return kills > 0;
  }
}

function kindOf(round: number): LoadKind {
  return kinds[round % kinds.length] ?? 'saw';
}

/** Rounds in an order in which one load comes after the other. */
function roundsByKind(count: number): number[] {
  const rounds = Array.from({ length: count }, (_, round) => round);
  return kinds.flatMap((kind) => rounds.filter((round) => kindOf(round) === kind));
}

function resultOf(answer: BalloonAnswer): Shrink['result'] {
  if (answer.ok) return 'committed';
  if (answer.error !== 'LimitBelowUsage') {
    throw new Error(`a shrink failed: ${answer.error}: ${answer.message}`);
  }
  return answer.progress.some(({ phase }) => phase !== 'checking') ? 'rolled back' : 'refused';
}

function medianAndMost(amounts: readonly number[], digits: number): string {
  if (amounts.length === 0) return '-';
  const sorted = [...amounts].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  return `${median.toFixed(digits)} / ${(sorted.at(-1) ?? 0).toFixed(digits)}`;
}

const columns: readonly [header: string, width: number][] = [
  ['processes', 9],
  ['shrinks', 8],
  ['committed', 10],
  ['refused', 8],
  ['rolled back', 12],
  ['kills', 6],
  ['stall ms, most', 16],
  ['time s, most', 14],
  ['killing plain writes', 21],
];

function printRow(cells: readonly (string | number)[]): void {
  console.log(columns.map(([, width], index) => String(cells[index]).padStart(width)).join(''));
}

async function measure(
  host: TestHost,
  count: number,
  controls: number,
  only: number | undefined,
): Promise<void> {
  const guest = new MemoryGuest(host, 'web');
  await guest.locate();
  const bench = new Bench(guest);
  printRow(columns.map(([header]) => header));
  for (const [index, processes] of processCounts.entries()) {
    if (only !== undefined && processes !== only) continue;
    const share = (all: number) => Math.floor((all + index) / processCounts.length);
    const rounds = share(count);
    const shrinks: Shrink[] = [];
    let controlKills = 0;
    for (const [done, round] of roundsByKind(rounds).entries()) {
      const shrink = await bench.shrink(round, processes);
      shrinks.push(shrink);
      console.error(
        `${processes} processes, ${done + 1} of ${rounds}: ${shrink.result}, ${shrink.kills} kills, ` +
          `stall ${shrink.stallMs?.toFixed(0) ?? '-'} ms, ${shrink.seconds.toFixed(1)} s`,
      );
    }
    // Spread evenly over the rounds, so that they meet all kinds and limits.
    const written = roundsByKind(rounds).filter(
      (round) =>
        Math.floor(((round + 1) * share(controls)) / rounds) >
        Math.floor((round * share(controls)) / rounds),
    );
    for (const round of written) if (await bench.control(round, processes)) controlKills++;
    await bench.unload();
    const results = (result: Shrink['result']) =>
      shrinks.filter((shrink) => shrink.result === result).length;
    const stalls = shrinks.flatMap(({ stallMs }) => (stallMs === undefined ? [] : [stallMs]));
    printRow([
      ...[processes, shrinks.length],
      ...[results('committed'), results('refused'), results('rolled back')],
      shrinks.reduce((sum, { kills }) => sum + kills, 0),
      medianAndMost(stalls, 0),
      medianAndMost(
        shrinks.map(({ seconds }) => seconds),
        1,
      ),
      `${controlKills} of ${written.length}`,
    ]);
  }
}

/** @param args what follows "shrinks" */
export async function benchShrinks(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      vm: { type: 'boolean', default: false },
      count: { type: 'string', default: '100' },
      controls: { type: 'string' },
      processes: { type: 'string' },
    },
  });
  const count = Number(values.count);
  const controls = Number(values.controls ?? count);
  const only = values.processes === undefined ? undefined : Number(values.processes);
  if (!Number.isInteger(controls) || controls < 0 || controls > count) {
    throw new Error(`--controls=${values.controls}: give a number up to that of the shrinks`);
  }
  if (!Number.isInteger(count) || count < processCounts.length) {
    throw new Error(`--count=${values.count}: give a number from ${processCounts.length} on`);
  }
  const host = await (values.vm ? bootVm : bootHost)({ name: 'shrinks' });
  try {
    const guest = new MemoryGuest(host, 'web');
    await host.createContainer(guest.name, 'systemd', { config: offline });
    await guest.prepare();
    await host.shell('systemctl daemon-reload; systemctl start lockerd-helper.socket');
    await guest.start();
    console.log(values.vm ? 'cgroup v2, emulated Debian 13' : 'cgroup v1, Debian 12');
    await measure(host, count, controls, only);
  } finally {
    await host.close();
  }
}
