/**
 * Engines: how one is made, and the default one, which the functions of the module use. Not the engine itself.
 * Invariant: the default engine is one per process, whatever loads this module how often.
 */

import type * as Public from '../index.js';
import { json } from './arguments.js';
import { Engine } from './engine.js';
import { binding, variables } from './native.js';

let defaultEngine: Engine | undefined;

/** Makes an engine of its own. */
export function createEngine(options?: Public.EngineOptions): Engine {
  return new Engine(binding.createEngine(variables(), optionsJson(options)));
}

/** Sets the options of the default engine. */
export function configure(options: Public.EngineOptions): void {
  binding.configure(variables(), optionsJson(options));
}

/** The default engine. The native one is shared by every copy of this module; this wrapper is not. */
export function getEngine(): Engine {
  defaultEngine ??= new Engine(binding.defaultEngine(variables(), !isBuilding()));
  return defaultEngine;
}

/** `next build` evaluates the application in many processes, none of which serves anybody. */
function isBuilding(): boolean {
  return process.env['NEXT_PHASE'] === 'phase-production-build';
}

/** Closes the default engine if there is one. */
export async function closeDefault(options?: Public.CloseOptions): Promise<void> {
  if (defaultEngine === undefined) {
    const native = binding.existingEngine();
    if (native === null) return;
    defaultEngine = new Engine(native);
  }
  await defaultEngine.close(options);
}

/** `undefined` means "not given", in options as everywhere; `null` is reported by the native side. */
export function optionsJson(options: Public.EngineOptions | undefined): string {
  if (options === undefined) return '{}';
  return json('options', options);
}
