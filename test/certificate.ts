import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** Makes a key and a certificate for this machine that nobody knows, as PEM files in a directory. */
export async function makeCertificate(directory: string): Promise<{ key: string; certificate: string }> {
  const [key, certificate] = [join(directory, 'key.pem'), join(directory, 'certificate.pem')]
  const algorithm = ['-newkey', 'rsa:2048', '-noenc', '-days', '2', '-subj', '/CN=localhost']
  const names = ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const files = ['-keyout', key, '-out', certificate]
  await promisify(execFile)('openssl', ['req', '-x509', ...algorithm, ...names, ...files])
  return { key, certificate }
}
