import { normalPci } from '../../gpu-identity.ts';
import { details, type Finding } from '../finding.ts';
import { PCI_PATTERN } from '../pci-address.ts';

const OFF_THE_BUS = new RegExp(
  `NVRM: (?:The NVIDIA )?GPU (?:at )?(?:PCI:)?(${PCI_PATTERN})[: ].*fallen off the bus`,
);
const INIT_FAILED = new RegExp(`NVRM: GPU (${PCI_PATTERN}): (?:RmInitAdapter|rm_init_adapter) failed`);
const PEERMEM = /^nvidia-peermem (\w+):\d+ ERROR (.{1,120})/;
const FABRIC = /(?:knvlink|nvlink|NVLink|nvswitch|NVSwitch|fabric manager|Fabric Manager)/;
const FAILURE = /\b(?:fatal|fail(?:ed|ure|s)?|errors?|timed? ?out|timeout|link down)\b/i;

/**
 *     NVRM: GPU 0000:91:00.0: GPU has fallen off the bus.
 *     NVRM: The NVIDIA GPU 0000:b3:00.0 fallen off the bus and is not responding to commands.
 *     NVRM: GPU 0000:19:00.0: RmInitAdapter failed! (0x62:0x55:2512)
 *     nvidia-peermem nv_get_p2p_free_callback:127 ERROR detected invalid context, skipping further processing
 */
export function readNvidia(text: string): Finding | undefined {
  if (text.includes('NVRM: ')) return lost(text) ?? initFailed(text) ?? fabric(text);
  if (text.startsWith('nvidia-peermem ')) return peermem(text);
  if (text.startsWith('nvidia-nv')) return fabric(text);
  return undefined;
}

function lost(text: string): Finding | undefined {
  const pci = normalPci(OFF_THE_BUS.exec(text)?.[1] ?? '');
  if (pci === undefined) return undefined;
  return {
    type: 'gpu_lost',
    code: 'off_the_bus',
    name: 'GPU has fallen off the bus',
    severity: 'critical',
    action: 'drain and reboot the node; replace when it happens twice within 30 days',
    pci,
  };
}

function initFailed(text: string): Finding | undefined {
  const pci = normalPci(INIT_FAILED.exec(text)?.[1] ?? '');
  if (pci === undefined) return undefined;
  return {
    type: 'kernel_error',
    code: 'gpu_init_failed',
    name: 'GPU could not be initialised',
    severity: 'critical',
    action: 'reset the GPU; then reboot the node',
    pci,
  };
}

/** Harmless after a process that registered memory was killed; worth a look where nobody died. */
function peermem(text: string): Finding | undefined {
  const [, callback, problem] = PEERMEM.exec(text) ?? [];
  if (callback === undefined) return undefined;
  return {
    type: 'kernel_error',
    code: 'peermem',
    name: 'nvidia-peermem error',
    severity: 'info',
    action: 'none, where a job ended just before',
    details: details({ callback, problem }),
  };
}

function fabric(text: string): Finding | undefined {
  if (!FABRIC.test(text) || !FAILURE.test(text)) return undefined;
  const pci = normalPci(new RegExp(`(?:PCI:|GPU )(${PCI_PATTERN})`).exec(text)?.[1] ?? '');
  return {
    type: 'nvlink',
    code: 'nvlink',
    name: 'NVLink or fabric error',
    severity: 'warning',
    action: 'look at Xids and SXids around it',
    ...(pci === undefined ? {} : { pci }),
  };
}
