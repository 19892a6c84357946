/** A menu of what can be done with one object of a table. */

import { useEffect, useRef, useState, type ReactNode } from 'react';
import { refusal } from './actions.ts';
import { usePermissions } from './hooks.ts';
import * as pf from './patternfly.ts';

export interface MenuItem {
  readonly id: string;
  readonly label: string;
  /** Of polkit. */
  readonly action: string;
  readonly isDangerous?: boolean;
  readonly onSelect: () => void;
}

interface MenuProps {
  /** Of the object. */
  readonly path: string;
  readonly name: string;
  readonly items: readonly MenuItem[];
}

/** Two hundred menus, each of which hears every key, are for nobody: a row has one when it is used. */
export function ActionMenu(props: MenuProps): ReactNode {
  const [isUsed, setIsUsed] = useState(false);
  if (isUsed) return <Menu {...props} />;
  return (
    <pf.MenuToggle
      variant="plain"
      aria-label={`Actions for ${props.name}`}
      onClick={() => {
        setIsUsed(true);
      }}
      icon={<pf.EllipsisVIcon />}
    />
  );
}

function Menu({ path, name, items }: MenuProps): ReactNode {
  const [isOpen, setIsOpen] = useState(false);
  const toggle = useRef<HTMLButtonElement>(null);
  // It opens after it is there, or the focus would stay where it was.
  useEffect(() => {
    setIsOpen(true);
  }, []);
  // Only for what somebody looks at: polkit is asked a dozen questions.
  const permissions = usePermissions(isOpen ? path : undefined);
  return (
    <pf.Dropdown
      isOpen={isOpen}
      onOpenChange={setIsOpen}
      onSelect={() => {
        setIsOpen(false);
        // A dialog that opens now gives the focus back to where it was.
        toggle.current?.focus();
      }}
      shouldFocusFirstItemOnOpen
      // In the table it would have all rows laid out anew.
      popperProps={{ position: 'right', appendTo: () => document.body }}
      toggle={{
        toggleRef: toggle,
        toggleNode: (
          <pf.MenuToggle
            ref={toggle}
            variant="plain"
            isExpanded={isOpen}
            aria-label={`Actions for ${name}`}
            onClick={() => {
              setIsOpen(!isOpen);
            }}
            icon={<pf.EllipsisVIcon />}
          />
        ),
      }}
    >
      <pf.DropdownList>
        {items.map(({ id, label, action, isDangerous = false, onSelect }) => {
          const why = refusal(permissions, action);
          return (
            <pf.DropdownItem
              key={id}
              isDanger={isDangerous}
              isAriaDisabled={why !== undefined}
              description={why}
              onClick={() => {
                if (why === undefined) onSelect();
              }}
            >
              {label}
            </pf.DropdownItem>
          );
        })}
      </pf.DropdownList>
    </pf.Dropdown>
  );
}
