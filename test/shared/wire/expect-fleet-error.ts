import { type ErrorCode, FleetError } from '#shared/errors/fleet-error.ts';

/** Throws on anything but a FleetError of one of these codes: a crash in a decoder is a crash of the process. */
export function expectFleetError(error: unknown, ...codes: ErrorCode[]): void {
  if (!(error instanceof FleetError)) throw new Error('not a FleetError', { cause: error });
  if (!codes.includes(error.code)) throw new Error(`code ${error.code}`, { cause: error });
}
