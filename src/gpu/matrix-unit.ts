/** Which of an adapter's matrix units (tensor cores) the kernels use. */

/** A subgroup multiplies `rows × inner` by `inner × columns` halves and adds the products in f32. */
export interface MatrixUnit {
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
}

/** One of `GPUAdapterInfo.subgroupMatrixConfigs`, in the names of Dawn's draft. */
export interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

// The pixels, channels and input channels that a subgroup of conv2d_matrix.wgsl owns at a time.
const SIDE = 32;

/** The largest one of halves and f32 sums of which a whole number fills the kernel's tiles; undefined where there is none. */
export function chooseMatrixUnit(configs: Iterable<SubgroupMatrixConfig>): MatrixUnit | undefined {
  const usable = [...configs]
    .filter((config) => config.componentType === "f16" && config.resultComponentType === "f32")
    .map(({ M, N, K }) => ({ rows: M, columns: N, inner: K }))
    .filter(({ rows, columns, inner }) => [rows, columns, inner].every((side) => SIDE % side === 0 && side % 4 === 0));
  const size = ({ rows, columns, inner }: MatrixUnit) => rows * columns * inner;
  return usable.sort((a, b) => size(b) - size(a))[0];
}
