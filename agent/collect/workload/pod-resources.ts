import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** Devices that kubelet gave to a container, by resource. */
export interface PodDevices {
  readonly pod: string;
  readonly namespace: string;
  readonly container: string;
  /** `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`, `amd.com/gpu`. */
  readonly resource: string;
  readonly ids: readonly string[];
}

/** kubelet's own limit is 110 pods a node by default; each has a few containers with a few resources. */
export const MAX_POD_DEVICES = 4096;

/**
 * Reads what PodResourcesLister.List of Kubernetes 1.20 and later answers (k8s.io/kubelet/pkg/apis/podresources/v1):
 *
 *     ListPodResourcesResponse { repeated PodResources pod_resources = 1 }
 *     PodResources             { string name = 1; string namespace = 2; repeated ContainerResources containers = 3 }
 *     ContainerResources       { string name = 1; repeated ContainerDevices devices = 2; ... }
 *     ContainerDevices         { string resource_name = 1; repeated string device_ids = 2; ... }
 *
 * Other fields are passed over. Throws `invalid_input` where the message is not whole, and `resource_exhausted` over
 * MAX_POD_DEVICES.
 */
export function decodePodResources(message: Uint8Array): PodDevices[] {
  const found: PodDevices[] = [];
  try {
    for (const pod of fieldsOf(message).messages(1)) readPod(pod, found);
  } catch (cause) {
    if (cause instanceof FleetError) throw cause;
    throw new FleetError('invalid_input', 'Cannot read the answer of kubelet', { cause });
  }
  return found;
}

function readPod(bytes: Uint8Array, found: PodDevices[]): void {
  const pod = fieldsOf(bytes);
  for (const containerBytes of pod.messages(3)) {
    const container = fieldsOf(containerBytes);
    for (const deviceBytes of container.messages(2)) {
      const devices = fieldsOf(deviceBytes);
      if (found.length === MAX_POD_DEVICES) {
        throw new FleetError(
          'resource_exhausted',
          `Cannot read the answer of kubelet: more than ${MAX_POD_DEVICES} devices`,
        );
      }
      found.push({
        pod: pod.text(1),
        namespace: pod.text(2),
        container: container.text(1),
        resource: devices.text(1),
        ids: devices.messages(2).map(textOf),
      });
    }
  }
}

interface Fields {
  messages(number: number): readonly Uint8Array[];
  /** The last one, as protobuf wants it; empty where there is none. */
  text(number: number): string;
}

function fieldsOf(bytes: Uint8Array): Fields {
  const byNumber = new Map<number, Uint8Array[]>();
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (type !== WireType.LengthDelimited) {
      reader.skip(type, number);
      continue;
    }
    const value = reader.bytes();
    const values = byNumber.get(number);
    if (values) values.push(value);
    else byNumber.set(number, [value]);
  }
  const messages = (number: number): readonly Uint8Array[] => byNumber.get(number) ?? [];
  return { messages, text: (number) => textOf(messages(number).at(-1)) };
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function textOf(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? '' : utf8.decode(bytes);
}
