"""The part of RunPod's GraphQL schema that its clients use for pods, as far as it is known."""

from __future__ import annotations

from functools import cache

from graphql import GraphQLSchema, build_schema

TEXT = """
scalar DateTime
"What a mutation without an answer returns."
scalar Void

enum CloudTypeEnum { ALL SECURE COMMUNITY }
enum PodStatus { CREATED RUNNING RESTARTING EXITED PAUSED DEAD TERMINATED }
enum PodType { INTERRUPTABLE RESERVED BID BACKGROUND }

type Query {
  myself: User
  pod(input: PodFilter): Pod
  gpuTypes(input: GpuTypeFilter): [GpuType]
  cpuFlavors(input: CpuFlavorInput): [CpuFlavor]
  dataCenters: [DataCenter]
  countryCodes: [String]
}

type Mutation {
  podFindAndDeployOnDemand(input: PodFindAndDeployOnDemandInput): Pod
  podRentInterruptable(input: PodRentInterruptableInput!): Pod
  deployCpuPod(input: deployCpuPodInput!): Pod
  podStop(input: PodStopInput!): Pod
  podResume(input: PodResumeInput!): Pod
  podBidResume(input: PodBidResumeInput!): Pod
  podTerminate(input: PodTerminateInput!): Void
  updateUserSettings(input: UpdateUserSettingsInput): User
  createNetworkVolume(input: CreateNetworkVolumeInput!): NetworkVolume!
  updateNetworkVolume(input: UpdateNetworkVolumeInput!): NetworkVolume!
  deleteNetworkVolume(input: DeleteNetworkVolumeInput!): Void
}

input PodFilter { podId: String! }
input PodStopInput { podId: String!, incrementVersion: Boolean }
input PodResumeInput { podId: String!, gpuCount: Int }
input PodBidResumeInput { podId: String!, gpuCount: Int!, bidPerGpu: Float! }
input PodTerminateInput { podId: String! }
input UpdateUserSettingsInput { pubKey: String }
input EnvironmentVariableInput { key: String!, value: String! }
input CreateNetworkVolumeInput { name: String!, size: Int!, dataCenterId: String! }
input UpdateNetworkVolumeInput { id: String!, name: String, size: Int }
input DeleteNetworkVolumeInput { id: String! }
input GpuTypeFilter { id: String, ids: [String], cluster: Boolean }
input CpuFlavorInput { id: String }

input GpuLowestPriceInput {
  gpuCount: Int!
  secureCloud: Boolean
  dataCenterId: String
  countryCode: String
  minDisk: Int
  minMemoryInGb: Int
  minVcpuCount: Int
  minCudaVersion: String
  allowedCudaVersions: [String]
  minDownload: Int
  minUpload: Int
  supportPublicIp: Boolean
}

input PodFindAndDeployOnDemandInput {
  name: String
  imageName: String
  templateId: String
  cloudType: CloudTypeEnum
  gpuTypeId: String
  gpuCount: Int
  containerDiskInGb: Int
  volumeInGb: Int
  volumeMountPath: String
  networkVolumeId: String
  ports: String
  dockerArgs: String
  env: [EnvironmentVariableInput]
  minVcpuCount: Int
  minMemoryInGb: Int
  minDownload: Int
  minUpload: Int
  dataCenterId: String
  countryCode: String
  supportPublicIp: Boolean
  startSsh: Boolean
  startJupyter: Boolean
  allowedCudaVersions: [String]
  minCudaVersion: String
  deployCost: Float
  containerRegistryAuthId: String
  stopAfter: DateTime
  terminateAfter: DateTime
}

input PodRentInterruptableInput {
  bidPerGpu: Float!
  name: String
  imageName: String
  templateId: String
  cloudType: CloudTypeEnum
  gpuTypeId: String
  gpuCount: Int
  containerDiskInGb: Int
  volumeInGb: Int
  volumeMountPath: String
  networkVolumeId: String
  ports: String
  dockerArgs: String
  env: [EnvironmentVariableInput]
  minVcpuCount: Int
  minMemoryInGb: Int
  minDownload: Int
  minUpload: Int
  dataCenterId: String
  countryCode: String
  supportPublicIp: Boolean
  startSsh: Boolean
  startJupyter: Boolean
  allowedCudaVersions: [String]
  minCudaVersion: String
  containerRegistryAuthId: String
  stopAfter: DateTime
  terminateAfter: DateTime
}

input deployCpuPodInput {
  name: String
  imageName: String
  templateId: String
  cloudType: CloudTypeEnum
  instanceId: String!
  containerDiskInGb: Int
  volumeMountPath: String
  networkVolumeId: String
  ports: String
  dockerArgs: String
  env: [EnvironmentVariableInput]
  dataCenterId: String
  startSsh: Boolean
  startJupyter: Boolean
  deployCost: Float
  containerRegistryAuthId: String
  stopAfter: DateTime
  terminateAfter: DateTime
}

type User {
  id: String
  email: String
  pubKey: String
  clientBalance: Float
  currentSpendPerHr: Float
  spendLimit: Int
  pods: [Pod]
  networkVolumes: [NetworkVolume]
}

type Pod {
  id: String!
  name: String
  desiredStatus: PodStatus!
  lastStatusChange: String
  createdAt: DateTime
  imageName: String!
  dockerArgs: String
  dockerId: String
  env: [String]
  port: Int
  ports: String
  podType: PodType
  costPerHr: Float!
  adjustedCostPerHr: Float
  gpuCount: Int!
  vcpuCount: Float!
  memoryInGb: Float!
  containerDiskInGb: Int
  volumeInGb: Float
  volumeMountPath: String
  networkVolumeId: String
  uptimeSeconds: Int
  locked: Boolean
  machineId: String!
  machine: PodMachineInfo
  runtime: PodRuntime
}

type PodMachineInfo {
  podHostId: String
  gpuTypeId: String
  gpuDisplayName: String
  dataCenterId: String
  location: String
  secureCloud: Boolean
  supportPublicIp: Boolean
}

type PodRuntime {
  uptimeInSeconds: Int
  ports: [PodRuntimePorts]
}

type PodRuntimePorts {
  ip: String
  isIpPublic: Boolean
  privatePort: Int
  publicPort: Int
  type: String
}

type NetworkVolume {
  id: String!
  name: String!
  size: Int!
  dataCenterId: String!
}

type GpuType {
  id: String
  displayName: String
  manufacturer: String
  memoryInGb: Int
  cudaCores: Int
  secureCloud: Boolean
  communityCloud: Boolean
  maxGpuCount: Int
  maxGpuCountSecureCloud: Int
  maxGpuCountCommunityCloud: Int
  minPodGpuCount: Int
  securePrice: Float
  communityPrice: Float
  secureSpotPrice: Float
  communitySpotPrice: Float
  oneWeekPrice: Float
  oneMonthPrice: Float
  threeMonthPrice: Float
  sixMonthPrice: Float
  lowestPrice(input: GpuLowestPriceInput): LowestPrice
}

type LowestPrice {
  gpuTypeId: String
  gpuName: String
  minimumBidPrice: Float
  uninterruptablePrice: Float
  minVcpu: Int
  minMemory: Int
  minDisk: Int
  stockStatus: String
  totalCount: Int
  rentedCount: Int
  maxUnreservedGpuCount: Int
  availableGpuCounts: [Int]
  countryCode: String
  compliance: [String]
}

type CpuFlavor {
  id: String
  displayName: String
  groupName: String
  minVcpu: Int
  maxVcpu: Int
  ramMultiplier: Float
}

type DataCenter {
  id: String!
  name: String!
  location: String!
  listed: Boolean!
  gpuAvailability: [GpuAvailability]
}

type GpuAvailability {
  available: Boolean
  gpuTypeId: String
  gpuTypeDisplayName: String
  displayName: String
  stockStatus: String
}
"""


@cache
def schema() -> GraphQLSchema:
    """Built when the first query comes."""
    return build_schema(TEXT)
