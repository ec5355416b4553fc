// One round of Canny's hysteresis: a weak edge (½) beside a strong one (1) is strong. A workgroup has a tile of 16 × 16 pixels
// with their neighbours, and goes on until nothing changes within it; another round carries edges on to the next tile.
struct Params { height: u32, width: u32, tiles: u32, tiles_down: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;

const TILE = 16;
const SIDE = 18;

var<workgroup> edges: array<f32, 324>;
var<workgroup> changes: atomic<u32>;

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) lane: u32) {
  let image = group.y / params.tiles_down;
  let top = i32(group.y % params.tiles_down) * TILE - 1;
  let left = i32(group.x) * TILE - 1;
  for (var at = lane; at < 324u; at += 256u) {
    let row = top + i32(at) / SIDE;
    let column = left + i32(at) % SIDE;
    let inside = row >= 0 && column >= 0 && row < i32(params.height) && column < i32(params.width);
    var value = 0.0;
    if (inside) { value = widen(x[(image * params.height + u32(row)) * params.width + u32(column)]).x; }
    edges[at] = value;
  }
  let own = (i32(local.y) + 1) * SIDE + i32(local.x) + 1;
  for (var round = 0; round < 256; round++) {
    if (lane == 0u) { atomicStore(&changes, 0u); }
    workgroupBarrier();
    var becomes_strong = false;
    if (edges[own] == 0.5) {
      for (var near = 0; near < 9; near++) {
        if (edges[own + (near / 3 - 1) * SIDE + near % 3 - 1] == 1.0) { becomes_strong = true; }
      }
    }
    workgroupBarrier();
    if (becomes_strong) {
      edges[own] = 1.0;
      atomicStore(&changes, 1u);
    }
    workgroupBarrier();
    let is_over = workgroupUniformLoad(&changes) == 0u;
    if (is_over) { break; }
  }
  let row = top + 1 + i32(local.y);
  let column = left + 1 + i32(local.x);
  if (row < i32(params.height) && column < i32(params.width)) {
    out[(image * params.height + u32(row)) * params.width + u32(column)] = narrow(vec4f(edges[own], 0.0, 0.0, 0.0));
  }
}
