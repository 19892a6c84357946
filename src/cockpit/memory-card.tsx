/** The memory of a container, and its balloon. */

import { useId, useState, type ReactNode } from 'react';
import { refusal } from './actions.ts';
import { useServices, useSnapshot } from './hooks.ts';
import type { Container, Figures, Job } from './objects.ts';
import { PermittedButton, UseBar } from './parts.tsx';
import * as pf from './patternfly.ts';
import { noLimit, variant } from './values.ts';
import { isUp, parseSize, sizeText } from './words.ts';

const mebibyte = 1024 ** 2;
/** The service takes no less. */
const leastLimit = 16 * mebibyte;

const balloonAction = 'org.lockerd1.balloon';

/** Bytes of the lowest limit that would have worked, as a refused balloon names it. */
export function lowestOf({ errorName, errorMessage }: Job): number | undefined {
  if (!errorName.endsWith('.LimitBelowUsage')) return undefined;
  const [, size] = /the lowest limit that would have worked is (\d+[KMGTPE]?)/.exec(errorMessage) ?? [];
  return size === undefined ? undefined : parseSize(size);
}

/** Which place of the slider stands for a size: each doubling is as wide as the others. */
const placeOf = (bytes: number, most: number): number =>
  (Math.log2(Math.max(bytes, leastLimit) / leastLimit) / Math.log2(most / leastLimit)) * 1000;

const sizeAt = (place: number, most: number): number =>
  Math.round((leastLimit * 2 ** ((place / 1000) * Math.log2(most / leastLimit))) / mebibyte) *
  mebibyte;

interface FormProps {
  readonly container: Container;
  readonly figures: Figures | undefined;
  readonly hostMemory: number;
  readonly lowest: number | undefined;
  readonly why: string | undefined;
  readonly onLowest: (bytes: number) => void;
}

function BalloonForm({ container, hostMemory, lowest, why, onLowest }: FormProps): ReactNode {
  const { host, notices } = useServices();
  const id = useId();
  const most = Math.max(hostMemory, container.memoryLimit ?? 0, 32 * mebibyte);
  const [written, setWritten] = useState(
    sizeText(container.memoryLimit ?? most).replace(/\.\d+/, ''),
  );
  const [isUnlimited, setIsUnlimited] = useState(container.memoryLimit === undefined);
  const [isLasting, setIsLasting] = useState(false);
  const bytes = parseSize(written);
  const isTooSmall = bytes !== undefined && bytes < leastLimit;
  const problem = isUnlimited
    ? undefined
    : bytes === undefined
      ? 'Write a size such as 512 MiB or 2 GiB.'
      : isTooSmall
        ? 'The smallest limit is 16 MiB.'
        : undefined;
  const isRisky = !isUnlimited && lowest !== undefined && bytes !== undefined && bytes < lowest;
  const set = (): void => {
    const limit = isUnlimited ? noLimit : bytes;
    void notices.run(
      `Memory limit of ${container.name}`,
      () =>
        host.startJob(container.path, 'Balloon', [limit], 't', {
          persist: variant('b', isLasting),
        }),
      (job) => {
        const found = lowestOf(job);
        if (found !== undefined) onLowest(found);
      },
    );
  };
  return (
    <pf.Form
      onSubmit={(event) => {
        event.preventDefault();
        if (why === undefined && problem === undefined) set();
      }}
    >
      <pf.FormGroup label="New limit" fieldId={`${id}-size`}>
        <div className="lockerd-slider">
          <input
            type="range"
            aria-label="New limit"
            aria-valuetext={isUnlimited ? 'no limit' : written}
            min={0}
            max={1000}
            disabled={isUnlimited}
            value={placeOf(bytes ?? leastLimit, most)}
            onChange={(event) => {
              setWritten(sizeText(sizeAt(Number(event.target.value), most)));
            }}
          />
          {lowest !== undefined && (
            <div
              className="lockerd-mark"
              style={{ insetInlineStart: `${placeOf(lowest, most) / 10}%` }}
              title={`Lowest safe limit: ${sizeText(lowest)}`}
            />
          )}
        </div>
        {lowest !== undefined && (
          <pf.HelperText>
            <pf.HelperTextItem variant={isRisky ? 'warning' : 'default'}>
              Lowest safe limit: {sizeText(lowest)}
            </pf.HelperTextItem>
          </pf.HelperText>
        )}
        <pf.TextInput
          id={`${id}-size`}
          value={isUnlimited ? '' : written}
          isDisabled={isUnlimited}
          validated={problem === undefined ? 'default' : 'error'}
          aria-describedby={`${id}-problem`}
          onChange={(_event, text) => {
            setWritten(text);
          }}
        />
        <pf.HelperText id={`${id}-problem`} isLiveRegion>
          {problem !== undefined && <pf.HelperTextItem variant="error">{problem}</pf.HelperTextItem>}
        </pf.HelperText>
      </pf.FormGroup>
      <pf.Checkbox
        id={`${id}-none`}
        label="No limit"
        isChecked={isUnlimited}
        onChange={(_event, isChecked) => {
          setIsUnlimited(isChecked);
        }}
      />
      <pf.Checkbox
        id={`${id}-persist`}
        label="Also for later starts"
        isChecked={isLasting}
        onChange={(_event, isChecked) => {
          setIsLasting(isChecked);
        }}
      />
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
  floor,
}: {
  readonly container: Container;
  readonly figures: Figures | undefined;
  readonly permissions: ReadonlyMap<string, string> | undefined;
  /** Bytes of the whole host. */
  readonly hostMemory: number | undefined;
  /** The lowest limit that can work, as far as it is known without a try. */
  readonly floor: number | undefined;
}): ReactNode {
  const { features } = useSnapshot();
  const [refused, setRefused] = useState<number>();
  const used = isUp(container.state) ? figures?.memory : undefined;
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
        {features.has('balloon') && hostMemory !== undefined && (
          <BalloonForm
            container={container}
            figures={figures}
            hostMemory={hostMemory}
            lowest={isUp(container.state) ? (refused ?? floor) : undefined}
            why={refusal(permissions, balloonAction)}
            onLowest={setRefused}
          />
        )}
      </pf.CardBody>
    </pf.Card>
  );
}
