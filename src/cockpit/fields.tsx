/** Fields of forms, each with its label and hint. */

import { useId, type ReactNode } from 'react';
import * as pf from './patternfly.ts';

export function Choice({
  label,
  isChosen,
  onChange,
}: {
  readonly label: string;
  readonly isChosen: boolean;
  readonly onChange: (isChosen: boolean) => void;
}): ReactNode {
  const id = useId();
  return (
    <pf.Checkbox
      id={id}
      label={label}
      isChecked={isChosen}
      onChange={(_event, isChecked) => {
        onChange(isChecked);
      }}
    />
  );
}

export function TextField({
  label,
  value,
  hint = '',
  isBad = false,
  isDisabled = false,
  placeholder = '',
  onChange,
  children,
}: {
  readonly label: string;
  readonly value: string;
  readonly hint?: string | undefined;
  /** The hint then says what is wrong. */
  readonly isBad?: boolean;
  readonly isDisabled?: boolean;
  readonly placeholder?: string;
  readonly onChange: (value: string) => void;
  /** Another way to give the same, above the field. */
  readonly children?: ReactNode;
}): ReactNode {
  const id = useId();
  return (
    <pf.FormGroup label={label} fieldId={id}>
      {children}
      <pf.TextInput
        id={id}
        value={value}
        isDisabled={isDisabled}
        placeholder={placeholder}
        validated={isBad ? 'error' : 'default'}
        aria-describedby={`${id}-hint`}
        onChange={(_event, text) => {
          onChange(text);
        }}
      />
      <pf.HelperText id={`${id}-hint`} isLiveRegion>
        {hint !== '' && (
          <pf.HelperTextItem variant={isBad ? 'error' : 'default'}>{hint}</pf.HelperTextItem>
        )}
      </pf.HelperText>
    </pf.FormGroup>
  );
}

export function SelectField({
  label,
  value,
  values,
  hint = '',
  isBad = false,
  onChange,
}: {
  readonly label: string;
  readonly value: string;
  readonly values: readonly string[];
  readonly hint?: string;
  readonly isBad?: boolean;
  readonly onChange: (value: string) => void;
}): ReactNode {
  const id = useId();
  return (
    <pf.FormGroup label={label} fieldId={id}>
      <pf.FormSelect
        id={id}
        value={value}
        aria-describedby={`${id}-hint`}
        onChange={(_event, chosen) => {
          onChange(chosen);
        }}
      >
        {values.map((one) => (
          <pf.FormSelectOption key={one} value={one} label={one} />
        ))}
      </pf.FormSelect>
      <pf.HelperText id={`${id}-hint`}>
        {hint !== '' && (
          <pf.HelperTextItem variant={isBad ? 'error' : 'default'}>{hint}</pf.HelperTextItem>
        )}
      </pf.HelperText>
    </pf.FormGroup>
  );
}
