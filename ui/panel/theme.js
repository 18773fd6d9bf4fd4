// Light or dark: the visitor's choice, or the system's.
const SYSTEM = window.matchMedia('(prefers-color-scheme: dark)');

export class Theme {
  constructor(panel, preferences, onChange) {
    Object.assign(this, { panel, preferences, onChange });
    SYSTEM.addEventListener('change', () => this.apply());
    this.apply();
  }

  get dark() {
    const chosen = this.preferences.get('theme');
    return chosen ? chosen === 'dark' : SYSTEM.matches;
  }

  toggle() {
    this.preferences.set('theme', this.dark ? 'light' : 'dark');
    this.apply();
  }

  apply() {
    const name = this.dark ? 'dark' : 'light';
    this.panel.dataset.theme = name;
    document.body.classList.toggle('dark', this.dark);
    document.documentElement.style.colorScheme = name;
    document.body.style.background = getComputedStyle(this.panel).getPropertyValue('--um-ground');
    this.onChange?.();
  }
}
