/** What a container is and what is seen of its guest. */

import type { ReactNode } from 'react';
import { addressText } from './addresses.ts';
import type { Container, Sight } from './objects.ts';
import * as pf from './patternfly.ts';
import { autostartText, spanText } from './words.ts';

export function OverviewCard({
  container,
  sight,
}: {
  readonly container: Container;
  /** What is seen of its guest, if it runs. */
  readonly sight: Sight | undefined;
}): ReactNode {
  const { groups } = container;
  const facts: readonly (readonly [string, string])[] = [
    ['Unit', container.unit],
    ['Configuration', container.configFile],
    ['Starts at boot', autostartText(container)],
    ['Groups', groups.join(', ')],
    ['Addresses', addressText(sight)],
    ['Host name', sight?.hostName ?? ''],
    ['Operating system', sight?.operatingSystem ?? ''],
    ['Up for', sight?.startUsec === undefined ? '' : spanText(Date.now() * 1000 - sight.startUsec)],
    ['Unprivileged', sight?.unprivileged === undefined ? '' : sight.unprivileged ? 'Yes' : 'No'],
  ];
  return (
    <pf.Card>
      <pf.CardHeader>
        <pf.CardTitle component="h2">Overview</pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody>
        <pf.DescriptionList isHorizontal isCompact>
          {facts
            .filter(([, value]) => value !== '')
            .map(([term, value]) => (
              <pf.DescriptionListGroup key={term}>
                <pf.DescriptionListTerm>{term}</pf.DescriptionListTerm>
                <pf.DescriptionListDescription className="lockerd-words">
                  {value}
                </pf.DescriptionListDescription>
              </pf.DescriptionListGroup>
            ))}
        </pf.DescriptionList>
      </pf.CardBody>
    </pf.Card>
  );
}
