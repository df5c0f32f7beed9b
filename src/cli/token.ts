/** Reads a token given by the user, as a flag, a variable, or a file. */
import { UsageError, UserError, messageOf } from '../shared/errors.js';
import { readShortText } from '../shared/node/input-file.js';

/** Of a token, a certificate, a key: no file of them has more, bytes. */
const MAX_SECRET_BYTES = 2 ** 20;

/** What a header can carry, and a link without doubt: visible ASCII. */
const TOKEN = /^[!-~]+$/;

/**
 * @param flag of the two that name it
 * @throws {UserError} if the file cannot be read or is empty
 * @throws {UsageError} if the token has characters that not every way to the coordinator can carry
 */
export function readToken(
  token: string | undefined,
  file: string | undefined,
  flag = '--token',
): string | null {
  if (file === undefined) return token === undefined ? null : checked(token, `of ${flag}`);
  if (token !== undefined) {
    throw new UsageError(`Cannot use both ${flag} and ${flag}-file (or their variables): give one`);
  }
  const text = readText(file, 'token').trim();
  if (text === '') throw new UserError(`Cannot use the token in ${file}: it is empty`);
  return checked(text, `in ${file}`);
}

function checked(token: string, where: string): string {
  if (TOKEN.test(token)) return token;
  throw new UsageError(
    `Cannot use the token ${where}: expected letters, digits and punctuation of ASCII, without spaces`,
  );
}

/** @param what for the message @throws {UserError} if it cannot be read */
export function readText(file: string, what: string): string {
  try {
    return readShortText(file, MAX_SECRET_BYTES);
  } catch (error) {
    throw new UserError(`Cannot read the ${what} from ${file}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
