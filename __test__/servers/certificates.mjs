/**
 * A certificate authority and a server certificate for 127.0.0.1, made for one test run. Not for anything else.
 * Invariant: the server certificate is a leaf with its names as alternative names: strict clients accept it.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** @param {string} folder @param {string} [names] as OpenSSL writes them @returns {{ ca: string, cert: string, key: string }} paths */
export function makeCertificates(folder, names = 'IP:127.0.0.1,DNS:localhost') {
  /** @param {string} name */
  const at = (name) => join(folder, name);
  /** @param {string[]} args */
  const openssl = (...args) => {
    try {
      execFileSync('openssl', args, { stdio: 'pipe' });
    } catch (cause) {
      throw new Error('TLS servers need the `openssl` command (Debian: apt-get install openssl)', { cause });
    }
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  writeFileSync(
    at('leaf.cnf'),
    'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n' +
      `extendedKeyUsage=serverAuth\nsubjectAltName=${names}\n`,
  );
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    at('ca.key'),
    '-out',
    at('ca.crt'),
    '-days',
    '2',
    '-subj',
    '/CN=bcos-cache test authority',
  );
  openssl('req', ...key, '-keyout', at('server.key'), '-out', at('server.csr'), '-subj', '/CN=127.0.0.1');
  openssl(
    'x509',
    '-req',
    '-in',
    at('server.csr'),
    '-CA',
    at('ca.crt'),
    '-CAkey',
    at('ca.key'),
    '-CAcreateserial',
    '-out',
    at('server.crt'),
    '-days',
    '2',
    '-extfile',
    at('leaf.cnf'),
  );
  return { ca: at('ca.crt'), cert: at('server.crt'), key: at('server.key') };
}
