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

const closeId = 'lockerd-close-terminal';
const helpId = 'lockerd-terminal-help';
const buttonId = (kind: Kind): string => `lockerd-${kind}`;

const names: Readonly<Record<Kind, string>> = { shell: 'Shell', console: 'Console' };

/** How long a guest's systemd may take to say that it is there, in seconds. */
const answerSeconds = '5';

/** Whether systemd runs in the guest and the machine of the container's name is this container. */
async function hasSystemd({ name, unit }: Container): Promise<boolean> {
  const machine = ['machinectl', 'show', '--value', '--property=Unit', '--', name];
  const systemd = ['org.freedesktop.systemd1', '/org/freedesktop/systemd1'];
  const bus = ['busctl', `--machine=${name}`, 'call', ...systemd, 'org.freedesktop.DBus.Peer'];
  const options = { superuser: 'require', err: 'ignore' };
  try {
    if ((await cockpit.spawn(machine, options)).trim() !== unit) return false;
    await cockpit.spawn(['timeout', answerSeconds, ...bus, 'Ping'], options);
    return true;
  } catch {
    return false;
  }
}

/** The program that enters a container: with systemd in it, a shell is a session as after a login. */
async function commandOf(kind: Kind, container: Container): Promise<readonly string[]> {
  if (kind === 'shell' && (await hasSystemd(container))) {
    return ['machinectl', 'shell', '--quiet', '--', container.name];
  }
  return ['lockerctl', kind, container.name];
}

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
  const onMessage = (_event: unknown, text: string): void => {
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

interface Open {
  readonly kind: Kind;
  readonly command: readonly string[];
}

function Screen({
  kind,
  command,
  onEnd,
}: Open & {
  readonly onEnd: (problem: string) => void;
}): ReactNode {
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (element.current === null) return;
    const terminal = new Terminal({ screenReaderMode: true, fontSize: 14, scrollback: 2000 });
    // All other keys, Tab too, are for the program.
    terminal.attachCustomKeyEventHandler((event) => {
      const isLeaving = event.ctrlKey && event.altKey && event.code === 'KeyQ';
      if (isLeaving && event.type === 'keydown') document.getElementById(closeId)?.focus();
      return !isLeaving;
    });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.open(element.current);
    fit.fit();
    terminal.focus();
    const disconnect = connect(terminal, fit, command, onEnd);
    return () => {
      disconnect();
      terminal.dispose();
    };
    // The program is the same as long as the screen is.
  }, [command]);
  return (
    <div
      className="lockerd-terminal"
      ref={element}
      role="group"
      aria-label={names[kind]}
      aria-describedby={helpId}
    />
  );
}

/** Why nobody can enter; undefined if somebody can. */
function whyNot(hasRights: boolean, container: Container): string | undefined {
  if (!hasRights) {
    return 'Only root can enter a container: turn on administrative access at the top of the page.';
  }
  return isUp(container.state) ? undefined : 'The container does not run.';
}

function Help({ kind }: { readonly kind: Kind }): ReactNode {
  return (
    <p className="lockerd-faint" id={helpId}>
      Ctrl+Alt+Q takes the keyboard back to this page.
      {kind === 'console' && ' Leave the console with Ctrl+A and Q; what runs there continues.'}
    </p>
  );
}

function CloseButton({ onClose }: { readonly onClose: () => void }): ReactNode {
  return (
    <pf.Button id={closeId} variant="link" onClick={onClose}>
      Close
    </pf.Button>
  );
}

export function TerminalCard({ container }: { readonly container: Container }): ReactNode {
  const hasRights = useRights();
  const [open, setOpen] = useState<Open>();
  const [ended, setEnded] = useState('');
  const why = whyNot(hasRights, container);
  const close = (kind: Kind): void => {
    setOpen(undefined);
    document.getElementById(buttonId(kind))?.focus();
  };
  const enter = (kind: Kind): void => {
    setEnded('');
    void commandOf(kind, container).then((command) => {
      setOpen({ kind, command });
    });
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
              id={buttonId(kind)}
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
            <CloseButton
              onClose={() => {
                close(open.kind);
              }}
            />
          )}
        </pf.Flex>
        {open !== undefined && <Help kind={open.kind} />}
        {open !== undefined && (
          <Screen
            key={open.command.join(' ')}
            {...open}
            onEnd={(problem) => {
              close(open.kind);
              setEnded(`${names[open.kind]} has ended${problem === '' ? '' : `: ${problem}`}.`);
            }}
          />
        )}
        <p role="status">{ended}</p>
      </pf.CardBody>
    </pf.Card>
  );
}
