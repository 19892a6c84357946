/** One container. */

import { useEffect, useState, type ReactNode } from 'react';
import { containerPath } from '../api/paths.ts';
import { AttachmentsCard } from './attachments-card.tsx';
import { ContainerButtons } from './container-menu.tsx';
import { usePermissions, usePolled, useServices, useSights, useSnapshot } from './hooks.ts';
import { JournalCard } from './journal-card.tsx';
import { LimitsCard } from './limits-card.tsx';
import { MemoryCard } from './memory-card.tsx';
import { figuresOf, type Container } from './objects.ts';
import { OverviewCard } from './overview-card.tsx';
import { JobProgress, StateLabel } from './parts.tsx';
import * as pf from './patternfly.ts';
import { TerminalCard } from './terminal-card.tsx';
import { UnitCard } from './unit-card.tsx';
import { UsageCard, useHistory } from './usage-card.tsx';
import { isUp } from './words.ts';

const figuresEveryMs = 2000;

/** Bytes of memory that the host has; undefined until it is known. */
function useHostMemory(): number | undefined {
  const [bytes, setBytes] = useState<number>();
  useEffect(() => {
    const file = cockpit.file('/proc/meminfo');
    file.read().then(
      (content) => {
        const [, kib] = /^MemTotal: +(\d+) kB$/m.exec(content ?? '') ?? [];
        if (kib !== undefined) setBytes(Number(kib) * 1024);
      },
      () => undefined,
    );
    return () => {
      file.close();
    };
  }, []);
  return bytes;
}

function Troubles({ container }: { readonly container: Container }): ReactNode {
  const { problem, waitsFor, oomKills, jobs: own } = container;
  const { jobs } = useSnapshot();
  return (
    <>
      {problem !== '' && (
        <pf.Alert isInline component="h2" variant="danger" title="It cannot start as it is">
          <p className="lockerd-words">{problem}</p>
        </pf.Alert>
      )}
      {waitsFor.length > 0 && (
        <pf.Alert isInline component="h2" variant="warning" title="Its start waits for units">
          <p className="lockerd-words">{waitsFor.join('\n')}</p>
        </pf.Alert>
      )}
      {oomKills > 0 && (
        <pf.Alert
          isInline
          component="h2"
          variant="warning"
          title={`Killed for want of memory: ${oomKills === 1 ? '1 process' : `${oomKills} processes`}`}
        />
      )}
      {own.map((path) => {
        const job = jobs.get(path);
        // The progress of a balloon is beside its slider.
        return job === undefined || job.verb === 'balloon' ? null : (
          <JobProgress key={path} job={job} />
        );
      })}
    </>
  );
}

export const goneTitle = (name: string): string => `There is no container ${name}`;

function Gone({ name }: { readonly name: string }): ReactNode {
  return (
    <pf.PageSection isFilled>
      <pf.EmptyState headingLevel="h1" titleText={goneTitle(name)} icon={pf.CubesIcon}>
        <pf.EmptyStateBody>
          It has been removed, or a systemctl daemon-reload has not found it yet.
        </pf.EmptyStateBody>
        <pf.EmptyStateFooter>
          <pf.EmptyStateActions>
            <pf.Button variant="link" component="a" href="#/">
              All containers
            </pf.Button>
          </pf.EmptyStateActions>
        </pf.EmptyStateFooter>
      </pf.EmptyState>
    </pf.PageSection>
  );
}

function Cards({ container }: { readonly container: Container }): ReactNode {
  const { host } = useServices();
  const { features } = useSnapshot();
  const { path, name, state, memoryLimit } = container;
  const permissions = usePermissions(path);
  const hostMemory = useHostMemory();
  const ask = async () => figuresOf(await host.properties(path));
  const figures = usePolled(ask, figuresEveryMs, `${path} ${state}`);
  const moments = useHistory(figures);
  // Another limit or another state lets the guest be seen anew.
  const sights = useSights([name], `${name} ${state} ${memoryLimit ?? ''}`);
  const sight = isUp(state) ? sights.get(name) : undefined;
  return (
    <>
      <pf.PageSection hasBodyWrapper={false} className="lockerd-stack">
        <pf.Flex alignItems={{ default: 'alignItemsCenter' }}>
          <pf.Title headingLevel="h1" className="lockerd-words">
            {container.name}
          </pf.Title>
          <StateLabel state={container.state} />
        </pf.Flex>
        <ContainerButtons container={container} permissions={permissions} />
        <Troubles container={container} />
      </pf.PageSection>
      <pf.PageSection isFilled>
        <div className="lockerd-cards">
          <div className="lockerd-stack">
            <OverviewCard container={container} sight={sight} />
            {features.has('lockers') && (
              <AttachmentsCard container={container} permissions={permissions} />
            )}
          </div>
          <div className="lockerd-stack">
            <MemoryCard
              container={container}
              figures={figures}
              permissions={permissions}
              hostMemory={hostMemory}
              lowest={sight?.lowestLimit}
            />
            {features.has('limits') && figures !== undefined && (
              <LimitsCard container={container} figures={figures} permissions={permissions} />
            )}
          </div>
          <UsageCard container={container} moments={moments} />
          <TerminalCard container={container} />
          <JournalCard container={container} />
          <UnitCard container={container} />
        </div>
      </pf.PageSection>
    </>
  );
}

export function ContainerPage({ name }: { readonly name: string }): ReactNode {
  const { containers } = useSnapshot();
  const container = containers.get(containerPath(name));
  return (
    <>
      <pf.PageSection type="breadcrumb">
        <pf.Breadcrumb>
          <pf.BreadcrumbItem to="#/">Containers</pf.BreadcrumbItem>
          <pf.BreadcrumbItem isActive>
            <span className="lockerd-words">{name}</span>
          </pf.BreadcrumbItem>
        </pf.Breadcrumb>
      </pf.PageSection>
      {container === undefined ? <Gone name={name} /> : <Cards container={container} />}
    </>
  );
}
