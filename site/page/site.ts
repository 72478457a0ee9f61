import { type Hit, type SearchIndex, search } from '../search.ts'

// The script of every page: the search, and panels that close when a link in them is followed.

declare global {
  var henceIndex: SearchIndex | undefined
}

const base = document.documentElement.dataset['base']!
const box = document.querySelector('search')!
const input = box.querySelector('input')!
const hits = box.querySelector<HTMLElement>('#hits')!

let loading: Promise<SearchIndex> | undefined

/** Loads the index at the first search; the next tries again if that failed. */
function loadIndex(): Promise<SearchIndex> {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement('script')
    script.src = `${base}/search-index.js`
    script.onload = () => (globalThis.henceIndex ? resolve(globalThis.henceIndex) : reject())
    script.onerror = () => {
      loading = undefined
      reject(new Error('the search index is missing'))
    }
    document.head.append(script)
  })
  return loading
}

async function show(): Promise<void> {
  const query = input.value.trim()
  if (query === '') {
    hits.hidden = true
    return
  }
  try {
    const index = await loadIndex()
    // Another key was pressed while it was loading.
    if (input.value.trim() !== query) return
    const found = search(index, query)
    hits.replaceChildren(...(found.length > 0 ? found.map(lineOf) : [note(`Nothing has “${query}”.`)]))
  } catch {
    hits.replaceChildren(note('The search index could not be loaded.'))
  }
  hits.hidden = false
  hits.scrollTop = 0
}

function lineOf({ path, title, heading, excerpt: [before, match, after] }: Hit): HTMLElement {
  const line = document.createElement('a')
  line.href = `${base}/${path}`
  const name = document.createElement('strong')
  name.textContent = heading === title ? title : `${heading} · ${title}`
  const text = document.createElement('span')
  const mark = document.createElement('mark')
  mark.textContent = match
  text.append(before, mark, after)
  line.append(name, text)
  return line
}

function note(text: string): HTMLElement {
  const line = document.createElement('p')
  line.textContent = text
  return line
}

function move(step: number): void {
  const lines = [input, ...hits.querySelectorAll('a')]
  const at = lines.indexOf(document.activeElement as HTMLAnchorElement)
  lines[Math.min(lines.length - 1, Math.max(0, at + step))]?.focus()
}

box.hidden = false
input.addEventListener('focus', () => void loadIndex().catch(() => {}), { once: true })
input.addEventListener('input', () => void show())
box.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && event.target === input) hits.querySelector('a')?.click()
  else if (event.key === 'ArrowDown') move(1)
  else if (event.key === 'ArrowUp') move(-1)
  else if (event.key === 'Escape') {
    hits.hidden = true
    input.focus()
  } else return
  event.preventDefault()
})
document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.target instanceof HTMLInputElement) return
  event.preventDefault()
  input.focus()
})
document.addEventListener('click', (event) => {
  const target = event.target as Element
  if (!box.contains(target) || target.closest('#hits a')) hits.hidden = true
  if (target.closest('#toc a')) document.querySelector<HTMLElement>('#toc')?.hidePopover()
})

const nav = document.querySelector<HTMLElement>('#nav')!

/** The page that is shown is in view in the list of pages. */
function showCurrent(): void {
  const current = nav.querySelector<HTMLElement>('[aria-current]')
  if (current) nav.scrollTop = current.offsetTop - nav.clientHeight / 2
}

showCurrent()
nav.addEventListener('toggle', showCurrent)
