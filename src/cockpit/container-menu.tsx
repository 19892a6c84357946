/** Starting, stopping and the like: as a menu in the table and as buttons on a container's page. */

import { useState, type ReactNode } from 'react';
import { ActionMenu } from './action-menu.tsx';
import { actionsOf, containerActions, refusal, unfit, type ContainerAction } from './actions.ts';
import { useServices } from './hooks.ts';
import type { Container } from './objects.ts';
import { PermittedButton, Question } from './parts.tsx';
import * as pf from './patternfly.ts';

/** A function that does an action, and the question that it may have before. */
function useAction(container: Container): [(action: ContainerAction) => void, ReactNode] {
  const { host, notices } = useServices();
  const [asked, setAsked] = useState<ContainerAction>();
  const run = (action: ContainerAction): void => {
    const args = action.args?.(container) ?? [];
    void notices.run(`${action.noun} of ${container.name}`, () =>
      host.startJob(container.path, action.method, args, action.type ?? '', action.options),
    );
  };
  const question = asked?.question !== undefined && (
    <Question
      title={`${asked.label} ${container.name}?`}
      text={asked.question}
      confirm={asked.label}
      onConfirm={() => {
        run(asked);
      }}
      onClose={() => {
        setAsked(undefined);
      }}
    />
  );
  const start = (action: ContainerAction): void => {
    if (action.question === undefined) run(action);
    else setAsked(action);
  };
  return [start, question];
}

export function ContainerMenu({ container }: { readonly container: Container }): ReactNode {
  const [start, question] = useAction(container);
  const items = containerActions
    .filter((action) => action.isFor(container))
    .map((action) => ({
      ...action,
      onSelect: () => {
        start(action);
      },
    }));
  return (
    <>
      <ActionMenu path={container.path} name={container.name} items={items} />
      {question}
    </>
  );
}

export function ContainerButtons({
  container,
  permissions,
}: {
  readonly container: Container;
  readonly permissions: ReadonlyMap<string, string> | undefined;
}): ReactNode {
  const [start, question] = useAction(container);
  return (
    <pf.Flex gap={{ default: 'gapSm' }}>
      {actionsOf(container).map((action, index) => (
        <PermittedButton
          key={index}
          variant={action.isDangerous ? 'danger' : index === 0 ? 'primary' : 'secondary'}
          why={refusal(permissions, action.action) ?? unfit(action, container)}
          onClick={() => {
            start(action);
          }}
        >
          {action.label}
        </PermittedButton>
      ))}
      {question}
    </pf.Flex>
  );
}
