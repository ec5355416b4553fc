// Group normalisation in one dispatch, with the activation that follows it. Without subgroups of one size, and where a unit is
// too large for a cache: group_norm_stats.wgsl.
//
//   out = act( (x − mean_group) / √(var_group + eps) · gamma + beta )
//
// One workgroup owns a unit of one image: the fewest whole groups that are whole quads, at most four groups. It goes over its
// channels three times (mean, squared deviations from it, result), its invocations over the pixels. It is one subgroup on
// software adapters, where a few workgroups fill the cores, and SUBGROUPS of them on a GPU, where each load is waited for.
// x is read from two sources one after the other along the channels, as in group_norm_stats.wgsl.
struct Params {
  pixels: u32, quads: u32, first_source_quads: u32, unit_quads: u32,
  channels: u32, group_channels: u32, eps: f32, activation: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> first_source: array<Quad>;
@group(0) @binding(2) var<storage, read> second_source: array<Quad>;
@group(0) @binding(3) var<storage, read> gamma: array<vec4f>;
@group(0) @binding(4) var<storage, read> beta: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> out: array<Quad>;

fn load(row: u32, quad: u32) -> vec4f {
  if (quad < params.first_source_quads) { return widen(first_source[row * params.first_source_quads + quad]); }
  let rest = params.quads - params.first_source_quads;
  return widen(second_source[row * rest + quad - params.first_source_quads]);
}

// For each of a quad's channels, which group of the unit it is in; channels beyond the layer's are in none.
fn groups_of(quad: u32, first_quad: u32) -> vec4u {
  let channel = quad * 4u + vec4u(0u, 1u, 2u, 3u);
  return select(vec4u(4u), (channel - first_quad * 4u) / params.group_channels, channel < vec4u(params.channels));
}

// Adds each channel's value to its group.
fn scattered(values: vec4f, groups: vec4u) -> vec4f {
  var sum = vec4f(0.0);
  sum += select(vec4f(0.0), vec4f(values.x), vec4u(groups.x) == vec4u(0u, 1u, 2u, 3u));
  sum += select(vec4f(0.0), vec4f(values.y), vec4u(groups.y) == vec4u(0u, 1u, 2u, 3u));
  sum += select(vec4f(0.0), vec4f(values.z), vec4u(groups.z) == vec4u(0u, 1u, 2u, 3u));
  sum += select(vec4f(0.0), vec4f(values.w), vec4u(groups.w) == vec4u(0u, 1u, 2u, 3u));
  return sum;
}

// Each channel's own of the groups' values.
fn gathered(values: vec4f, groups: vec4u) -> vec4f {
  var own = select(vec4f(values.w), vec4f(values.z), groups == vec4u(2u));
  own = select(own, vec4f(values.y), groups == vec4u(1u));
  return select(own, vec4f(values.x), groups == vec4u(0u));
}

const INVOCATIONS = SUBGROUPS * LANES;
var<workgroup> shares: array<vec4f, SUBGROUPS>;

// The sum over the subgroups of each one's sum over its lanes.
fn workgroup_sum(share: vec4f, subgroup: u32) -> vec4f {
  if (SUBGROUPS == 1u) { return share; }
  workgroupBarrier();  // the last sum has been read
  shares[subgroup] = share;
  workgroupBarrier();
  var sum = vec4f(0.0);
  for (var i = 0u; i < SUBGROUPS; i++) { sum += shares[i]; }
  return sum;
}

@compute @workgroup_size(INVOCATIONS)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let index = subgroup * LANES + lane;
  let first_quad = workgroup.x * params.unit_quads;
  let end_quad = min(first_quad + params.unit_quads, params.quads);
  let first_row = workgroup.y * params.pixels;
  let count = f32(params.pixels) * f32(params.group_channels);

  var sums = vec4f(0.0);
  for (var quad = first_quad; quad < end_quad; quad++) {
    var sum = vec4f(0.0);
    for (var pixel = index; pixel < params.pixels; pixel += INVOCATIONS) { sum += load(first_row + pixel, quad); }
    sums += scattered(subgroupAdd(sum), groups_of(quad, first_quad));
  }
  let means = workgroup_sum(sums, subgroup) / count;

  var squares = vec4f(0.0);
  for (var quad = first_quad; quad < end_quad; quad++) {
    let groups = groups_of(quad, first_quad);
    let mean = gathered(means, groups);
    var sum = vec4f(0.0);
    for (var pixel = index; pixel < params.pixels; pixel += INVOCATIONS) {
      let deviation = load(first_row + pixel, quad) - mean;
      sum += deviation * deviation;
    }
    squares += scattered(subgroupAdd(sum), groups);
  }
  let scales = inverseSqrt(workgroup_sum(squares, subgroup) / count + params.eps);

  for (var quad = first_quad; quad < end_quad; quad++) {
    let groups = groups_of(quad, first_quad);
    let mean = gathered(means, groups);
    let scale = gathered(scales, groups) * gamma[quad];
    let shift = beta[quad];
    for (var pixel = index; pixel < params.pixels; pixel += INVOCATIONS) {
      let row = first_row + pixel;
      let normal = (load(row, quad) - mean) * scale + shift;
      out[row * params.quads + quad] = narrow(activate(normal, params.activation));
    }
  }
}
