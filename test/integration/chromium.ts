import { execFile } from 'node:child_process'
import { access } from 'node:fs/promises'
import { promisify } from 'node:util'
import { type Browser, chromium } from 'playwright-core'

const path = '/usr/bin/chromium'
/** No calls to the vendor's servers, and no screen. */
const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/**
 * Starts Debian's Chromium. If it is missing and the process is root on a machine with apt-get (a container,
 * for example), installs it.
 * @returns the reason, if there is none
 */
export async function openChromium(): Promise<Browser | string> {
  if (!(await isThere())) {
    if (process.getuid?.() !== 0) return `${path} is missing: \`apt-get install chromium\``
    try {
      await install()
    } catch (error) {
      return `${path} is missing and could not be installed: ${(error as Error).message.split('\n')[0]}`
    }
    if (!(await isThere())) return `${path} is missing: apt-get put it elsewhere`
  }
  return chromium.launch({ executablePath: path, args: flags, timeout: 120_000 })
}

function isThere(): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function install(): Promise<void> {
  console.error('chromium is missing; it is installed by apt-get.')
  const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, timeout: 600_000 }
  // Another test file may install it at the same time: apt-get waits for that one then.
  const waits = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'APT::Get::Lock::Timeout=300']
  const aptGet = (...args: string[]) => promisify(execFile)('apt-get', ['-qq', ...waits, ...args], options)
  await aptGet('update')
  await aptGet('install', '-y', '--no-install-recommends', 'chromium')
}
