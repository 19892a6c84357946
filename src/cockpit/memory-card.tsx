/** The memory of a container, and its balloon. */

import { useId, useState, type CSSProperties, type ReactNode } from 'react';
import { refusal } from './actions.ts';
import { Choice, TextField } from './fields.tsx';
import { useServices, useSnapshot } from './hooks.ts';
import type { Container, Figures, Job } from './objects.ts';
import { JobProgress, PermittedButton, UseBar } from './parts.tsx';
import * as pf from './patternfly.ts';
import { variant } from './values.ts';
import { isUp, parseSize, sizeText } from './words.ts';

const mebibyte = 1024 ** 2;
/** The service takes no less. */
const leastLimit = 16 * mebibyte;

const balloonAction = 'org.lockerd1.balloon';

/** What a trial has shown holds for so long; then the guest may do something else. */
const refusedMs = 60_000;

interface Refused {
  /** The lowest limit that would have worked. */
  readonly bytes: number;
  readonly ms: number;
}

/** Bytes of the lowest limit that would have worked, as a refused balloon names it. */
export function lowestOf({ errorName, errorMessage }: Job): number | undefined {
  if (!errorName.endsWith('.LimitBelowUsage')) return undefined;
  const [, size] =
    /the lowest limit that would have worked is (\d+[KMGTPE]?)/.exec(errorMessage) ?? [];
  return size === undefined ? undefined : parseSize(size);
}

/** Which place of the slider stands for a size: each doubling is as wide as the others. */
const placeOf = (bytes: number, most: number): number =>
  (Math.log2(Math.max(bytes, leastLimit) / leastLimit) / Math.log2(most / leastLimit)) * 1000;

const sizeAt = (place: number, most: number): number =>
  Math.round((leastLimit * 2 ** ((place / 1000) * Math.log2(most / leastLimit))) / mebibyte) *
  mebibyte;

function Slider({
  bytes,
  most,
  lowest,
  isRisky,
  isDisabled,
  onChange,
}: {
  readonly bytes: number;
  readonly most: number;
  readonly lowest: number | undefined;
  /** Whether the size is below the lowest one. */
  readonly isRisky: boolean;
  readonly isDisabled: boolean;
  readonly onChange: (bytes: number) => void;
}): ReactNode {
  const id = useId();
  return (
    <>
      <div className="lockerd-slider">
        <input
          type="range"
          aria-label="New limit"
          aria-valuetext={sizeText(bytes)}
          aria-describedby={id}
          min={0}
          max={1000}
          disabled={isDisabled}
          value={placeOf(bytes, most)}
          onChange={(event) => {
            onChange(sizeAt(Number(event.target.value), most));
          }}
        />
        {lowest !== undefined && (
          <div
            className="lockerd-mark"
            style={{ '--lockerd-place': placeOf(lowest, most) / 1000 } as CSSProperties}
          />
        )}
      </div>
      <Lowest id={id} lowest={lowest} isRisky={isRisky} />
    </>
  );
}

function Lowest({
  id,
  lowest,
  isRisky,
}: {
  readonly id: string;
  readonly lowest: number | undefined;
  readonly isRisky: boolean;
}): ReactNode {
  if (lowest === undefined) return null;
  return (
    <pf.HelperText id={id}>
      <pf.HelperTextItem variant={isRisky ? 'warning' : 'default'}>
        Lowest safe limit: {sizeText(lowest)}
      </pf.HelperTextItem>
    </pf.HelperText>
  );
}

/** Why a limit cannot be asked for; undefined if it can. */
function sizeProblem(bytes: number | undefined): string | undefined {
  if (bytes === undefined) return 'Write a size such as 512 MiB or 2 GiB.';
  return bytes < leastLimit ? 'The smallest limit is 16 MiB.' : undefined;
}

interface FormProps {
  readonly container: Container;
  readonly hostMemory: number;
  readonly lowest: number | undefined;
  readonly why: string | undefined;
  /** Called with the lowest limit that a refused change would have had, if it was refused for that. */
  readonly onLowest: (bytes: number | undefined) => void;
}

