/**
 * The little that this side must know of the configuration. Not a check of it: the native side has accepted the
 * very same texts before they are looked at here.
 */

export interface Configured {
  /** Claims that may hold the user id, tried in order. */
  readonly userClaims: readonly string[];
}

interface Options {
  readonly jwtUserClaims?: string | readonly string[];
}

interface Variables {
  readonly JWT_USER_CLAIMS?: string;
}

const USUAL_CLAIMS: readonly string[] = ['user_id', 'userId', 'sub'];

/** Reads the JSON texts that the native side was given. */
export function configured(variables: string, options: string): Configured {
  const { jwtUserClaims } = JSON.parse(options) as Options;
  const { JWT_USER_CLAIMS } = JSON.parse(variables) as Variables;
  const claims = list(jwtUserClaims ?? JWT_USER_CLAIMS);
  return { userClaims: claims.length > 0 ? claims : USUAL_CLAIMS };
}

function list(given: string | readonly string[] | undefined): readonly string[] {
  if (given === undefined) return [];
  const names = typeof given === 'string' ? given.split(',') : given;
  return names.map((name) => name.trim()).filter((name) => name !== '');
}
