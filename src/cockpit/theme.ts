/** Light or dark, as the user has chosen in Cockpit's menu or in the browser. */

/** Where Cockpit's shell keeps the choice: `auto`, `light` or `dark`. */
const styleKey = 'shell:style';

const isDarkOutside = window.matchMedia('(prefers-color-scheme: dark)');

function apply(chosen: string | null): void {
  const isDark = chosen === 'dark' || (chosen !== 'light' && isDarkOutside.matches);
  document.documentElement.classList.toggle('pf-v6-theme-dark', isDark);
}

export function followTheme(): void {
  const fromStorage = (): void => {
    apply(localStorage.getItem(styleKey));
  };
  fromStorage();
  isDarkOutside.addEventListener('change', fromStorage);
  window.addEventListener('storage', ({ key }) => {
    if (key === styleKey) fromStorage();
  });
  // The shell tells its frames, which share its storage but get no event of it.
  window.addEventListener('cockpit-style', (event) => {
    if (event instanceof CustomEvent) apply((event.detail as { style: string }).style);
  });
}