function BalloonForm({ container, hostMemory, lowest, why, onLowest }: FormProps): ReactNode {
  const { host, notices } = useServices();
  const most = Math.max(hostMemory, container.memoryLimit ?? 0, 32 * mebibyte);
  const [written, setWritten] = useState(sizeText(container.memoryLimit ?? most));
  const [isUnlimited, setIsUnlimited] = useState(container.memoryLimit === undefined);
  const [isLasting, setIsLasting] = useState(false);
  const bytes = parseSize(written);
  const problem = isUnlimited ? undefined : sizeProblem(bytes);
  const isRisky = !isUnlimited && lowest !== undefined && bytes !== undefined && bytes < lowest;
  const set = (): void => {
    const title = `Memory limit of ${container.name}`;
    if (isUnlimited) {
      const options = isLasting ? ['--persist'] : [];
      void notices.runProgram(title, ['balloon', ...options, '--', container.name, 'max']);
      return;
    }
    const options = { persist: variant('b', isLasting) };
    const onEnd = (job: Job): void => {
      onLowest(lowestOf(job));
    };
    const start = () => host.startJob(container.path, 'Balloon', [bytes], 't', options);
    void notices.run(title, start, onEnd);
  };
  return (
    <pf.Form
      aria-label="Memory limit"
      onSubmit={(event) => {
        event.preventDefault();
        if (why === undefined && problem === undefined) set();
      }}
    >
      <TextField
        label="New limit"
        value={isUnlimited ? '' : written}
        hint={problem ?? (isRisky ? 'This is below the lowest safe limit.' : undefined)}
        isBad={problem !== undefined}
        isDisabled={isUnlimited}
        onChange={setWritten}
      >
        <Slider
          bytes={bytes ?? leastLimit}
          most={most}
          lowest={lowest}
          isRisky={isRisky}
          isDisabled={isUnlimited}
          onChange={(size) => {
            setWritten(sizeText(size));
          }}
        />
      </TextField>
      <Choice label="No limit" isChosen={isUnlimited} onChange={setIsUnlimited} />
      <Choice label="Also for later starts" isChosen={isLasting} onChange={setIsLasting} />
      <div>
        <PermittedButton variant="secondary" why={problem ?? why} onClick={set}>
          Set memory limit
        </PermittedButton>
      </div>
    </pf.Form>
  );
}

export function MemoryCard({
  container,
  figures,
  permissions,
  hostMemory,
  lowest,
}: {
  readonly container: Container;
  readonly figures: Figures | undefined;
  readonly permissions: ReadonlyMap<string, string> | undefined;
  /** Bytes of the whole host. */
  readonly hostMemory: number | undefined;
  /** Bytes of the lowest limit that is not refused at once, while the guest runs. */
  readonly lowest: number | undefined;
}): ReactNode {
  const { features, jobs } = useSnapshot();
  const [refused, setRefused] = useState<Refused>();
  const tried = refused !== undefined && Date.now() - refused.ms < refusedMs ? refused.bytes : 0;
  const used = isUp(container.state) ? figures?.memory : undefined;
  const balloon = container.jobs
    .map((path) => jobs.get(path))
    .find((job) => job?.verb === 'balloon');
  return (
    <pf.Card>
      <pf.CardHeader>
        <pf.CardTitle component="h2">Memory</pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody className="lockerd-stack">
        <UseBar used={used} whole={container.memoryLimit} label="Memory in use" />
        {figures?.memoryPeak !== undefined && (
          <div>
            Most since the start: {sizeText(figures.memoryPeak)}; swap: {sizeText(figures.swap)} of{' '}
            {sizeText(container.swapLimit, 'what the host has')}
          </div>
        )}
        {balloon !== undefined && <JobProgress job={balloon} />}
        {features.has('balloon') && hostMemory !== undefined && (
          <BalloonForm
            // Another limit, whoever has set it, is where the next change begins.
            key={container.memoryLimit ?? 'none'}
            container={container}
            hostMemory={hostMemory}
            lowest={lowest === undefined ? undefined : Math.max(lowest, tried)}
            why={refusal(permissions, balloonAction)}
            onLowest={(bytes) => {
              if (bytes !== undefined) setRefused({ bytes, ms: Date.now() });
            }}
          />
        )}
      </pf.CardBody>
    </pf.Card>
  );
}
