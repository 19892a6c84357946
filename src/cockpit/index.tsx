import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './app.tsx';
import { ServicesContext } from './hooks.ts';
import { Host } from './host.ts';
import { Notices } from './notices.ts';
import { followRights } from './rights.ts';
import { followTheme } from './theme.ts';
import '@patternfly/react-core/dist/styles/base.css';
import './page.css';

followTheme();
const host = new Host();
const services = { host, notices: new Notices(host) };
host.connect();
followRights(() => {
  host.connect();
});

const element = document.getElementById('app');
if (element !== null) {
  createRoot(element).render(
    <StrictMode>
      <ServicesContext value={services}>
        <App />
      </ServicesContext>
    </StrictMode>,
  );
}
