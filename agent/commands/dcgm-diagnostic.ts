import { FleetError } from '#shared/errors/fleet-error.ts';

/** One GPU's result of a diagnostic run. */
export interface GpuResult {
  /** DCGM's GPU id, which is NVML's index where no GPU was lost; '' for a result of the whole node. */
  readonly gpu: string;
  readonly result: 'pass' | 'fail';
  /** Tests that failed; where none did, that ran. */
  readonly tests: readonly string[];
  /** The first warning. */
  readonly detail: string;
}

/** A node has no more. */
const MAX_GPUS = 256;
const MAX_DETAIL = 500;

interface Collected {
  readonly passed: Set<string>;
  readonly failed: Set<string>;
  detail: string;
}

/**
 * Reads `dcgmi diag -r <level> -j`, DCGM 2 to 4:
 *
 *     {"DCGM GPU Diagnostic": {"test_categories": [{"category": "Hardware", "tests": [{"name": "GPU Memory",
 *       "results": [{"gpu_ids": "0,1", "status": "PASS"}, {"gpu_id": "2", "status": "Fail", "warnings": "..."}]}]}]}}
 *     {"DCGM Diagnostic": {"test_categories": [{"tests": [{"name": "memory", "results": [{"entity_group": "GPU",
 *       "entity_id": 0, "status": "Fail", "warnings": [{"error_id": 29, "warning": "..."}]}]}]}]}}
 *
 * A test that was skipped says nothing of a GPU; one that is neither passed, warned of nor skipped failed. Throws
 * `invalid_input` for what is not such a document, and where nothing ran.
 */
export function readDcgmDiagnostic(text: string): GpuResult[] {
  const root = diagnosticOf(text);
  const byGpu = new Map<string, Collected>();
  for (const category of listOf(root.test_categories)) {
    for (const test of listOf(objectOf(category).tests)) {
      const { name, results } = objectOf(test);
      for (const result of listOf(results)) addResult(byGpu, textOf(name) || 'unnamed', objectOf(result));
    }
  }
  if (textOf(root.runtime_error) !== '') {
    const node = collectedOf(byGpu, '');
    node.failed.add('runtime');
    node.detail ||= textOf(root.runtime_error).slice(0, MAX_DETAIL);
  }
  if (byGpu.size === 0)
    throw new FleetError('invalid_input', 'Cannot use the diagnostic: it has no result of any test');
  return [...byGpu].map(([gpu, { passed, failed, detail }]) => ({
    gpu,
    result: failed.size > 0 ? 'fail' : 'pass',
    tests: [...(failed.size > 0 ? failed : passed)],
    detail,
  }));
}

function addResult(byGpu: Map<string, Collected>, name: string, result: Record<string, unknown>): void {
  const status = textOf(result.status).toLowerCase();
  if (status === 'skip' || status === 'skipped' || status === 'not run' || status === '') return;
  for (const gpu of gpusOf(result)) {
    const collected = collectedOf(byGpu, gpu);
    // A warning is no failure to DCGM: the GPU may be used.
    if (status === 'pass' || status === 'warn') collected.passed.add(name);
    else {
      collected.failed.add(name);
      collected.detail ||= warningOf(result.warnings ?? result.warning).slice(0, MAX_DETAIL);
    }
  }
}

function collectedOf(byGpu: Map<string, Collected>, gpu: string): Collected {
  let collected = byGpu.get(gpu);
  if (!collected) {
    if (byGpu.size >= MAX_GPUS)
      throw new FleetError('invalid_input', `Cannot use the diagnostic: it names more than ${MAX_GPUS} GPUs`);
    collected = { passed: new Set(), failed: new Set(), detail: '' };
    byGpu.set(gpu, collected);
  }
  return collected;
}

/** `"0,1"`, `"0"`, or an entity; '' for the node, a CPU or a switch. */
function gpusOf({ gpu_ids, gpu_id, entity_group, entity_id }: Record<string, unknown>): string[] {
  if (entity_group !== undefined) return entity_group === 'GPU' ? [textOf(entity_id)] : [''];
  const ids = textOf(gpu_ids ?? gpu_id)
    .split(',')
    .map((id) => id.trim())
    .filter((id) => /^\d+$/.test(id));
  return ids.length > 0 ? ids : [''];
}

function warningOf(warnings: unknown): string {
  const [first] = Array.isArray(warnings) ? warnings : [warnings];
  return typeof first === 'string' ? first : textOf(objectOf(first).warning);
}

function diagnosticOf(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    // dcgmi writes lines of its own before the document where the host engine was started for it.
    value = JSON.parse(text.slice(Math.max(0, text.indexOf('{'))));
  } catch (error) {
    throw new FleetError('invalid_input', 'Cannot read the diagnostic: it is not JSON', { cause: error });
  }
  const document = objectOf(value);
  const root = document['DCGM Diagnostic'] ?? document['DCGM GPU Diagnostic'];
  if (root === undefined)
    throw new FleetError(
      'invalid_input',
      'Cannot read the diagnostic: it is not the output of `dcgmi diag -j`',
    );
  return objectOf(root);
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : '';
}
