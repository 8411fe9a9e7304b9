import { SlotState } from '#shared/model/slot-state.ts';

/** nvmlReturn_t, as far as it decides anything here. Source: NVIDIA's public nvml.h (CUDA 12.9 and 13.0). */
export const Nvml = {
  SUCCESS: 0,
  UNINITIALIZED: 1,
  INVALID_ARGUMENT: 2,
  NOT_SUPPORTED: 3,
  NO_PERMISSION: 4,
  NOT_FOUND: 6,
  DRIVER_NOT_LOADED: 9,
  TIMEOUT: 10,
  FUNCTION_NOT_FOUND: 13,
  GPU_IS_LOST: 15,
  RESET_REQUIRED: 16,
  LIB_RM_VERSION_MISMATCH: 18,
  NO_DATA: 21,
  VGPU_ECC_NOT_SUPPORTED: 22,
  ARGUMENT_VERSION_MISMATCH: 25,
  DEPRECATED: 26,
  NOT_READY: 27,
  GPU_NOT_FOUND: 28,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map([
  [Nvml.UNINITIALIZED, 'the driver was unloaded'],
  [Nvml.NO_PERMISSION, 'no permission'],
  [Nvml.DRIVER_NOT_LOADED, 'the driver is not loaded'],
  [Nvml.TIMEOUT, 'the driver did not answer in time'],
  [11, 'the kernel found an interrupt problem'],
  [Nvml.GPU_IS_LOST, 'the GPU has fallen off the bus or cannot be reached'],
  [Nvml.RESET_REQUIRED, 'the GPU needs a reset'],
  [17, 'the operating system or its cgroups blocked it'],
  [Nvml.LIB_RM_VERSION_MISMATCH, 'library and driver have different versions'],
  [20, 'not enough memory'],
  [999, 'unknown error of the driver'],
]);

export function nvmlError(code: number): string {
  return `${NAMES.get(code) ?? 'error of the library'} (NVML ${code})`;
}

/** What a code says about the value that was asked for. */
export function stateOf(code: number): SlotState {
  switch (code) {
    case Nvml.SUCCESS:
      return SlotState.Present;
    case Nvml.NOT_SUPPORTED:
    case Nvml.FUNCTION_NOT_FOUND:
    case Nvml.VGPU_ECC_NOT_SUPPORTED:
    case Nvml.ARGUMENT_VERSION_MISMATCH:
    case Nvml.DEPRECATED:
    // A field that an older driver does not know.
    case Nvml.INVALID_ARGUMENT:
      return SlotState.NotSupported;
    case Nvml.NO_PERMISSION:
      return SlotState.NoPermission;
    case Nvml.TIMEOUT:
      return SlotState.Timeout;
    case Nvml.GPU_IS_LOST:
    case Nvml.GPU_NOT_FOUND:
      return SlotState.GpuLost;
    case Nvml.NO_DATA:
    case Nvml.NOT_READY:
      return SlotState.Blank;
    default:
      return SlotState.Absent;
  }
}

/** Codes after which every handle is worth nothing: the library must be opened anew. */
export function needsReopening(code: number): boolean {
  return (
    code === Nvml.UNINITIALIZED || code === Nvml.DRIVER_NOT_LOADED || code === Nvml.LIB_RM_VERSION_MISMATCH
  );
}
