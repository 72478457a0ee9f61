import { fileURLToPath } from 'node:url'

/** The path of the main module of a process or thread, as source or built, like the module that names it. */
export function moduleBeside(url: string, name: string): string {
  return fileURLToPath(new URL(`./${name}.${url.endsWith('.ts') ? 'ts' : 'js'}`, url))
}
