/** Light or dark: the system setting, until the viewer overrides it. */
import { byId } from './element.js';

const KEY = 'lockstep-theme';

/** @param changed called after the colours have changed */
export function setUpTheme(changed: () => void): void {
  const system = window.matchMedia('(prefers-color-scheme: dark)');
  const button = byId('theme');
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === 'dark' : system.matches;
  };
  const show = () => {
    button.setAttribute(
      'aria-label',
      isDark() ? 'Switch to light colours' : 'Switch to dark colours',
    );
    changed();
  };
  const choose = (theme: string | null) => {
    if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
    show();
  };
  choose(stored());
  system.addEventListener('change', show);
  button.addEventListener('click', () => {
    const theme = isDark() ? 'light' : 'dark';
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Storage may be disabled; the choice then lasts until the page is closed.
    }
    choose(theme);
  });
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
