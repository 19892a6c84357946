/** A shell in the guest, or its console, as root of the host has them. */

import { useEffect, useRef, useState, type ReactNode } from 'react';
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { Container } from './objects.ts';
import { PermittedButton } from './parts.tsx';
import * as pf from './patternfly.ts';
import { useRights } from './rights.ts';
import { isUp } from './words.ts';

type Kind = 'shell' | 'console';

const names: Readonly<Record<Kind, string>> = { shell: 'Shell', console: 'Console' };

/** Connects a terminal with a program until either ends. @returns what ends it */
function connect(
  terminal: Terminal,
  fit: FitAddon,
  command: readonly string[],
  onEnd: (problem: string) => void,
): () => void {
  const size = (): { rows: number; cols: number } => ({ rows: terminal.rows, cols: terminal.cols });
  const channel = cockpit.channel({
    payload: 'stream',
    spawn: command,
    environ: ['TERM=xterm-256color'],
    pty: true,
    window: size(),
    superuser: 'require',
    err: 'out',
  });
  const onMessage = (_event: unknown, text: never): void => {
    terminal.write(text);
  };
  const onClose = (_event: unknown, detail: { problem?: string | null }): void => {
    onEnd(detail.problem ?? '');
  };
  channel.addEventListener('message', onMessage);
  channel.addEventListener('close', onClose);
  const typed = terminal.onData((text) => {
    channel.send(text);
  });
  const resized = terminal.onResize(() => {
    channel.control({ window: size() });
  });
  const onWindow = (): void => {
    fit.fit();
  };
  window.addEventListener('resize', onWindow);
  return () => {
    window.removeEventListener('resize', onWindow);
    typed.dispose();
    resized.dispose();
    channel.removeEventListener('message', onMessage);
    channel.removeEventListener('close', onClose);
    channel.close();
  };
}

function Screen({
  kind,
  name,
  onEnd,
}: {
  readonly kind: Kind;
  readonly name: string;
  readonly onEnd: (problem: string) => void;
}): ReactNode {
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (element.current === null) return;
    const terminal = new Terminal({ screenReaderMode: true, fontSize: 14, scrollback: 2000 });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.open(element.current);
    fit.fit();
    terminal.focus();
    const disconnect = connect(terminal, fit, ['lockerctl', kind, name], onEnd);
    return () => {
      disconnect();
      terminal.dispose();
    };
    // The program is the same as long as the screen is.
  }, [kind, name]);
  return <div className="lockerd-terminal" ref={element} role="group" aria-label={names[kind]} />;
}

/** Why nobody can enter; undefined if somebody can. */
function whyNot(hasRights: boolean, container: Container): string | undefined {
  if (!hasRights) {
    return 'Only root can enter a container: turn on administrative access at the top of the page.';
  }
  return isUp(container.state) ? undefined : 'The container does not run.';
}

function ConsoleHelp(): ReactNode {
  return (
    <p className="lockerd-faint">Leave the console with Ctrl+A and Q; what runs there continues.</p>
  );
}

export function TerminalCard({ container }: { readonly container: Container }): ReactNode {
  const hasRights = useRights();
  const [open, setOpen] = useState<Kind>();
  const [ended, setEnded] = useState('');
  const why = whyNot(hasRights, container);
  const enter = (kind: Kind): void => {
    setEnded('');
    setOpen(kind);
  };
  return (
    <pf.Card className="lockerd-wide">
      <pf.CardHeader>
        <pf.CardTitle component="h2">Terminal</pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody className="lockerd-stack">
        <pf.Flex>
          {(['shell', 'console'] as const).map((kind) => (
            <PermittedButton
              key={kind}
              variant="secondary"
              why={why}
              onClick={() => {
                enter(kind);
              }}
            >
              {names[kind]}
            </PermittedButton>
          ))}
          {open !== undefined && (
            <pf.Button
              variant="link"
              onClick={() => {
                setOpen(undefined);
              }}
            >
              Close
            </pf.Button>
          )}
        </pf.Flex>
        {open === 'console' && <ConsoleHelp />}
        {open !== undefined && (
          <Screen
            key={open}
            kind={open}
            name={container.name}
            onEnd={(problem) => {
              setOpen(undefined);
              setEnded(`${names[open]} has ended${problem === '' ? '' : `: ${problem}`}.`);
            }}
          />
        )}
        <p role="status">{ended}</p>
      </pf.CardBody>
    </pf.Card>
  );
}
