import type { Finding } from './finding.ts';
import { readAmdgpu } from './lines/amdgpu.ts';
import { readCrash } from './lines/crash.ts';
import { HardwareErrors } from './lines/hardware-error.ts';
import { readNvidia } from './lines/nvidia.ts';
import { type GpuOfProcess, OomLines } from './lines/oom.ts';
import { readPcie } from './lines/pcie.ts';
import { readSxid } from './lines/sxid.ts';
import { readXid } from './lines/xid.ts';
import type { Verdicts } from './verdicts.ts';

/** A longer line is cut: the kernel's own limit is some 1,000 characters, a continued one may be longer. */
export const MAX_LINE = 4096;

/**
 * One kernel line after the other -> what each tells. A line may need those before it (see OomLines,
 * HardwareErrors), so one reader reads one log in its order.
 */
export class LineReader {
  readonly #verdicts: Verdicts;
  readonly #oom: OomLines;
  readonly #hardware = new HardwareErrors();

  constructor(verdicts: Verdicts, gpuOf: GpuOfProcess) {
    this.#verdicts = verdicts;
    this.#oom = new OomLines(gpuOf);
  }

  /** Undefined for a line that is of no interest or goes on with another; `malformed` for one that cannot be read. */
  read(line: string): Finding | 'malformed' | undefined {
    const text = line.length > MAX_LINE ? line.slice(0, MAX_LINE) : line;
    const found =
      readXid(text, this.#verdicts) ??
      readSxid(text, this.#verdicts) ??
      readNvidia(text) ??
      readAmdgpu(text) ??
      this.#oom.read(text) ??
      readPcie(text) ??
      this.#hardware.read(text) ??
      readCrash(text);
    return found === 'folded' ? undefined : found;
  }
}
