/** Why a port cannot be had, and what to do about it. */
export function listenError(error: NodeJS.ErrnoException, host: string, port: number): string {
  switch (error.code ?? '') {
    case 'EADDRINUSE':
      return `Cannot listen on ${host}:${port}: the port is in use; choose another with --port, or 0 for a free one`;
    case 'EACCES':
      return `Cannot listen on ${host}:${port}: ports below 1024 need privileges; choose another with --port`;
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return `Cannot listen on ${host}:${port}: this machine has no such address; see --host`;
    default:
      return `Cannot listen on ${host}:${port}: ${error.message}`;
  }
}
