/** The frame of all views: where one is, what went wrong, and what jobs have to say. */

import { useEffect, useRef, useSyncExternalStore, type ReactNode } from 'react';
import { containerPath } from '../api/paths.ts';
import { ContainerPage, goneTitle } from './container-page.tsx';
import { ContainersPage } from './containers-page.tsx';
import { useRoute, useServices, useSnapshot } from './hooks.ts';
import { LockersPage } from './lockers-page.tsx';
import * as pf from './patternfly.ts';

function Toasts(): ReactNode {
  const { notices } = useServices();
  const shown = useSyncExternalStore(notices.subscribe, notices.snapshot);
  return (
    <pf.AlertGroup isToast isLiveRegion>
      {shown.map(({ id, variant, title, text }) => (
        <pf.Alert
          key={id}
          variant={variant}
          title={title}
          component="p"
          actionClose={
            <pf.AlertActionCloseButton
              onClose={() => {
                notices.remove(id);
              }}
            />
          }
        >
          {text === '' ? undefined : <p className="lockerd-words">{text}</p>}
        </pf.Alert>
      ))}
    </pf.AlertGroup>
  );
}

function Views({ route }: { readonly route: readonly string[] }): ReactNode {
  const [first = '', name] = route;
  if (first === 'lockers') return <LockersPage />;
  if (first === 'container' && name !== undefined) return <ContainerPage key={name} name={name} />;
  return <ContainersPage />;
}

const absentTitle = 'lockerd does not answer';

function Content({ route }: { readonly route: readonly string[] }): ReactNode {
  const { connection, problem, authority } = useSnapshot();
  if (connection === 'connecting') {
    return (
      <pf.PageSection>
        <pf.EmptyState headingLevel="h1" titleText="Connecting to lockerd" icon={pf.Spinner} />
      </pf.PageSection>
    );
  }
  if (connection === 'absent') {
    return (
      <pf.PageSection>
        <pf.EmptyState
          headingLevel="h1"
          titleText={absentTitle}
          status="danger"
          icon={pf.ExclamationCircleIcon}
        >
          <pf.EmptyStateBody>
            {problem} The page tries again by itself. The journal of lockerd.service may say more.
          </pf.EmptyStateBody>
        </pf.EmptyState>
      </pf.PageSection>
    );
  }
  return (
    <>
      {authority !== '' && authority !== 'polkit' && (
        <pf.PageSection>
          <pf.Alert isInline component="h2" variant="warning" title="Nobody may change anything">
            {authority}
          </pf.Alert>
        </pf.PageSection>
      )}
      <Views route={route} />
    </>
  );
}

/** Tells those who do not see it that another view has come by itself. */
function Told({ route }: { readonly route: readonly string[] }): ReactNode {
  const { connection, containers } = useSnapshot();
  const wasAbsent = useRef(false);
  useEffect(() => {
    if (connection !== 'connecting') wasAbsent.current = connection === 'absent';
  });
  const [first, name] = route;
  const isGone =
    first === 'container' && name !== undefined && !containers.has(containerPath(name));
  const ready = isGone ? goneTitle(name) : wasAbsent.current ? 'lockerd answers again' : '';
  const words = { connecting: 'Connecting to lockerd', absent: absentTitle, ready };
  return (
    <div role="status" className="pf-v6-screen-reader">
      {words[connection]}
    </div>
  );
}

/** A link that goes with its view leaves the focus nowhere: it begins at the new view's heading then. */
function useFocusInView(route: readonly string[]): void {
  const isFirst = useRef(true);
  const view = route.join('/');
  useEffect(() => {
    const isLost = document.activeElement === document.body && !isFirst.current;
    isFirst.current = false;
    const heading = document.querySelector<HTMLElement>('main h1');
    if (!isLost || heading === null) return;
    heading.tabIndex = -1;
    heading.focus();
  }, [view]);
}

export function App(): ReactNode {
  const route = useRoute();
  useFocusInView(route);
  const isLockers = route[0] === 'lockers';
  return (
    <pf.Page className="no-masthead-sidebar" mainContainerId="main">
      <pf.PageSection type="subnav">
        <pf.Nav variant="horizontal-subnav" aria-label="Views">
          <pf.NavList>
            <pf.NavItem to="#/" isActive={!isLockers}>
              Containers
            </pf.NavItem>
            <pf.NavItem to="#/lockers" isActive={isLockers}>
              Lockers
            </pf.NavItem>
          </pf.NavList>
        </pf.Nav>
      </pf.PageSection>
      <Told route={route} />
      <Content route={route} />
      <Toasts />
    </pf.Page>
  );
}
