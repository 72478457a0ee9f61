export type Theme = 'system' | 'light' | 'dark'

const name = 'hence.theme'
const themes: readonly Theme[] = ['system', 'light', 'dark']

export function theme(): Theme {
  return themes.find((each) => each === localStorage.getItem(name)) ?? 'system'
}

export function nextTheme(): Theme {
  const next = themes[(themes.indexOf(theme()) + 1) % themes.length]!
  localStorage.setItem(name, next)
  applyTheme()
  return next
}

export function applyTheme(): void {
  document.documentElement.dataset['theme'] = theme()
}
