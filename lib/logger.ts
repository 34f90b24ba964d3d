/** Hands the log records of the native side to the application's logger. Records arrive as JSON, one per call. */

import type * as Public from '../index.js';
import { InvalidArgumentError } from './errors.js';
import { binding } from './native.js';

export function setLogger(logger: Public.Logger | null): void {
  if (logger !== null && typeof logger !== 'function') {
    throw new InvalidArgumentError('logger is not accepted: a function or null is expected', {
      field: 'logger',
    });
  }
  if (logger === null) binding.setLogger(null);
  else {
    binding.setLogger((record: string) => {
      const parsed = JSON.parse(record) as Omit<Public.LogRecord, 'time'> & { time: number };
      logger({ ...parsed, time: new Date(parsed.time).toISOString() });
    });
  }
}
